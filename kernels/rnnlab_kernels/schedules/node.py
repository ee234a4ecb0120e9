"""The one autograd node: an engine in eager mode. Under torch.compile and torch.export the same call is an operator."""

from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.schedules.engines import ENGINES, Call, Kept
from rnnlab_kernels.schedules.layout import settled

Tensors = tuple[Tensor, ...]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, *inputs: Tensor) -> Tensors:
        ctx.set_materialize_grads(False)
        engine = ENGINES[call.engine]
        call = engine.planned(call, inputs)
        results, kept = engine.forward(call, inputs)
        if call.keep:
            parts = [*results, *kept] if engine.keeps_results else kept
            ctx.lengths = [len(part) if isinstance(part, list) else None for part in parts]
            flat: list[Tensor] = []
            for part in parts:
                flat += part if isinstance(part, list) else (part,)
            # Masks are saved as tensors are, so that autograd notices when one was written into.
            ctx.save_for_backward(call.mask, call.walk.reset, *inputs, *flat)
            ctx.call, ctx.num_inputs = _without_tensors(call), len(inputs)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        mask, reset, *saved = ctx.saved_tensors
        call, needed = ctx.call, ctx.needs_input_grad[1:]
        if mask is not None or reset is not None:
            call = call._replace(mask=mask, walk=call.walk._replace(reset=reset))
        engine, inputs, start = ENGINES[call.engine], saved[: ctx.num_inputs], ctx.num_inputs
        kept: Kept = []
        for length in ctx.lengths:
            # As they were, whatever hooks on saved tensors have done to them.
            part = [value.contiguous() for value in saved[start : start + (1 if length is None else length)]]
            kept.append(part[0] if length is None else part)
            start += len(part)
        if torch.is_grad_enabled():
            found = engine.backward_with_graph(call, inputs, kept, grads, needed)
        else:
            upstream = [None if grad is None else settled(grad) for grad in grads]
            found = engine.backward(call, inputs, kept, upstream, needed)
        return None, *[grad if need else None for grad, need in zip(found, needed, strict=True)]


def _without_tensors(call: Call) -> Call:
    if call.mask is None and call.walk.reset is None:
        return call
    return call._replace(mask=None, walk=call.walk._replace(reset=None))


def run(call: Call, *inputs: Tensor) -> Tensors:
    """Return the results of an engine, differentiable with respect to `inputs`: in any number of turns in eager mode,
    if the engine can, and once as an operator."""
    if torch.compiler.is_compiling():
        from rnnlab_kernels import ops

        return tuple(ops.run_call(call, inputs))
    if torch.is_grad_enabled() and any([tensor.requires_grad for tensor in inputs]):
        call = call._replace(keep=True)
    if not inputs[0].is_cuda:
        return _Node.apply(call, *inputs)
    with torch.cuda.device(inputs[0].device):
        return _Node.apply(call, *inputs)
