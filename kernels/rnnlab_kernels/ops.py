"""One differentiable operator, `rnnlab::run`, that torch.compile and torch.export take as it is, whatever runs inside.

Traced as it stands, a recurrence is a loop that is unrolled, and compiled loops or kernels are a break in the graph.
As an operator it is one node, of which fake kernels say shapes for any T and B. What runs is an `Engine`, found by its
name; all but tensors goes in a `config`, a string of JSON, since operators take no other objects. Behind its results
forward gives out what backward needs: as tensors whose number does not depend on sizes.

In eager mode the schedules have autograd functions of their own: no copies, second derivatives, counts of clipping.
Nothing imports this module before it is needed: torch.library takes a second to import.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rnnlab_kernels.schedules.noise import masks as noise

Tensors = Sequence[Tensor]


class Engine(Protocol):
    """Something that runs as `rnnlab::run`. Results and gradients are new memory and contiguous.

    Attributes:
        keeps_results: backward gets the results before what else is kept.
    """

    keeps_results: bool

    def num_results(self, config: Any) -> int:
        """Return how many results there are."""

    def forward(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        """Return the results and, with `keep`, what backward needs."""

    def fake(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        """Return tensors of the same shapes and dtypes, of any values."""

    def backward(
        self, config: Any, tensors: Tensors, kept: Tensors, grads: list[Tensor | None], needed: list[bool]
    ) -> list[Tensor | None]:
        """Return the gradient of each tensor that needs one; None stands for zeros."""


ENGINES: dict[str, Engine] = {}


@torch.compiler.assume_constant_result
def encoded(*config: Any) -> str:
    """Return what an engine gets decoded, out of numbers, strings and lists."""
    return json.dumps(config)


@torch.library.custom_op("rnnlab::run", mutates_args=())
def run(tensors: Sequence[Tensor], engine: str, config: str, keep: bool) -> list[Tensor]:
    """Run an engine."""
    return ENGINES[engine].forward(json.loads(config), tensors, keep)


@run.register_fake
def _(tensors: Sequence[Tensor], engine: str, config: str, keep: bool) -> list[Tensor]:
    return ENGINES[engine].fake(json.loads(config), tensors, keep)


@torch.library.custom_op("rnnlab::run_backward", mutates_args=())
def run_backward(
    tensors: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor],
    given: Sequence[bool],
    needed: Sequence[bool],
    engine: str,
    config: str,
) -> list[Tensor]:
    """Return the gradients of those of `tensors` that are `needed`; `grads` are of the results that have one."""
    remaining = iter(grads)
    upstream = [next(remaining) if has else None for has in given]
    found = ENGINES[engine].backward(json.loads(config), tensors, kept, upstream, list(needed))
    return [
        torch.zeros_like(value, memory_format=torch.contiguous_format) if grad is None else grad
        for value, grad, need in zip(tensors, found, needed, strict=True)
        if need
    ]


@run_backward.register_fake
def _(tensors: Tensors, kept: Tensors, grads: Tensors, given: Any, needed: Any, *_: str) -> list[Tensor]:
    return [value.new_empty(value.shape) for value, need in zip(tensors, needed, strict=True) if need]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, engine, config, keep = inputs
    ctx.num_results = ENGINES[engine].num_results(json.loads(config))
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[0 if ENGINES[engine].keeps_results else ctx.num_results :])
    ctx.num_tensors, ctx.names = len(tensors), (engine, config)
    ctx.needed, ctx.keep = [tensor.requires_grad for tensor in tensors], keep


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    if not ctx.keep:
        raise RuntimeError("this program was exported for inference: it kept nothing for a backward pass")
    saved = ctx.saved_tensors
    results = list(grads)[: ctx.num_results]
    upstream, given = [grad for grad in results if grad is not None], [grad is not None for grad in results]
    tensors, kept = saved[: ctx.num_tensors], saved[ctx.num_tensors :]
    found = iter(run_backward(tensors, kept, upstream, given, ctx.needed, *ctx.names))
    return [next(found) if need else None for need in ctx.needed], None, None, None


def _refuse(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    raise RuntimeError(
        "the backward pass of this recurrence, as one operator, cannot itself be differentiated: for create_graph=True "
        'build the module with backend="reference"'
    )


torch.library.register_autograd("rnnlab::run", _backward, setup_context=_setup)
torch.library.register_autograd("rnnlab::run_backward", _refuse)


def call(engine: str, config: str, tensors: Tensors) -> list[Tensor]:
    """Return the results of an engine, differentiable once."""
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    keep = keep and not torch.compiler.is_exporting()  # programs are for inference
    return torch.ops.rnnlab.run(list(tensors), engine, config, keep)


@torch.library.custom_op("rnnlab::keep_mask", mutates_args=())
def keep_mask(
    seed: Tensor, stream: int, first: int, shape: Sequence[int], p: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return `schedules.noise.keep_mask` for a seed whose value is not known before the graph runs."""
    num_steps, batch, hidden = shape
    return noise.keep_mask(int(seed), stream, first, (num_steps, batch, hidden), p, device, dtype)


@keep_mask.register_fake
def _(
    seed: Tensor, stream: int, first: int, shape: Sequence[int], p: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    return torch.empty(shape, device=device, dtype=dtype)
