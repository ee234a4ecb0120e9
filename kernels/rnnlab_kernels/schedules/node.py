"""The one autograd node: an engine in eager mode. Under torch.compile and torch.export the same call is an operator."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.schedules.engines import ENGINES, Call, Kept
from rnnlab_kernels.schedules.layout import settled

Tensors = tuple[Tensor, ...]
_REQUIRES_GRAD = attrgetter("requires_grad")
_mode = threading.local()


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Let calls of this thread keep tensors without memory for backward, where an engine can.

    For passes whose saved tensors go to hooks that drop them, as a checkpoint's first does: what was kept would be
    written for nobody, and leave holes between what stays.
    """
    before, _mode.keeps_nothing = getattr(_mode, "keeps_nothing", False), True
    try:
        yield
    finally:
        _mode.keeps_nothing = before


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, *inputs: Tensor) -> Tensors:
        ctx.set_materialize_grads(False)
        engine = ENGINES[call.engine]
        call = engine.planned(call, inputs)
        unkept = engine.unkept(call, inputs) if call.keep and getattr(_mode, "keeps_nothing", False) else None
        results, kept = engine.forward(call if unkept is None else call._replace(keep=False), inputs)
        kept = kept if unkept is None else unkept
        if call.keep:
            parts = [*results, *kept] if engine.keeps_results else kept
            flat: list[Tensor] = []
            ctx.lengths = []
            for part in parts:
                is_list = isinstance(part, list)
                ctx.lengths.append(len(part) if is_list else None)
                flat += part if is_list else (part,)
            # Masks are saved as tensors are, so that autograd notices when one was written into.
            ctx.save_for_backward(call.mask, call.additions.reset, *inputs, *flat)
            ctx.num_inputs = len(inputs)
            if call.mask is not None or call.additions.reset is not None:
                call = call._replace(mask=None, additions=call.additions._replace(reset=None))
            ctx.call = call
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        mask, reset, *saved = ctx.saved_tensors
        call, needed = ctx.call, ctx.needs_input_grad[1:]
        if mask is not None or reset is not None:
            call = call._replace(mask=mask, additions=call.additions._replace(reset=reset))
        engine, inputs, start = ENGINES[call.engine], saved[: ctx.num_inputs], ctx.num_inputs
        kept: Kept = []
        for length in ctx.lengths:
            # As they were, whatever hooks on saved tensors have done to them.
            part = list(map(Tensor.contiguous, saved[start : start + (1 if length is None else length)]))
            kept.append(part[0] if length is None else part)
            start += len(part)
        if torch.is_grad_enabled():
            found = engine.backward_with_graph(call, inputs, kept, grads, needed)
        else:
            upstream = list(grads)
            for k, grad in enumerate(grads):
                if grad is not None and (grad._is_zerotensor() or grad.is_neg()):
                    upstream[k] = settled(grad)
            found = engine.backward(call, inputs, kept, upstream, needed)
        results = [None, *found]
        for k, need in enumerate(needed):
            if not need:
                results[1 + k] = None
        return tuple(results)


def run(call: Call, *inputs: Tensor) -> Tensors:
    """Return the results of an engine, differentiable with respect to `inputs`: in any number of turns in eager mode,
    if the engine can, and once as an operator."""
    if torch.compiler.is_compiling():
        from rnnlab_kernels import ops

        return tuple(ops.run_call(call, inputs))
    if torch.is_grad_enabled() and any(map(_REQUIRES_GRAD, inputs)):
        call = call._replace(keep=True)
    if not inputs[0].is_cuda:
        return _Node.apply(call, *inputs)
    with torch.cuda.device(inputs[0].device):
        return _Node.apply(call, *inputs)
