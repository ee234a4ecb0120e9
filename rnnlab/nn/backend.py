"""Which code runs a recurrence: the choice behind `backend=`, and its explanation.

`auto` follows the committed rules in `_prefer`; the measurements they rest on are in kernels/README.md ("CPU layers").
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rnnlab.nn.checks import BACKENDS
from rnnlab_kernels import launch
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.eager import eager
from rnnlab_kernels.schedules.reference import reference

if TYPE_CHECKING:
    from rnnlab.nn.cells import Cell
    from rnnlab.nn.layer import Layer

# Multiplications a step, B*G*H*H, from which a schedule beats torch's own loop on a CPU, forward and trained.
FASTER_FROM = {
    "fused": {"RNN_TANH": 2e6, "RNN_RELU": 2e6, "GRU": 0.0},
    "eager": {"RNN_TANH": 4e6, "RNN_RELU": 4e6, "GRU": 8e6},
}

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


class Choice(NamedTuple):
    """The backend that runs, and why."""

    backend: str
    reason: str


def choose(backend: str, call: Call) -> Choice:
    """Return what runs `call` when the module asks for `backend`.

    Raises:
        RuntimeError: the backend asked for by name cannot take the call; the message says why.
    """
    if backend == "auto":
        return _prefer(call)
    obstacle = _obstacle(backend, call)
    if obstacle:
        raise RuntimeError(f'backend="{backend}" cannot run this call: {obstacle}')
    return Choice(backend, "asked for by name")


def schedule(backend: str) -> Callable[..., Any]:
    """Return the function that runs one layer in one direction; `aten` has none, torch runs whole stacks at once."""
    if backend == "triton":
        from rnnlab_kernels.schedules.pointwise import pointwise

        return pointwise
    if backend == "fused":
        from rnnlab_kernels.schedules.fused import fused

        return fused
    return {"reference": reference, "eager": eager}[backend]


def _obstacle(backend: str, call: Call) -> str:
    """Return why `backend` cannot take the call, or an empty string."""
    if backend == "reference":
        return ""
    if backend == "aten":
        if call.layout == "lengths":
            return "torch's own kernels take no lengths on padded input; pack the sequences or use another backend"
        if call.layout == "step":
            return "torch has no projecting cell" if call.proj_size else ""
        if call.device.type == "cuda" and call.differentiated and not call.training:
            return "cuDNN has no backward pass in evaluation mode"
        return ""
    if _is_transformed():
        return "functorch transforms and forward-mode differentiation need the reference or aten backend"
    if call.dtype.is_complex:
        return "complex numbers need the reference or aten backend"
    if call.device.type == "meta":
        return "the meta device needs the reference or aten backend"
    if backend in ("triton", "fused"):
        supported = launch.supported if backend == "triton" else launch.fused_supported
        possible, reason = supported(call.device, call.dtype)
        return "" if possible else reason
    return ""


def _is_transformed() -> bool:
    """Return whether a vmap, grad, jvp... transform or a forward-mode level is active."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _prefer(call: Call) -> Choice:
    """Return the fastest route that can take the call, by the committed measurements."""
    if _is_transformed():
        return Choice("reference", "functorch transforms and forward-mode differentiation take the plain loop")
    if call.layout == "step":
        if call.proj_size:
            return Choice("reference", "torch has no projecting cell, and a single step has nothing to hoist")
        return Choice("aten", "torch's cell function is the cheapest way to take one step")
    if call.device.type == "cuda":
        return _prefer_cuda(call)
    obstacle = _obstacle("eager", call)
    if obstacle:
        return Choice("reference" if call.layout == "lengths" else "aten", obstacle)
    ours = "eager" if _obstacle("fused", call) else "fused"
    if call.layout == "lengths":
        return Choice(ours, "padded input with lengths; torch's own kernels take none")
    if call.layout == "packed":
        return Choice("aten", "torch's own kernels read the packed layout directly")
    if call.proj_size:
        return Choice(ours, "projecting LSTM on CPU: outside oneDNN's fused layer")
    if call.mode == "LSTM":
        return Choice("aten", "LSTM on CPU: oneDNN's fused layer measured fastest")
    work = call.batch * CELLS[call.mode.lower()].num_gates * call.hidden_size**2
    at = f"{call.mode} on CPU, {work:.1e} multiplications a step"
    if call.dtype == torch.float32 and work >= FASTER_FROM[ours][call.mode]:
        return Choice(ours, f"{at}: measured faster than torch's own loop")
    hint = "" if ours == "fused" else '; pip install "rnnlab[cpu]" for compiled gate loops'
    return Choice("aten", f"{at}: too few to repay a loop in Python{hint}")


def _prefer_cuda(call: Call) -> Choice:
    obstacle = _obstacle("aten", call)
    if not obstacle:
        return Choice("aten", "cuDNN; no kernel of ours has been measured faster for this cell on a GPU")
    for backend in ("triton", "eager", "reference"):
        missing = _obstacle(backend, call)
        if not missing:
            return Choice(backend, obstacle)
        _log_fallback(backend, missing)
    raise AssertionError("the reference backend takes every call")


@cache
def _log_fallback(backend: str, reason: str) -> None:
    """Say once for each reason that `auto` went past a backend."""
    logger.warning("backend %r is not used: %s", backend, reason)


def available_backends(device: torch.device | str = "cpu") -> dict[str, str]:
    """Return, for each backend by name, "" if it runs float32 layers on `device`, else what stands in the way."""
    call = Call("GRU", 1, 0, torch.device(device), torch.float32, 1)
    return {backend: _obstacle(backend, call) for backend in BACKENDS if backend != "auto"}


def explain_backend(module: "Layer | Cell", input: Any = None, lengths: Any = None) -> str:
    """Say which path runs a module, and why.

    Args:
        module: a layer or cell of rnnlab.nn.
        input: a tensor or PackedSequence as the module would get it; None for a batch of 32 float rows on the module's
            device.
        lengths: as the layer would get them; cells take none.

    Returns:
        One line: module, backend, reason. A backend asked for by name that cannot run says so.

    Example:
        >>> import rnnlab.nn
        >>> print(rnnlab.nn.explain_backend(rnnlab.nn.GRU(3, 4, backend="reference")))
        GRU: reference (asked for by name)
    """
    if not hasattr(module, "backend_call"):
        raise TypeError(f"expected a layer or cell of rnnlab.nn, got: {type(module).__name__}")
    name = type(module).__name__
    try:
        call = module.backend_call(input) if lengths is None else module.backend_call(input, lengths)
        choice = choose(module.backend, call)
    except RuntimeError as error:
        return f"{name}: none ({error})"
    return f"{name}: {choice.backend} ({choice.reason})"
