"""Which code runs a module, in words.

A backend is what one asks for by name; a route is what then runs. `explain_backend` tells both, and the reason:
`MODULE: backend (route: reason)`. Routes go by who owns the loop over time, as the folders of
rnnlab_kernels.schedules do.

| backend | route |
| --- | --- |
| reference | plain loop: autograd over the steps of a cell |
| eager, triton | stepwise: a loop in Python, gate maths by torch or Triton |
| fused | one compiled call over all steps, by Numba |
| | scan: all steps of a linear recurrence at once |
| triton | one loop over all steps, for cells without a product inside a step |
| step | one launch a step, product and gate maths |
| sequence | persistent: one launch over all steps |
| aten | torch's own layer or cell; with lengths, its states held in padding |
| onednn | oneDNN's layer as one operator, under torch.compile; not to be asked for by name |
"""

from typing import Any

import torch

from rnnlab.nn.backend import Call, choose, obstacle_of, scan_method
from rnnlab.nn.checks import BACKENDS
from rnnlab.nn.unroll import takes_one_launch, walks
from rnnlab_kernels import launch
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.cells.chain import as_chain


def available_backends(device: torch.device | str = "cpu") -> dict[str, str]:
    """Return, for each backend by name, "" if it runs float32 layers on `device`, else what stands in the way."""
    call = Call("GRU", 1, 0, torch.device(device), torch.float32, 1, chain=as_chain(CELLS["gru"]))
    return {backend: obstacle_of(backend, call) for backend in BACKENDS if backend != "auto"}


def explain_backend(module: Any, input: Any = None, lengths: Any = None) -> str:
    """Say which path runs a module, and why.

    Args:
        module: a layer or cell of rnnlab.nn, or a `Recurrent`.
        input: a tensor or PackedSequence as the module would get it; None for a batch of 32 float rows on the module's
            device.
        lengths: as the layer would get them; cells take none.

    Returns:
        One line: module, backend, route and reason; one after the other where the layers of a `Recurrent` differ. A
        backend asked for by name that cannot run says so. Where kernels run, also what their own plan would be.

    Example:
        >>> import rnnlab.nn
        >>> print(rnnlab.nn.explain_backend(rnnlab.nn.GRU(3, 4, backend="reference")))
        GRU: reference (plain loop: asked for by name)
    """
    name = type(module).__name__
    if not hasattr(module, "backend_call") and not hasattr(module, "backend_calls"):
        raise TypeError(f"expected a layer or cell of rnnlab.nn, got: {name}")
    try:
        if hasattr(module, "backend_calls"):
            calls = module.backend_calls(input, lengths)
        else:
            calls = [module.backend_call(input) if lengths is None else module.backend_call(input, lengths)]
        choices = [(choose(module.backend, call), call) for call in calls]
        lines = [
            f"{choice.backend} ({route(choice.backend, call)}: {choice.reason}{_plan_in_words(call)})"
            for choice, call in choices
        ]
    except RuntimeError as error:
        return f"{name}: none ({error})"
    if len(set(lines)) == 1:
        return f"{name}: {lines[0]}"
    return f"{name}: " + ", ".join(f"layer {layer} {line}" for layer, line in enumerate(lines))


_ROUTES = {
    "reference": "plain loop",
    "eager": "stepwise, gate maths by torch",
    "fused": "one compiled call over all steps",
    "triton": "stepwise, gate maths by Triton",
    "step": "one launch a step",
    "sequence": "persistent, one launch over all steps",
    "aten": "torch's layer",
    "onednn": "oneDNN's layer",
}


def route(backend: str, call: Call) -> str:
    """Return what runs a call on a backend that can take it, resets and states of all steps aside."""
    if call.kind == "scan" and backend != "reference":
        if walks(backend, call.dtype, call.walked, call.additions):
            return _ROUTES[backend]
        return f"scan, {scan_method(backend, call.device)}"
    if call.kind == "chain" and backend == "triton" and takes_one_launch(call.chain, call.additions):
        return "one loop over all steps by Triton"
    if backend == "aten" and call.layout in ("step", "lengths"):
        return "torch's cell" if call.layout == "step" else "torch's layer, states held in padding"
    return _ROUTES[backend]


def _plan_in_words(call: Call) -> str:
    """Return what the kernels' own plan for a call is, where it can be followed; see rnnlab_kernels.plan."""
    if call.chain is None or call.layout == "step" or not launch.supported(call.device, call.dtype)[0]:
        return ""
    from rnnlab_kernels.plan import SHORT, plan

    sm_count, smem_bytes, tf32 = launch.chip_of(call.dtype, call.device)
    sizes = SHORT, call.batch, call.hidden_size, call.dtype, sm_count, smem_bytes
    found = plan(call.chain, *sizes, tf32=tf32, heads=call.heads, additions=call.additions)
    return f"; planned for {SHORT} steps or more: {found.schedule}, {found.reason}"
