"""Every kernel variant that is compiled ahead of time: argument types, constants, options (see aot.py)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from rnnlab_kernels.cells import CELLS, CHAINS, PARTS, Cell, bind_triton
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.launch import A100, DTYPES, H200, Block, pointwise_block
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.stepwise.run import working_dtype

TYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
SCAN_TYPES = {**TYPE_NAMES, torch.complex64: "fp32"}  # as the kernels see them: complex values are pairs of fp32
ROW_WIDTHS = {"aligned": 128, "odd": 63}  # hidden sizes, which select block shape and divisibility


class Variant(NamedTuple):
    """One compilation: a kernel, its argument types (nested tuples for tuples of pointers), constants and options.

    `expected` are patterns of PTX instructions that the code must have, with the number of times or None for any.
    """

    name: str
    kernel: Any
    types: dict[str, Any]
    constants: dict[str, Any]
    divisible: bool
    options: dict[str, Any]
    capabilities: tuple[int, ...] = (80, 90)
    expected: tuple[tuple[str, int | None], ...] = ()


def variants() -> Iterator[Variant]:
    """Yield those of the pointwise schedule: cells x directions x dtypes x alignment.

    Gate updates that are part of a longer step, or have a dropped candidate, differ from those in their maths alone:
    for them the two ends do, fp32 with odd rows and bf16 with aligned ones.
    """
    ends = ((torch.float32, "odd"), (torch.bfloat16, "aligned"))
    for cell in PARTS.values():
        every = [(dtype, alignment) for dtype in DTYPES for alignment in ROW_WIDTHS]
        for dtype, alignment in every if cell.name in CELLS else ends:
            yield _pointwise_fwd(cell, dtype, alignment, ROW_WIDTHS[alignment])
            yield _pointwise_bwd(cell, dtype, alignment, ROW_WIDTHS[alignment])


def scan_variants() -> Iterator[Variant]:
    """Yield those of scans, with all gradients wanted: directions x dtypes x (many aligned units, few odd ones), which
    select the two ends of the tile's shapes, along time and in reverse."""
    for dtype in SCAN_TYPES:
        for alignment, width in (("aligned", 1 << 15), ("odd", 63)):
            for reverse in (False, True):
                yield from _scan(dtype, alignment, width, reverse)


