"""The autograd node of the schedules that are two plain functions of tensors: `sequence` and `stages`."""

from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, walks: ModuleType, call: Any, x: Tensor, *tensors: Tensor) -> Tensors:
        ctx.set_materialize_grads(False)
        results, kept = walks.walk_forward(call, x, tensors)
        # Masks are saved as tensors are, so that autograd notices when one was written into.
        ctx.walks, ctx.call, ctx.num_inputs = walks, call._replace(mask=None, reset=None), len(tensors)
        if call.keep:
            ctx.save_for_backward(call.mask, call.reset, x, *tensors, *kept)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                'build the module with backend="reference"'
            )
        mask, reset, x, *rest = ctx.saved_tensors
        tensors, kept = rest[: ctx.num_inputs], rest[ctx.num_inputs :]
        call = ctx.call._replace(mask=mask, reset=reset)
        return None, None, *ctx.walks.walk_backward(call, x, tensors, kept, grads, ctx.needs_input_grad[2:])


def keeps(*tensors: Tensor) -> bool:
    """Return whether autograd will ask for gradients of any of these."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def run(walks: ModuleType, call: Any, x: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensors]:
    """Return output and last states.

    Args:
        walks: module of `walk_forward(call, x, tensors)` and `walk_backward(call, x, tensors, kept, grads, needed)`.
        call: all but tensors; a NamedTuple with `mask`, `reset` and `keep`.
        x, tensors: what gradients may be asked of.
    """
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        output, *state_n = _Node.apply(walks, call, x, *tensors)
    return output, tuple(state_n)
