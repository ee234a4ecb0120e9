"""Hand-written backpropagation through time: one autograd node per layer and direction, for any chain of stages.

Outside the loop, as single large products over T*B rows: the input part of the gates before it; dx and all weight
gradients after it. Inside, a forward step runs the stages of the chain; a backward step runs them in reverse and only
writes gate gradients and what carries them to the states before. Who computes the gate maths is the `kit` argument:
torch's operators (eager.py), a compiled loop (fused.py) or a Triton kernel (pointwise.py).

T time, B batch, I inputs, N columns of the input part, W width of a state. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states | as given | as given |
| the chain's output value, its initial value included if it is a state | (T+1, B, W) or (T, B, W) | dtype of x |
| further states | (T+1, B, W) | working dtype |
| values within a step that gate updates write or read, or products multiply | (T, B, W) | working dtype |
| what a gate update keeps (activated gates) | per step | the step's |
| of a norm: its source, mean and 1/standard deviation | (T, B, N), (T, B, 1) | working dtype |

The working dtype is fp32 for fp16 and bf16 storage, else that of x: gate maths, norms, c and the gradient carried from
step to step are computed in it. Random masks are not saved but made again from their counter. Backward writes into no
saved tensor and no incoming gradient. When the caller asks for a graph of the gradients, they are computed again on the
plain loop, which can be differentiated any number of times.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.schedules.additions import PLAIN, Walk
from rnnlab_kernels.schedules.layout import Weights, named_weights, settled
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.backward import walk_backward
from rnnlab_kernels.schedules.stepwise.forward import walk_forward
from rnnlab_kernels.schedules.stepwise.frame import Call, Frame, Step, Tensors, working_dtype

__all__ = ["Step", "Tensors", "recurrence", "working_dtype"]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        state_0 = tensors[len(call.names) :]
        frame = Frame(call, x, dict(zip(call.names, tensors, strict=False)), state_0)
        output, state_n, kept = walk_forward(frame)
        # Masks are saved as tensors are, so that autograd notices when one was written into.
        ctx.call = call._replace(mask=None, walk=call.walk._replace(reset=None))
        ctx.counts = [len(part) for part in kept]
        kept_flat = (tensor for part in kept for tensor in part)
        ctx.save_for_backward(call.mask, call.walk.reset, x, *tensors, *kept_flat)
        return output, *state_n

    @staticmethod
    def backward(ctx: Any, doutput: Tensor | None, *dstate_n: Tensor | None) -> tuple[Tensor | None, ...]:
        mask, reset, x, *rest = ctx.saved_tensors
        call: Call = ctx.call._replace(mask=mask, walk=ctx.call.walk._replace(reset=reset))
        inputs = len(call.names) + len(call.chain.states)
        weights, state_0 = dict(zip(call.names, rest, strict=False)), tuple(rest[len(call.names) : inputs])
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            if not call.kit.differentiable:
                raise RuntimeError(
                    "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                    'build the module with backend="reference"'
                )
            grads = _differentiable_backward(call, x, weights, state_0, needed, doutput, dstate_n)
        else:
            upstream = [grad if grad is None else settled(grad) for grad in (doutput, *dstate_n)]
            kept, start = [], inputs
            for count in ctx.counts:
                # As they were, whatever hooks on saved tensors have done to them.
                kept.append([tensor.contiguous() for tensor in rest[start : start + count]])
                start += count
            grads = walk_backward(Frame(call, x, weights, state_0), kept, upstream[0], tuple(upstream[1:]), needed)
        return (None, *(grad if need else None for grad, need in zip(grads, needed, strict=True)))


def _differentiable_backward(
    call: Call,
    x: Tensor,
    weights: dict[str, Tensor],
    state_0: Tensors,
    needed: tuple[bool, ...],
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """Return the same gradients with a graph behind them, through the plain loop.

    It runs on aliases of the inputs: the originals may be the same tensor twice, or have a history through each other,
    and a gradient must stop at this call.
    """
    aliases = [tensor.view_as(tensor) for tensor in (x, *weights.values(), *state_0)]
    named = dict(zip(weights, aliases[1:], strict=False))
    start = tuple(aliases[1 + len(weights) :])
    output, state_n = reference(call.chain, aliases[0], start, named, call.mask, reverse=call.reverse, walk=call.walk)
    pairs = [(y, dy) for y, dy in zip((output, *state_n), (doutput, *dstate_n), strict=True) if dy is not None]
    inputs = [tensor for tensor, need in zip(aliases, needed, strict=True) if need]
    found = torch.autograd.grad(
        [y for y, _ in pairs], inputs, [dy for _, dy in pairs], create_graph=True, allow_unused=True
    )
    grads = iter(found)
    return [next(grads) if need else None for need in needed]


def recurrence(
    kit: Any,
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    walk: Walk = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run a cell over time with the gate maths of `kit`; see `eager` for the other arguments and results."""
    chain, named = named_weights(cell, weights)
    if torch.compiler.is_compiling():
        from rnnlab_kernels.schedules import opaque

        return opaque.recurrence(kit.name, chain, x, state_0, named, mask, reverse, walk)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *named.values(), *state_0))
    call = Call(kit, chain, tuple(named), reverse, mask, walk, keep)
    output, *state_n = _Recurrence.apply(call, x, *named.values(), *state_0)
    return output, tuple(state_n)
