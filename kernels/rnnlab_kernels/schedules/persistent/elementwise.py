"""The whole sequence of a cell without a recurrent product in one compiled loop or one launch.

Such a cell takes its gates from the input alone; the state before a step and constants of each unit, such as IndRNN's
recurrent weight, enter its gate maths element by element:

    state_t, saved_t = gates_fwd(gates_x_t, (carried states_{t-1}, constants))

No unit of no row waits for another, so that one loop, or one program, runs a unit from the first step to the last.
Backward walks the same way back and calls `gates_bwd`; gradients of constants are summed over time where they arise,
for each row apart, and over rows afterwards: fp32 throughout, no atomics.

| method | how |
| --- | --- |
| loop | plain autograd: the oracle |
| numba | one compiled loop on a CPU, float32 |
| triton | one launch, time inside, a tile of (B, H) a program; fp32, fp16, bf16 storage, fp32 registers |

T time, B batch, H units, G gates, K states, S saved values, C constants. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| initial states, constants, mask | as given | as given |
| h | (T, B, H) | dtype of gates_x |
| further states | (T, B, K-1, H) | working dtype |
| what the cell keeps | (T, B, S, H) | dtype of gates_x |

The numba method also keeps gates_x as given, out of which it computes the gradients again when a graph of them is asked
for.
"""

import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels import launch
from rnnlab_kernels.cells import Cell
from rnnlab_kernels.schedules.layout import settled, step_order, zero_padding
from rnnlab_kernels.schedules.scan.linear_scan import work

Tensors = tuple[Tensor, ...]
METHODS = ("loop", "numba", "triton")


class Call(NamedTuple):
    """One call: all that is not differentiated.

    `mask` is (T, B) of bytes or None. Unless backward will `keep` them, saved values go to the memory of one step: the
    same code runs with and without a graph, and gives the same bits.
    """

    cell: Cell
    mask: Tensor | None
    reverse: bool
    keep: bool


def carried_states(cell: Cell) -> tuple[int, ...]:
    """Return the positions in `cell.states` of what `cell.carried` starts with; the rest of it is constants."""
    names = [name for name in cell.carried if name in cell.states]
    if tuple(names) != cell.carried[: len(names)]:
        raise ValueError(f"cell {cell.name}: carried names its states first, then its constants: {cell.carried}")
    return tuple(cell.states.index(name) for name in names)


def supports(method: str, device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Return whether a method takes such tensors, and the reason in a few words."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)} or auto, not {method!r}")
    if method == "numba":
        return launch.fused_supported(device, dtype)
    if method == "triton":
        return launch.supported(device, dtype)
    return True, "torch's operators take every device and dtype"


