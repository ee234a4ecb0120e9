"""Which code runs a recurrence: the choice behind `backend=`, and its explanation.

`auto` follows the committed rules in `_prefer`; the measurements they rest on are in kernels/README.md ("CPU layers").
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch

from rnnlab_kernels import launch
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.library.aten import held
from rnnlab_kernels.schedules.recording import obstacle_to_recording
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.scan.linear_scan import choose_method, supports
from rnnlab_kernels.schedules.stepwise.kit_torch import eager

# Multiplications a step, B*G*H*H, from which a schedule beats torch's own loop on a CPU, forward and trained.
FASTER_FROM = {
    "fused": {"RNN_TANH": 0.0, "RNN_RELU": 0.0, "GRU": 0.0},
    "eager": {"RNN_TANH": 4e6, "RNN_RELU": 4e6, "GRU": 8e6},
}

LSTM_ROWS_FROM, LSTM_WEIGHTS_TO = 8, 1 << 18  # the same for an LSTM, whose own loop is oneDNN's
# Steps up to which torch's own loop is done before a schedule of ours has begun (experiments/000_layers_cpu/small.py).
FEW_STEPS = {"RNN_TANH": 8, "RNN_RELU": 8, "GRU": 4, "LSTM": 16}
# Multiplications of a call from which so many steps are worth a schedule (experiments/000_layers_cpu/ragged.py).
FEW_WORK = 5e8

# States of a step up to which one compiled call is faster than torch's operations: NARX, B 32, H 64, T 50, takes 9 ms
# where they take 30 with 8 taps, 40 where they take 35 with 12. Of many more, such a call has no place for the values.
_FUSED_STATES = 8

# Backends of the kernels that do more than gate maths in a launch.
OF_ONE_LAUNCH = ("step", "sequence")

# Schedules that are imported with torch alone; the others are when they are first used.
_LOADED: dict[str, Callable[..., Any]] = {"reference": reference, "eager": eager, "aten": held}

logger = logging.getLogger("rnnlab")


class Call(NamedTuple):
    """What the choice of a backend depends on, for one call of one module.

    Attributes:
        mode: LSTM, GRU, RNN_TANH or RNN_RELU.
        hidden_size: H.
        proj_size: P, or 0.
        device: of the input.
        dtype: of input and weights, after autocast.
        batch: B.
        layout: "padded" (all rows full), "lengths" (padded with lengths), "packed" (PackedSequence) or "step".
        differentiated: whether autograd will record the call.
        training: the module's mode.
        kind: "layer" for torch's layers and cells; for a cell in `Recurrent`, whose name is then `mode`, "chain",
            "scan" or "loop", as in unroll.py.
        why: why a cell runs on the plain loop, if it does.
        unlike_torch: what a layer adds to torch's recurrence, such as dropout inside it, in words; "" if nothing.
        chain: what a step does, if that is known.
        heads: of the recurrent weights.
        additions: noise and clipping, seeds aside.
        walked: what a step of a linear recurrence does as a chain, if that is known, too.
        num_steps: T of padded input; None where it is not known, which counts as many.
    """

    mode: str
    hidden_size: int
    proj_size: int
    device: torch.device
    dtype: torch.dtype
    batch: int
    layout: str = "padded"
    differentiated: bool = False
    training: bool = True
    kind: str = "layer"
    why: str = ""
    unlike_torch: str = ""
    chain: Chain | None = None
    heads: int = 1
    additions: Additions = PLAIN
    walked: Chain | None = None
    num_steps: int | None = None


class Choice(NamedTuple):
    """The backend that runs, and why. Beside those a user may name, under torch.compile "onednn"."""

    backend: str
    reason: str


TORCHS_CELL = Choice("aten", "torch's cell function is the cheapest way to take one step")


def choose(backend: str, call: Call) -> Choice:
    """Return what runs `call` when the module asks for `backend`.

    Raises:
        RuntimeError: the backend asked for by name cannot take the call; the message says why.
    """
    if backend == "auto":
        return _prefer(call) if call.kind == "layer" else _prefer_for_cell(call)
    obstacle = obstacle_of(backend, call) if call.kind == "layer" else _obstacle_for_cell(backend, call)
    if obstacle:
        raise RuntimeError(f'backend="{backend}" cannot run this call: {obstacle}')
    return Choice(backend, "asked for by name")


def is_torchs_step(backend: str, is_plain: bool) -> bool:
    """Return whether torch's cell function takes a step: what `choose` would say, without a `Call`.

    Args:
        backend: as the module asks for it.
        is_plain: whether one step is torch's: one of its cells, no projection, nothing added.
    """
    return is_plain and backend == "auto" and not is_transformed()


def schedule(backend: str) -> Callable[..., Any]:
    """Return what runs one layer in one direction; that of `aten` is for lengths, else it runs whole stacks."""
    if backend in _LOADED:
        return _LOADED[backend]
    if backend == "triton":
        from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

        return pointwise
    if backend in OF_ONE_LAUNCH:
        from rnnlab_kernels.schedules.persistent import api

        return api.step if backend == "step" else api.sequence
    if backend == "fused":
        from rnnlab_kernels.schedules.compiled.api import fused

        return fused
    from rnnlab_kernels.schedules.library.onednn import onednn

    return onednn


def obstacle_of(backend: str, call: Call) -> str:
    """Return why `backend` cannot take the call, or an empty string."""
    if backend == "reference":
        return ""
    if backend == "aten":
        if call.unlike_torch:
            return f"torch's own kernels know no {call.unlike_torch}"
        if call.layout == "lengths" and not _can_hold(call):
            return "torch's own kernels take no lengths on padded input; pack the sequences or use another backend"
        if call.layout == "step":
            return "torch has no projecting cell" if call.proj_size else ""
        if call.device.type == "cuda" and call.differentiated and not call.training:
            return "cuDNN has no backward pass in evaluation mode"
        return ""
    if call.additions.recorder is not None:
        if backend in ("onednn", *OF_ONE_LAUNCH):
            return "it records no gradients; eager, fused, triton and reference do"
        noise = call.additions.noise
        drops = noise is not None and noise.training and noise.candidate > 0
        if call.chain is not None and (missing := obstacle_to_recording(call.chain, drops)):
            return missing
    if is_transformed():
        return "functorch transforms and forward-mode differentiation need the reference or aten backend"
    if call.dtype.is_complex:
        return "complex numbers need the reference or aten backend"
    if call.device.type == "meta":
        return "the meta device needs the reference or aten backend"
    if backend == "fused":
        if call.chain is not None and len(call.chain.states) > _FUSED_STATES:
            return f"compiled loops are for at most {_FUSED_STATES} states, beyond which torch's operations are faster"
        possible, reason = launch.fused_supported(call.device, call.dtype)
        return "" if possible else reason
    if backend in ("triton", *OF_ONE_LAUNCH):
        possible, reason = launch.supported(call.device, call.dtype)
        return reason if not possible else "" if backend == "triton" else _unplanned(backend, call)
    return ""


def _can_hold(call: Call) -> bool:
    """Return whether schedules/library/aten.py can bring lengths to torch's own layer, and is worth it."""
    is_plain = call.mode == "LSTM" and not call.proj_size and not torch.compiler.is_compiling()
    return is_plain and call.device.type == "cpu" and call.dtype == torch.float32 and launch.HAS_ONEDNN