# What the persistent kernels are compiled for, tiles as planned for the chip: cell, dtype, B, H. Weights of a program,
# of several, an odd size, the widest; constants and split gates; fp32 takes tiles of its own. Once more for TF32.
SEQUENCES: tuple[tuple[str, torch.dtype, int, int], ...] = (
    ("lstm", torch.bfloat16, 64, 64),
    ("lstm", torch.bfloat16, 20, 200),
    ("lstm", torch.bfloat16, 64, 512),
    ("lstm", torch.float16, 16, 1024),
    ("lstm", torch.bfloat16, 32, 768),
    ("gru", torch.float16, 32, 768),
    ("lstm", torch.float32, 32, 256),
    ("gru", torch.bfloat16, 16, 128),
    ("gru", torch.bfloat16, 64, 512),
    ("gru", torch.float32, 1, 512),
    ("rnn_tanh", torch.bfloat16, 64, 512),
    ("rnn_tanh", torch.float32, 32, 64),
    ("peephole_lstm", torch.bfloat16, 64, 512),
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

# The same of launches of one step.
STEPS: tuple[tuple[str, torch.dtype, int, int], ...] = (
    ("lstm", torch.bfloat16, 64, 1024),
    ("lstm", torch.float16, 128, 2048),
    ("lstm", torch.float32, 64, 1024),
    ("gru", torch.bfloat16, 20, 200),
    ("rnn_tanh", torch.bfloat16, 1, 512),
)


def planned_variants() -> Iterator[Variant]:
    """Yield the persistent kernels of `SEQUENCES` with the tiles that each chip gets, with masks, resets and biases."""
    bf16, fp32 = torch.bfloat16, torch.float32
    for capability, chip in ((80, A100), (90, H200)):
        for name, dtype, batch, hidden in SEQUENCES:
            yield from _persistent(name, dtype, batch, hidden, capability, chip)
        for name in ("lstm", "layer_norm_lstm"):
            yield from _persistent(name, fp32, 32, 256, capability, chip, tf32=True)
        for name in ("lstm", "gru", "layer_norm_lstm", "gru_reset_before"):
            noise = Noise(0, 0.1, 0.1, (0.1, 0.1))
            yield from _persistent(name, bf16, 64, 512, capability, chip, noise=noise)
        yield from _persistent("lstm", bf16, 16, 64, capability, chip, heads=12)
        yield from _persistent("gru", torch.float16, 64, 256, capability, chip, heads=2, reverse=2)
        for name, dtype, batch, hidden in STEPS:
            yield from _persistent(name, dtype, batch, hidden, capability, chip, step=True)
        yield from _persistent("lstm", bf16, 16, 64, capability, chip, heads=12, step=True)
        for name in ("indrnn_tanh", "indrnn_relu", "indrnn_identity"):
            for dtype in DTYPES:
                for hidden in ROW_WIDTHS.values():
                    yield from _persistent(name, dtype, 64, hidden, capability, chip)


def _persistent(
    name: str,
    dtype: torch.dtype,
    batch: int,
    hidden: int,
    capability: int,
    chip: tuple[int, int],
    tf32: bool = False,
    noise: Noise | None = None,
    heads: int = 1,
    reverse: int = 0,
    step: bool = False,
) -> Iterator[Variant]:
    from rnnlab_kernels.schedules.engines import Call
    from rnnlab_kernels.schedules.persistent import kernel_backward, kernel_forward
    from rnnlab_kernels.schedules.persistent.call import launch_of
    from rnnlab_kernels.schedules.persistent.tasks import num_waits
    from rnnlab_kernels.schedules.persistent.tiles import plan_for
    from rnnlab_kernels.schedules.persistent.wiring import is_one_product

    chain: Chain = CHAINS[name] if name in CHAINS else as_chain(CELLS[name])
    flags = torch.ones(1, 1, 1, dtype=torch.bool)  # only whether there are any counts
    additions = Additions(flags, noise)
    tiling, reason = plan_for(chain, additions, batch, hidden, dtype, (*chip, tf32), heads, step)
    if tiling is None:
        raise ValueError(reason)
    every = (f"{kind}_{part}" for kind in ("bias", "gain", "shift") for part in ("hh", "nh", "c"))
    names = *every, "gain", "shift"
    call = launch_of(Call("sequence", "", chain, names, reverse, flags, additions, keep=True, plan=tiling))
    waiting = not call.alone and not step
    kinds = dict.fromkeys("vectors rest rstd sums dstate dconstants unclipped parts".split(), "*fp32")
    kinds |= {"mask": "*u8", "reset": "*u8", "barrier": "*i32", "key": "*i32"}
    for backwards, kernel, pointers in (
        (
            False,
            kernel_forward._forward_kernel,
            "gates_x weight vectors mask reset dropped key h rest saved rstd sums barrier",
        ),
        (
            True,
            kernel_backward._backward_kernel,
            "doutput dstate weight vectors mask reset dropped key h rest saved rstd grads dconstants unclipped sums "
            "parts barrier",
        ),
    ):
        given = {**call.constexprs(backwards), "TASKS": call.tasks(backwards), "COMPLETE": True, "BARRIER": waiting}
        types = {f"{key}_ptr": kinds.get(key, f"*{TYPE_NAMES[dtype]}") for key in pointers.split()}
        types |= dict.fromkeys(("T", "B", "H", "D", "first_position", "num_positions", "candidate_threshold"), "i32")
        types |= dict.fromkeys(("candidate_scale", "zoneout_0", "zoneout_1", *(("clip",) if backwards else ())), "fp32")
        expected: list[tuple[str, int | None]] = []
        if call.wiring.products and not step:
            expected.append((r"ld\.global\.cg", None))
        if call.wiring.products and (dtype.itemsize == 2 or tf32):
            wide = tiling.options["UNITS"] * (1 if backwards else call.wiring.products[0].rows)
            wide = tiling.options["BLOCK_K"] if backwards and tiling.parts else wide
            hopper = capability == 90 and is_one_product(chain) and wide >= 64
            either = r"mma\.sync" if capability == 80 or is_one_product(chain) else r"wgmma\.mma_async|mma\.sync"
            expected.append((r"wgmma\.mma_async" if hopper else either, None))
        # One arrival for each wait, forward another at the end of a step; and a poll before each spin and one in it.
        arrivals = num_waits(call.tasks(backwards)) + (not backwards) if waiting else 0
        expected += [(r"(?:atom|red)\.\S*release", arrivals), (r"ld\.\S*acquire", 2 * arrivals)]
        constants = {key: value for key, value in given.items() if key.isupper()}
        options = {key: value for key, value in given.items() if not key.isupper()}
        title = f"{'step' if step else 'sequence'}_{'bwd' if backwards else 'fwd'} {name} "
        title += f"{'tf32' if tf32 else TYPE_NAMES[dtype]} {batch}x{hidden}"
        title += ("" if noise is None else " noise") + (f" heads {heads}" if heads > 1 else "")
        title += " both ways" if reverse == 2 else ""
        yield Variant(title, kernel, types, constants, hidden % 16 == 0, options, (capability,), tuple(expected))


def _split_block(hidden: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return _split(pointwise_block(64, hidden))


def _split(block: Block) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the constants of a kernel and the options of the compiler."""
    constants = {name: value for name, value in block.options.items() if name.startswith("BLOCK_")}
    return constants, {name: value for name, value in block.options.items() if name not in constants}


def _pointers(cell: Cell, dtype: torch.dtype) -> dict[str, tuple[str, ...]]:
    """Return the pointer types of the states as given to the gate maths: h in the storage dtype, others wider."""
    storage, work = f"*{TYPE_NAMES[dtype]}", f"*{TYPE_NAMES[working_dtype(dtype)]}"
    by_state = {state: storage if state == "h" else work for state in cell.states}
    return {
        "state": tuple(by_state.values()),
        # What is carried beside states, such as peepholes, is in the working dtype.
        "carried": tuple(by_state.get(state, work) for state in cell.carried),
        "dstate": tuple("*fp32" for _ in cell.states),
        "dcarried": tuple("*fp32" for _ in cell.carried),
    }


def _pointwise_fwd(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Variant:
    from rnnlab_kernels.schedules.stepwise.kit_triton import _pointwise_fwd_kernel

    storage, pointers = f"*{TYPE_NAMES[dtype]}", _pointers(cell, dtype)
    types = {
        "gates_x_ptr": storage,
        "gates_h_ptr": storage,
        "carried_ptrs": pointers["carried"],
        "state_ptrs": pointers["state"],
        "saved_ptr": storage,
        **dict.fromkeys(("B", "H", "stride_gates_b", "stride_gates_h_b", "stride_saved_s"), "i32"),
    }
    blocks, options = _split_block(hidden)
    constants = {"GATES_FWD": bind_triton(cell.gates_fwd), "HAS_BOTH": True, **_sizes(cell), **blocks}
    name = f"pointwise_fwd {cell.name} {TYPE_NAMES[dtype]} {alignment}"
    return Variant(name, _pointwise_fwd_kernel, types, constants, alignment == "aligned", options)


def _pointwise_bwd(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Variant:
    from rnnlab_kernels.schedules.stepwise.kit_triton import _pointwise_bwd_kernel

    storage, pointers = f"*{TYPE_NAMES[dtype]}", _pointers(cell, dtype)
    strides = [f"stride_{name}" for name in ("saved_s", "dx_b", "dh_b")]
    types = {
        "dstate_ptrs": pointers["dstate"],
        "saved_ptr": storage,
        "carried_ptrs": pointers["carried"],
        "state_ptrs": pointers["state"],
        "dx_ptr": storage,
        "dh_ptr": storage,
        "dcarried_ptrs": pointers["dcarried"],
        **dict.fromkeys(("B", "H", *strides), "i32"),
    }
    blocks, options = _split_block(hidden)
    constants = {"GATES_BWD": bind_triton(cell.gates_bwd), "HAS_DX": True, "HAS_DH": True, **_sizes(cell), **blocks}
    name = f"pointwise_bwd {cell.name} {TYPE_NAMES[dtype]} {alignment}"
    return Variant(name, _pointwise_bwd_kernel, types, constants, alignment == "aligned", options)


def _scan(dtype: torch.dtype, alignment: str, width: int, reverse: bool) -> Iterator[Variant]:
    from rnnlab_kernels.schedules.scan import by_triton as scan_triton

    blocks, options = _split(scan_triton.scan_block(1, width, dtype.is_complex))
    integers = dict.fromkeys(("T", "N", "stride_t", "stride_r", "stride_a_t", "stride_a_r"), "i32")
    shared = {"REVERSE": reverse, "COMPLEX": dtype.is_complex, **blocks}
    for direction, kernel, pointers, constants in (
        ("fwd", scan_triton._scan_fwd_kernel, "a b h_0 h", shared),
        ("bwd", scan_triton._scan_bwd_kernel, "a h_0 h g da dh dh_0", {**shared, "NEED_A": True}),
    ):
        types = {**dict.fromkeys((f"{name}_ptr" for name in pointers.split()), f"*{SCAN_TYPES[dtype]}"), **integers}
        name = f"scan_{direction} {TYPE_NAMES.get(dtype, 'complex64')} {alignment}"
        name += " reverse" if reverse else ""
        yield Variant(name, kernel, types, constants, alignment == "aligned", options)


def _sizes(cell: Cell) -> dict[str, int]:
    return {"G": cell.num_gates, "NUM_MERGED": cell.num_merged, "S": len(cell.saved)}
