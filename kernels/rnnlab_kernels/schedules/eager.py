"""Hand-written backpropagation through time: one autograd node per layer and direction, for any cell.

Outside the loop, as single large products over T*B rows: the input part of the gates before it; dx, dW, dR and the bias
sums after it. Inside, a forward step is one (B, P) x (P, G*H) product and the gate maths; a backward step is the gate
gradients and one product that carries them to h_{t-1}. Who computes the gate maths is the `step` argument: torch's
operators here (`TorchStep`), a fused Triton kernel in pointwise.py.

T time, B batch, I inputs, G gates, H units, P = H or the projection size. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states | as given | as given |
| h, h_0 included | (T+1, B, P) | dtype of x |
| further states (c) | (T+1, B, H) | working dtype |
| unprojected output, with a projection | (T, B, H) | dtype of x |
| what the step keeps (activated gates) | per step | the step's |

The working dtype is fp32 for fp16 and bf16 storage, else that of x: gate maths, c and the gradient carried from step to
step are computed in it. Backward writes into no saved tensor and no incoming gradient. When the caller asks for a graph
of the gradients, they are computed again on the plain loop, which can be differentiated any number of times.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_torch
from rnnlab_kernels.schedules.layout import Weights, slots, zero_padding
from rnnlab_kernels.schedules.products import bind_product, bind_product_added, blockwise, scratch, weight_gradient
from rnnlab_kernels.schedules.reference import reference

Tensors = tuple[Tensor, ...]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of gate maths and carried gradients for tensors stored as `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class Step(Protocol):
    """The gate maths of one time step of one cell; the schedule owns time, products and memory."""

    cell: Cell
    differentiable: bool  # may gradients be recomputed on the plain loop when a graph of them is asked for?

    def fwd(self, gates_x: Tensor, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        """Write the new states into `out` and return what backward needs.

        `gates_x` (B, G*H) holds all pre-activations, or, for a cell with split gates, their input parts, with the
        recurrent parts in `gates_h`. Both are scratch memory that the step may overwrite.
        """

    def views(self, buffer: Tensor, num_gates: int) -> Sequence[Any]:
        """Return, for each time step of a buffer (T, B, num_gates*H), the form in which `bwd` wants its part."""

    def bwd(
        self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dgates_h: Any, dsplit_x: Any
    ) -> Tensors:
        """Write the gate gradients and return the gradients of the carried states.

        `dgates_h` takes those of all gates; where input and recurrent part differ, of the recurrent part, and
        `dsplit_x` takes those of the input parts (None for a cell without split gates).
        """


class TorchStep:
    """Gate maths by torch operators."""

    differentiable = True

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._fwd, self._bwd = bind_torch(cell.gates_fwd), bind_torch(cell.gates_bwd)

    def fwd(self, gates_x: Tensor, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        num_gates, num_merged = self.cell.num_gates, self.cell.num_merged
        work = working_dtype(gates_x.dtype)
        if gates_h is None:
            gates = gates_x.to(work).chunk(num_gates, 1)
        else:
            gates_x, gates_h = gates_x.to(work), gates_h.to(work)
            width = gates_x.shape[1] // num_gates * num_merged
            gates_h[:, :width] += gates_x[:, :width]
            parts = gates_h.chunk(num_gates, 1)
            # Copies, or what is kept of them for backward would keep the merged parts in memory too.
            parts_h = [part.clone() for part in parts[num_merged:]]
            gates = (*parts[:num_merged], *gates_x[:, width:].chunk(self.cell.split, 1), *parts_h)
        state, saved = self._fwd(gates, tuple(value.to(work) for value in carried))
        for target, value in zip(out, state, strict=True):
            target.copy_(value)
        return saved

    def views(self, buffer: Tensor, num_gates: int) -> Sequence[Tensors]:
        return list(zip(*(gate.unbind(0) for gate in buffer.chunk(num_gates, -1)), strict=True))

    def bwd(
        self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dgates_h: Tensors, dsplit_x: Any
    ) -> Tensors:
        num_gates, num_merged = self.cell.num_gates, self.cell.num_merged
        work = dstate[0].dtype
        dgates, dcarried = self._bwd(
            dstate, saved, tuple(value.to(work) for value in carried), tuple(value.to(work) for value in state)
        )
        # One copy a gate: torch.cat into strided memory measured four times slower.
        for target, value in zip(dgates_h, (*dgates[:num_merged], *dgates[num_gates:]), strict=True):
            target.copy_(value)
        for target, value in zip(dsplit_x or (), dgates[num_merged:num_gates], strict=True):
            target.copy_(value)
        return dcarried


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, step: Step, reverse: bool, keep: bool, mask: Tensor | None, x: Tensor, *rest: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        cell, weights, state_0 = step.cell, Weights(*cast(Any, rest[:5])), cast(Tensors, rest[5:])
        inputs = x if mask is None else zero_padding(x, mask)
        num_steps, batch = x.shape[:2]
        hidden = weights.hh.shape[0] // cell.num_gates

        bias = weights.bias_ih
        if not cell.split and bias is not None and weights.bias_hh is not None:
            bias = bias + weights.bias_hh
        gates_x = blockwise(bind_product(weights.ih, num_steps * batch, bias), inputs, weights.ih.shape[0], reverse)
        recurrent = bind_product(weights.hh, batch, weights.bias_hh)
        recurrent_added = bind_product_added(weights.hh, batch)

        buffers = [x.new_empty(num_steps + 1, batch, weights.hh.shape[1])]
        buffers += [x.new_empty(num_steps + 1, batch, hidden, dtype=working_dtype(x.dtype)) for _ in cell.states[1:]]
        for buffer, value in zip(buffers, state_0, strict=True):
            buffer[num_steps if reverse else 0].copy_(value)
        states = [buffer.unbind(0) for buffer in buffers]
        unprojected = None if weights.hr is None else x.new_empty(num_steps, batch, hidden)
        carried_index = cell.carried_index()

        saved: list[Tensor] = []
        gates_h: Tensor | None = None
        for (t, before, after), gates in zip(slots(num_steps, reverse), gates_x, strict=True):
            if cell.split:
                gates_h = recurrent(states[0][before])
            else:
                gates = recurrent_added(states[0][before], gates)
            carried = tuple(states[k][before] for k in carried_index)
            out = tuple(state[after] for state in states)
            if unprojected is None or weights.hr is None:
                kept = step.fwd(gates, gates_h, carried, out)
            else:
                kept = step.fwd(gates, gates_h, carried, (unprojected[t], *out[1:]))
                torch.mm(unprojected[t], weights.hr.t(), out=out[0])
            if keep:
                saved += kept
            if mask is not None:
                for state in states:
                    state[after].copy_(torch.where(mask[t], state[after], state[before]))

        ctx.step, ctx.reverse = step, reverse
        ctx.save_for_backward(mask, x, *rest, unprojected, *buffers, *saved)
        output = buffers[0][:-1] if reverse else buffers[0][1:]
        last = 0 if reverse else num_steps
        state_n = [buffer[last].to(x.dtype, copy=True) for buffer in buffers]
        # A copy, so that callers may change the output in place, as they may with torch.nn.
        return (output.clone() if mask is None else zero_padding(output, mask), *state_n)

    @staticmethod
    def backward(ctx: Any, doutput: Tensor | None, *dstate_n: Tensor | None) -> tuple[Tensor | None, ...]:
        step: Step = ctx.step
        num_states = len(step.cell.states)
        mask, x, *tensors = ctx.saved_tensors
        weights, state_0 = Weights(*tensors[:5]), tensors[5 : 5 + num_states]
        needed = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():
            if not step.differentiable:
                raise RuntimeError(
                    "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                    'build the module with backend="reference"'
                )
            grads = _differentiable_backward(
                step.cell, ctx.reverse, mask, x, weights, state_0, needed, doutput, dstate_n
            )
        else:
            unprojected, *rest = tensors[5 + num_states :]
            grads = _backward(
                step,
                ctx.reverse,
                mask,
                x,
                weights,
                unprojected,
                rest[:num_states],
                rest[num_states:],
                doutput,
                dstate_n,
                needed,
            )
        return (None, None, None, None, *(grad if need else None for grad, need in zip(grads, needed, strict=True)))


def _backward(
    step: Step,
    reverse: bool,
    mask: Tensor | None,
    x: Tensor,
    weights: Weights,
    unprojected: Tensor | None,
    buffers: list[Tensor],
    saved: list[Tensor],
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Walk back over time writing gate gradients only, then form all other gradients from them at once."""
    cell, work = step.cell, working_dtype(x.dtype)
    num_steps, batch = x.shape[:2]
    hidden = weights.hh.shape[0] // cell.num_gates
    num_saved, carried_index = len(saved) // max(num_steps, 1), cell.carried_index()
    states = [buffer.unbind(0) for buffer in buffers]
    dgates_h = scratch("dgates_h", x, num_steps, batch, cell.num_gates * hidden)
    dsplit_x = scratch("dsplit_x", x, num_steps, batch, cell.split * hidden)
    dgates_h_steps, dgates_h_views = dgates_h.unbind(0), step.views(dgates_h, cell.num_gates)
    dsplit_x_views = step.views(dsplit_x, cell.split) if cell.split else [None] * num_steps
    dprojected = None if weights.hr is None else x.new_empty(num_steps, batch, weights.hr.shape[0])
    recurrent = bind_product(weights.hh.t(), batch)

    dstate = [
        buffer.new_zeros(buffer.shape[1:], dtype=work) if grad is None else grad.to(work)
        for grad, buffer in zip(dstate_n, buffers, strict=True)
    ]
    for position, (t, before, after) in reversed(list(enumerate(slots(num_steps, reverse)))):
        held = None
        if mask is not None:  # outside its length a row only hands its state on: the gradient passes it untouched
            held = [grad.masked_fill(mask[t], 0) for grad in dstate]
            dstate = [grad.masked_fill(~mask[t], 0) for grad in dstate]
        if doutput is not None:
            dout = doutput[t].to(work)
            dstate[0] = dstate[0] + (dout if mask is None else dout.masked_fill(~mask[t], 0))
        dstep, state = tuple(dstate), tuple(buffer[after] for buffer in states)
        if dprojected is not None and unprojected is not None and weights.hr is not None:
            dprojected[t].copy_(dstate[0])
            dstep = ((dprojected[t] @ weights.hr).to(work), *dstate[1:])
            state = (unprojected[t], *state[1:])
        dcarried = step.bwd(
            dstep,
            tuple(saved[position * num_saved : (position + 1) * num_saved]),
            tuple(states[k][before] for k in carried_index),
            state,
            dgates_h_views[t],
            dsplit_x_views[t],
        )
        direct = dict(zip(carried_index, dcarried, strict=True))
        dstate = [recurrent(dgates_h_steps[t]).to(work), *(direct[k] for k in range(1, len(states)))]
        if 0 in direct:
            dstate[0] += direct[0]
        if held is not None:
            dstate = [grad + kept for grad, kept in zip(dstate, held, strict=True)]

    inputs = (x if mask is None else zero_padding(x, mask)).flatten(0, 1)
    previous = (buffers[0][1:] if reverse else buffers[0][:-1]).flatten(0, 1)
    merged = cell.num_merged * hidden
    flat_h = dgates_h.flatten(0, 1)
    parts_x = [(flat_h[:, :merged], weights.ih[:merged])]
    if cell.split:
        parts_x.append((dsplit_x.flatten(0, 1), weights.ih[merged:]))
    grads: list[Tensor | None] = [None] * 6
    if needed[0]:
        products = [bind_product(weight.t(), len(part))(part) for part, weight in parts_x]
        grads[0] = torch.stack(products).sum(0).view_as(x) if cell.split else products[0].view_as(x)
    if needed[1]:
        grads[1] = torch.cat([weight_gradient(part, inputs) for part, _ in parts_x])
    if needed[2]:
        grads[2] = weight_gradient(flat_h, previous)
    if needed[3]:
        grads[3] = torch.cat([part.sum(0, dtype=work).to(x.dtype) for part, _ in parts_x])
    if needed[4]:
        grads[4] = flat_h.sum(0, dtype=work).to(x.dtype)
    if needed[5] and dprojected is not None and unprojected is not None:
        grads[5] = weight_gradient(dprojected.flatten(0, 1), unprojected.flatten(0, 1))
    return [*grads, *(grad.to(x.dtype) for grad in dstate)]