def _unplanned(backend: str, call: Call) -> str:
    """Return why no schedule of that name can run the call, or an empty string."""
    if call.chain is None:
        return "it runs whole layers, and chains of stages"
    if torch.compiler.is_compiling():
        return ""  # sizes may be any then: the schedule looks at them as it runs
    from rnnlab_kernels.plan import tiles_of

    sizes = call.batch, call.hidden_size, call.dtype, launch.chip_of(call.dtype, call.device)
    tiles, reason = tiles_of(backend, call.chain, *sizes, heads=call.heads, additions=call.additions)
    return "" if tiles is not None else reason


def is_transformed() -> bool:
    """Return whether a vmap, grad, jvp... transform or a forward-mode level is active."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _prefer(call: Call) -> Choice:
    """Return the fastest route that can take the call, by the committed measurements."""
    if is_transformed():
        return Choice("reference", "functorch transforms and forward-mode differentiation take the plain loop")
    if call.layout == "step":
        if call.unlike_torch:
            # A single step has nothing to hoist.
            return Choice("reference", f"torch's cells know no {call.unlike_torch}")
        if call.proj_size:
            return Choice("reference", "torch has no projecting cell, and a single step has nothing to hoist")
        return TORCHS_CELL
    if call.device.type == "cuda":
        return _prefer_cuda(call)
    obstacle = obstacle_of("eager", call)
    if torch.compiler.is_compiling() and not obstacle and call.layout != "packed":
        plain = call.layout == "padded" and not call.unlike_torch and not call.proj_size
        if call.mode == "LSTM" and plain and call.dtype == torch.float32 and launch.HAS_ONEDNN:
            return Choice("onednn", "oneDNN's LSTM, as one operator for torch.compile")
        ours = "eager" if obstacle_of("fused", call) else "fused"
        return Choice(ours, "one operator for torch.compile, which cannot take torch's own kernels on a CPU")
    if obstacle:
        return Choice("reference" if call.layout == "lengths" or call.unlike_torch else "aten", obstacle)
    if not call.unlike_torch:
        trains = _trains_near_weights(call)
        if call.layout == "lengths" and trains:
            return Choice(
                "fused", "LSTM on CPU, no steps outside the lengths: measured faster than oneDNN's fused layer"
            )
        if call.layout == "lengths" and _can_hold(call):
            return Choice("aten", "LSTM on CPU, its cell state held in padding of oneDNN's fused layer")
        if call.layout == "packed":
            return Choice("aten", "torch's own kernels read the packed layout directly")
        if call.mode == "LSTM" and call.layout == "padded" and not call.proj_size:
            if trains and not _few_steps(call):
                return Choice("fused", "LSTM on CPU, forward and backward measured faster than oneDNN's fused layer")
            return Choice("aten", "LSTM on CPU, oneDNN's fused layer measured fastest")
    ours = "eager" if obstacle_of("fused", call) else "fused"
    if call.unlike_torch:
        return Choice(ours, f"torch's own kernels know no {call.unlike_torch}")
    if call.layout == "lengths":
        return Choice(ours, "padded input with lengths; torch's own kernels take none")
    if call.proj_size:
        return Choice(ours, "projecting LSTM on CPU, outside oneDNN's fused layer")
    work = call.batch * CELLS[call.mode.lower()].num_gates * call.hidden_size**2
    if not isinstance(work, int):
        return Choice("aten", f"{call.mode} on CPU, traced for any batch size: torch's own loop takes each")
    if _few_steps(call):
        return Choice("aten", f"{call.mode} on CPU, too few steps to repay a call of ours: T = {call.num_steps}")
    at = f"{call.mode} on CPU, {work:.1e} multiplications a step"
    if call.dtype == torch.float32 and work >= FASTER_FROM[ours][call.mode]:
        return Choice(ours, f"{at}, measured faster than torch's own loop")
    hint = "" if ours == "fused" else "; pip install numba for the compiled schedule"
    return Choice("aten", f"{at}, too few to repay a loop in Python{hint}")


def _trains_near_weights(call: Call) -> bool:
    """Return whether a plain LSTM is trained in batches, with recurrent weights that a core keeps near."""
    if call.mode != "LSTM" or call.proj_size or call.layout not in ("padded", "lengths"):
        return False
    is_batch = isinstance(call.batch, int) and call.batch >= LSTM_ROWS_FROM
    is_near = 4 * call.hidden_size**2 <= LSTM_WEIGHTS_TO
    return is_batch and is_near and torch.is_grad_enabled() and not obstacle_of("fused", call)


def _few_steps(call: Call) -> bool:
    """Return whether torch's own loop is done before a schedule of ours has begun: few steps, and little in each."""
    if not isinstance(call.num_steps, int) or call.num_steps > FEW_STEPS[call.mode]:
        return False
    work = call.num_steps * call.batch * CELLS[call.mode.lower()].num_gates * call.hidden_size**2
    return not isinstance(work, int) or work < FEW_WORK


