"""The variants of the kernels of persistent/stages.py that are compiled ahead of time (see aot.py and variants.py)."""

from collections.abc import Iterator
from typing import Any

import torch

from rnnlab_kernels.cells import CHAINS
from rnnlab_kernels.launch import A100, H200
from rnnlab_kernels.schedules.additions import Noise
from rnnlab_kernels.variants import TYPE_NAMES, Variant

# What the kernels are compiled for, tiles as planned for the chip: chain, dtype, B, H. One program a batch tile and
# several, odd sizes, the widest.
SIZES: tuple[tuple[str, torch.dtype, int, int], ...] = (
    ("layer_norm_rnn_tanh", torch.bfloat16, 32, 128),
    ("layer_norm_rnn_tanh", torch.float32, 32, 256),
    ("layer_norm_lstm", torch.bfloat16, 64, 64),
    ("layer_norm_lstm", torch.bfloat16, 20, 200),
    ("layer_norm_lstm", torch.bfloat16, 64, 512),
    ("layer_norm_lstm", torch.float16, 16, 1024),
    ("layer_norm_lstm", torch.float32, 32, 256),
    ("layer_norm_lstm_state", torch.bfloat16, 64, 512),
    ("layer_norm_gru", torch.bfloat16, 16, 128),
    ("layer_norm_gru", torch.bfloat16, 64, 512),
    ("gru_reset_before", torch.bfloat16, 16, 128),
    ("gru_reset_before", torch.bfloat16, 64, 512),
    ("gru_reset_before", torch.float16, 16, 1024),
    ("gru_reset_before", torch.float32, 1, 300),
)


def stages_variants() -> Iterator[Variant]:
    """Yield the kernels of `SIZES` with the tiles that each chip gets, with masks, resets and biases."""
    for capability, chip in ((80, A100), (90, H200)):
        for name, dtype, batch, hidden in SIZES:
            yield from _stages(name, dtype, batch, hidden, capability, chip)
        yield from _stages("layer_norm_lstm", torch.float32, 32, 256, capability, chip, tf32=True)
        for name in ("layer_norm_lstm", "gru_reset_before"):
            yield from _stages(name, torch.bfloat16, 64, 512, capability, chip, noise=Noise(0, 0.1, 0.1, (0.1, 0.1)))


def _stages(
    name: str,
    dtype: torch.dtype,
    batch: int,
    hidden: int,
    capability: int,
    chip: tuple[int, int],
    tf32: bool = False,
    noise: Noise | None = None,
) -> Iterator[Variant]:
    from rnnlab_kernels.schedules.persistent import stages_triton
    from rnnlab_kernels.schedules.persistent.stages import Call, plan_stages
    from rnnlab_kernels.schedules.persistent.stages_wiring import WAIT

    chain = CHAINS[name]
    plan, reason = plan_stages(chain, batch, hidden, dtype.itemsize, *chip, tf32)
    if plan is None:
        raise ValueError(reason)
    flags = torch.ones(0)  # only whether there are any counts
    every = tuple(f"{kind}_{part}" for kind in ("bias", "gain", "shift") for part in ("hh", "nh", "c"))
    call = Call(chain, (*every, "gain", "shift"), plan, False, flags, flags, noise, True)
    kinds = dict.fromkeys(("vectors", "rest", "rstd", "sums", "dstate"), "*fp32")
    kinds |= {"mask": "*u8", "reset": "*u8", "barrier": "*i32"}
    several = plan.grid[0] > 1
    for backwards, kernel, pointers in (
        (
            False,
            stages_triton._stages_fwd_kernel,
            "gates_x weight vectors mask reset dropped h rest saved rstd sums barrier",
        ),
        (
            True,
            stages_triton._stages_bwd_kernel,
            "doutput dstate weight vectors mask reset dropped h rest saved rstd grads sums barrier",
        ),
    ):
        constexprs, steps = call.constexprs(backwards, dtype.itemsize), call.steps(backwards)
        constants: dict[str, Any] = {key: value for key, value in constexprs.items() if key.isupper()}
        constants |= {"STEPS": steps, "COMPLETE": True, "BARRIER": several}
        options = {key: value for key, value in constexprs.items() if not key.isupper()}
        types = {f"{each}_ptr": kinds.get(each, f"*{TYPE_NAMES[dtype]}") for each in pointers.split()}
        integers = ("T", "B", "H", "first_position", "num_positions", "key_0", "key_1", "first_step")
        types |= dict.fromkeys((*integers, "candidate_threshold"), "i32")
        types |= dict.fromkeys(("candidate_scale", "zoneout_0", "zoneout_1"), "fp32")
        waits = sum(stage.kind == WAIT for stage in steps) + (not backwards)  # forward, one at the end of each step
        # One arrival for each wait, and a poll before its spin and one in it.
        arrivals = waits if several else 0
        expected: list[tuple[str, int | None]] = [(r"ld\.global\.cg", None)]
        expected += [(r"wgmma\.mma_async|mma\.sync", None)] if dtype.itemsize == 2 or tf32 else []
        expected += [(r"(?:atom|red)\.\S*release", arrivals), (r"ld\.\S*acquire", 2 * arrivals)]
        title = f"stages_{'bwd' if backwards else 'fwd'} {name} {'tf32' if tf32 else TYPE_NAMES[dtype]}"
        title += f" {batch}x{hidden}" + ("" if noise is None else " noise")
        yield Variant(title, kernel, types, constants, hidden % 16 == 0, options, (capability,), tuple(expected))