def _differentiable_backward(
    cell: Cell,
    reverse: bool,
    mask: Tensor | None,
    x: Tensor,
    weights: Weights,
    state_0: list[Tensor],
    needed: tuple[bool, ...],
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """Return the same gradients with a graph behind them, through the plain loop.

    It runs on aliases of the inputs: the originals may be the same tensor twice, or have a history through each other,
    and a gradient must stop at this call.
    """
    aliases = [None if tensor is None else tensor.view_as(tensor) for tensor in (x, *weights, *state_0)]
    first, own, start = cast(Tensor, aliases[0]), Weights(*cast(Any, aliases[1:6])), cast(Tensors, tuple(aliases[6:]))
    output, state_n = reference(cell, first, start, own, mask, reverse=reverse)
    pairs = [(y, dy) for y, dy in zip((output, *state_n), (doutput, *dstate_n), strict=True) if dy is not None]
    inputs: list[Any] = [tensor for tensor, need in zip(aliases, needed, strict=True) if need]
    found = torch.autograd.grad(
        [y for y, _ in pairs], inputs, [dy for _, dy in pairs], create_graph=True, allow_unused=True
    )
    grads = iter(found)
    return [next(grads) if need else None for need in needed]


def recurrence(
    step: Step, x: Tensor, state_0: Tensors, weights: Weights, mask: Tensor | None = None, *, reverse: bool = False
) -> tuple[Tensor, Tensors]:
    """Run a cell over time with the given gate maths; see `eager` for arguments and results."""
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *weights, *state_0))
    output, *state_n = _Recurrence.apply(step, reverse, keep, mask, x, *weights, *state_0)
    return output, tuple(state_n)


def eager(
    cell: Cell, x: Tensor, state_0: Tensors, weights: Weights, mask: Tensor | None = None, *, reverse: bool = False
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction by torch operators, with a hand-written backward pass.

    Args:
        cell: the gate maths.
        x: (T, B, I) inputs, T >= 1.
        state_0: initial states in the order of `cell.states`: h (B, P), others (B, H); any strides.
        weights: parameters in torch's shapes, of the dtype and device of `x`.
        mask: (T, B, 1) boolean or None. Where False, a row's state is held and its output is zero.
        reverse: walk from the last step to the first.

    Returns:
        output (T, B, P) aligned with `x`, and the states after the last visited step.
    """
    return recurrence(TorchStep(cell), x, state_0, weights, mask, reverse=reverse)