def choose_method(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the method that `method="auto"` stands for, and the reason in a few words."""
    method = "numba" if device.type == "cpu" else "triton"
    taken, reason = supports(method, device, dtype)
    return (method if taken else "loop"), reason


def _loop(
    cell: Cell, gates_x: Tensor, state_0: Tensors, constants: Tensors, mask: Tensor | None, reverse: bool
) -> tuple[Tensor, ...]:
    gates_fwd, dtype, carried = cell.torch_fwd, gates_x.dtype, carried_states(cell)
    if mask is not None:
        gates_x = zero_padding(gates_x, mask)
    gates = [gate.unbind(0) for gate in work(gates_x).unflatten(-1, (cell.num_gates, -1)).unbind(-2)]
    state, fixed = tuple(map(work, state_0)), tuple(map(work, constants))
    outputs: list[Tensor] = [state[0]] * len(gates_x)
    for t in step_order(len(gates_x), reverse):
        new, _ = gates_fwd(tuple(gate[t] for gate in gates), (*(state[k] for k in carried), *fixed))
        if mask is not None:
            new = tuple(torch.where(mask[t], a, b) for a, b in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
    output = torch.stack(outputs).to(dtype)
    return output if mask is None else zero_padding(output, mask), *(value.to(dtype) for value in state)


def walk_forward(
    method: str, call: Call, gates_x: Tensor, state_0: Sequence[Tensor], constants: Sequence[Tensor]
) -> tuple[list[Tensor], Tensors]:
    """Return output and last states; and h, the other states and what the cell keeps, at all steps."""
    h, rest, saved = _kernels(method).forward(call, gates_x, *_stacked(gates_x, state_0, constants))
    last = 0 if call.reverse else -1
    # Copies: what is saved is not given out, so that callers may change the results in place.
    output = h.clone() if call.mask is None else zero_padding(h, call.mask.unsqueeze(-1).bool())
    results = [output, h[last].clone(), *(value.to(h.dtype, copy=True) for value in rest[last].unbind(1))]
    return results, (h, rest, saved)


def walk_backward(
    method: str,
    call: Call,
    dtype: torch.dtype,
    state_0: Sequence[Tensor],
    constants: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> Tensors:
    """Return the gradients of gates_x, which has a `dtype`, initial states and constants."""
    h, rest, saved = kept
    h_0, rest_0, fixed = _stacked(h.new_empty(0, dtype=dtype), state_0, constants)
    doutput, *dstate_n = grads
    if doutput is None:
        doutput = torch.zeros_like(h)
    zeros = torch.zeros_like(work(h_0))
    dstate = torch.stack([zeros if grad is None else work(grad) for grad in dstate_n], 1)
    with torch.cuda.device(h.device) if h.is_cuda else nullcontext():
        dgates, dconstants = _kernels(method).backward(
            call, settled(doutput).contiguous(), dstate, h, rest, saved, h_0, rest_0, fixed
        )
    return (dgates, *dstate.unbind(1), *dconstants.sum(0).unbind(0))


class _Elementwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, method: str, gates_x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        num_states = len(call.cell.states)
        results, (h, rest, saved) = walk_forward(method, call, gates_x, tensors[:num_states], tensors[num_states:])
        ctx.call, ctx.method, kernels = call._replace(mask=None), method, _kernels(method)
        # Of gates_x only a graph of the gradients needs the values; without one, its dtype is enough.
        inputs = gates_x if kernels.DIFFERENTIABLE else gates_x.new_empty(0)
        ctx.save_for_backward(inputs, *tensors, h, rest, saved, call.mask)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, doutput: Tensor | None, *dstate_n: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, h, rest, saved, mask = ctx.saved_tensors
        call: Call = ctx.call._replace(mask=mask)
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            if not _kernels(ctx.method).DIFFERENTIABLE:
                raise RuntimeError(
                    "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                    'build the module with backend="reference"'
                )
            return None, None, *_differentiable_backward(call, inputs, needed, doutput, dstate_n)
        split = 1 + len(call.cell.states)
        grads = walk_backward(
            ctx.method, call, inputs[0].dtype, inputs[1:split], inputs[split:], (h, rest, saved), (doutput, *dstate_n)
        )
        pairs = zip(inputs, grads, needed, strict=True)
        return None, None, *(grad.to(value.dtype) if need else None for value, grad, need in pairs)


def _stacked(gates_x: Tensor, state_0: Sequence[Tensor], constants: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return h_0 (B, H), the other initial states (B, K-1, H) and the constants (C, H), all contiguous."""
    like = work(gates_x.new_empty(0))
    rest = [value.to(like.dtype) for value in state_0[1:]]
    fixed = [value.to(like.dtype) for value in constants]
    h_0 = state_0[0].to(gates_x.dtype).contiguous()
    return (
        h_0,
        torch.stack(rest, 1) if rest else like.new_empty(len(h_0), 0, h_0.shape[1]),
        torch.stack(fixed) if fixed else like.new_empty(0, h_0.shape[1]),
    )


def _differentiable_backward(
    call: Call,
    inputs: Sequence[Tensor],
    needed: tuple[bool, ...],
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """Return the gradients with a graph behind them, through the plain loop on aliases of the inputs.

    Aliases, since the inputs may have a history through each other, and a gradient must stop at this call.
    """
    gates_x, *rest = aliases = [tensor.view_as(tensor) for tensor in inputs]
    num_states = len(call.cell.states)
    mask = None if call.mask is None else call.mask.unsqueeze(-1).bool()
    results = _loop(call.cell, gates_x, tuple(rest[:num_states]), tuple(rest[num_states:]), mask, call.reverse)
    pairs = [(y, dy) for y, dy in zip(results, (doutput, *dstate_n), strict=True) if dy is not None]
    wanted = [tensor for tensor, need in zip(aliases, needed, strict=True) if need]
    grads = iter(
        torch.autograd.grad(
            [y for y, _ in pairs], wanted, [dy for _, dy in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(grads) if need else None for need in needed]


def _check(cell: Cell, gates_x: Tensor, state_0: Tensors, constants: Tensors, mask: Tensor | None) -> None:
    if cell.split:
        raise ValueError(f"cell {cell.name} has gates with a recurrent part: it needs a schedule with a product")
    if gates_x.dim() != 3 or gates_x.shape[0] < 1 or gates_x.shape[2] % cell.num_gates:
        raise ValueError(f"gates_x must be (T, B, {cell.num_gates}*H) with T >= 1, got {tuple(gates_x.shape)}")
    batch, hidden = gates_x.shape[1], gates_x.shape[2] // cell.num_gates
    if [value.shape for value in state_0] != [(batch, hidden)] * len(cell.states):
        shapes = [tuple(value.shape) for value in state_0]
        raise ValueError(f"state_0 must be {len(cell.states)} tensors of ({batch}, {hidden}), got {shapes}")
    names = cell.carried[len(carried_states(cell)) :]
    if [value.shape for value in constants] != [(hidden,)] * len(names):
        shapes = [tuple(value.shape) for value in constants]
        raise ValueError(f"constants {names} must have the shape ({hidden},), got {shapes}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (*gates_x.shape[:2], 1)):
        raise ValueError(f"mask must be boolean and {(*gates_x.shape[:2], 1)}, got {mask.dtype} {tuple(mask.shape)}")


def _kernels(method: str) -> ModuleType:
    return importlib.import_module(f"rnnlab_kernels.schedules.persistent.elementwise_{method}")


def elementwise(
    cell: Cell,
    gates_x: Tensor,
    state_0: Tensors,
    *,
    constants: Tensors = (),
    mask: Tensor | None = None,
    reverse: bool = False,
    method: str = "auto",
) -> tuple[Tensor, Tensors]:
    """Run a cell without a recurrent product over a sequence.

    Args:
        cell: gate maths with no split gates; `carried` names states first, then constants.
        gates_x: (T, B, G*H) pre-activations, T >= 1, any strides.
        state_0: K tensors (B, H), in the order of `cell.states`.
        constants: tensors (H,), in the order in which `cell.carried` names them after the states.
        mask: (T, B, 1) boolean or None. Where False, a row's state is held and its output is zero.
        reverse: walk from the last step to the first.
        method: one of `METHODS`, or "auto", which `choose_method` settles.

    Returns:
        output (T, B, H), h at each step, aligned with `gates_x`, and the states after the last visited step, all in
        the dtype of `gates_x`. States are carried in fp32 where that is half precision.

    Raises:
        ValueError: the tensors do not fit the cell or each other, or there is no such method.
        RuntimeError: the method asked for does not take such tensors; or, from the backward pass of "triton", a graph
            of the gradients was asked for.
    """
    _check(cell, gates_x, state_0, constants, mask)
    if method == "auto":
        method, _ = choose_method(gates_x.device, gates_x.dtype)
    taken, reason = supports(method, gates_x.device, gates_x.dtype)
    if not taken:
        raise RuntimeError(f"elementwise: method {method!r} cannot run here: {reason}")
    if method == "loop" or not gates_x.numel():
        output, *state_n = _loop(cell, gates_x, state_0, constants, mask, reverse)
        return output, tuple(state_n)
    if torch.compiler.is_compiling():
        from rnnlab_kernels.schedules import opaque

        return opaque.elementwise(method, cell, gates_x, state_0, constants, mask, reverse)
    tensors = (settled(gates_x), *map(settled, state_0), *map(settled, constants))
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    steps = None if mask is None else mask.squeeze(-1).contiguous().view(torch.uint8)
    with torch.cuda.device(gates_x.device) if gates_x.is_cuda else nullcontext():
        output, *state_n = _Elementwise.apply(Call(cell, steps, reverse, keep), method, *tensors)
    return output, tuple(state_n)