def _prefer_cuda(call: Call) -> Choice:
    obstacle = obstacle_of("aten", call)
    if not obstacle:
        return Choice("aten", "cuDNN; no kernel of ours has been measured faster for this cell on a GPU")
    for backend in ("triton", "eager", "reference"):
        missing = obstacle_of(backend, call)
        if not missing:
            return Choice(backend, obstacle)
        _log_fallback(backend, missing)
    raise AssertionError("the reference backend takes every call")


def _obstacle_for_cell(backend: str, call: Call) -> str:
    """Return why `backend` cannot run a cell of `Recurrent`, or an empty string."""
    if backend == "reference":
        return ""
    if call.kind == "loop":
        return f"{call.mode} {call.why}"
    if backend == "aten":
        return "torch's own kernels run whole layers of its own cells; use rnnlab.nn.LSTM, GRU or RNN"
    if call.kind == "scan" and not is_transformed():
        possible, reason = supports(scan_method(backend, call.device), call.device, call.dtype)
        return "" if possible else reason
    return obstacle_of(backend, call)


def _prefer_for_cell(call: Call) -> Choice:
    if call.kind == "loop":
        return Choice("reference", f"{call.mode} {call.why}")
    if call.layout == "step":
        return Choice("reference", "a single step has nothing to hoist")
    if call.kind == "scan":
        if is_transformed():
            return Choice("reference", "functorch transforms and forward-mode differentiation take the plain loop")
        method, reason = choose_method(call.device, call.dtype)
        backend = {"numba": "fused", "triton": "triton"}.get(method, "eager")
        return Choice(backend, f"linear in its state; {reason}")
    compiled = "triton" if call.device.type == "cuda" else "fused"
    obstacle = obstacle_of(compiled, call)
    if not obstacle:
        return Choice(
            compiled, "gate maths compiled for the CPU" if compiled == "fused" else "gate maths in one kernel"
        )
    none_at_all = obstacle_of("eager", call)
    return Choice("reference", none_at_all) if none_at_all else Choice("eager", obstacle)


def scan_method(backend: str, device: torch.device) -> str:
    """Return the method of `linear_scan` that goes by the name of a backend."""
    torch_method = "sequential" if device.type == "cpu" else "parallel"
    methods = {"reference": "loop", "eager": torch_method, "fused": "numba", "triton": "triton"}
    return {**methods, **dict.fromkeys(OF_ONE_LAUNCH, "triton")}[backend]


@cache
def _log_fallback(backend: str, reason: str) -> None:
    """Say once for each reason that `auto` went past a backend."""
    logger.warning("backend %r is not used: %s", backend, reason)
