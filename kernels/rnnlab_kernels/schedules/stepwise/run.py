"""Hand-written backpropagation through time: one autograd node per layer and direction, for any chain of stages.

Outside the loop, as single large products over T*B rows: the input part of the gates before it; dx and all weight
gradients after it. Inside, a forward step runs the stages of the chain; a backward step runs them in reverse and only
writes gate gradients and what carries them to the states before. Who computes the gate maths is the `kit` argument:
torch's operators (kit_torch.py) or a Triton kernel (kit_triton.py), in a loop over time in Python (forward.py,
backward.py, gradients.py); or the loop and all in it are one compiled call (compiled/).

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

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Norm
from rnnlab_kernels.schedules import node
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.engines import Call, Engine, Kept, backward_through
from rnnlab_kernels.schedules.layout import Weights, named_weights
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.frame import Frame, Plan, Step, Tensors, cached_plan, make_plan, working_dtype

__all__ = ["Step", "Tensors", "recurrence", "working_dtype"]


_SHAPE = attrgetter("shape")


class _Kits(dict[str, Any]):
    """Kits by name, imported when they are first asked for."""

    _FOUND = {
        "eager": ("stepwise.kit_torch", "TorchStep"),
        "fused": ("compiled.api", "CompiledStep"),
        "pointwise": ("stepwise.kit_triton", "PointwiseStep"),
    }

    def __missing__(self, name: str) -> Any:
        module, kit = self._FOUND[name]
        self[name] = getattr(importlib.import_module(f"rnnlab_kernels.schedules.{module}"), kit)
        return self[name]


_KITS = _Kits()


class Stepwise(Engine):
    """The recurrence with the gate maths of a kit, the call's method. Inputs: x, weights, initial states."""

    def planned(self, call: Call, inputs: Sequence[Tensor], make: Callable[..., Plan] = cached_plan) -> Call:
        x, noise, chain = inputs[0], call.additions.noise, call.maths
        assert isinstance(chain, Chain)
        zoned: tuple[str, ...] = ()
        drops_candidate = False
        if noise is not None:
            zoned = tuple(name for name, p in zip(chain.states, noise.zoneout, strict=False) if p)
            drops_candidate = noise.training and noise.candidate > 0
        shapes = tuple(map(_SHAPE, inputs[1:]))
        kit, sizes = _KITS[call.method], (shapes, x.shape[-1], x.dtype)
        return call._replace(plan=make(kit, chain.key, call.names, *sizes, zoned, drops_candidate))

    def forward(self, call: Call, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Kept]:
        output, state_n, kept = call.plan.kit.run_forward(Frame(call, inputs))
        return [output.contiguous(), *state_n], kept

    def fake(self, call: Call, inputs: Sequence[Tensor]) -> list[Tensor]:
        plan = self.planned(call, inputs, make_plan).plan  # sizes may be any: nothing to look up
        x, state_0 = inputs[0], inputs[1 + len(call.names) :]
        found = [x.new_empty(*x.shape[:2], plan.width[plan.chain.output])]
        found += [x.new_empty(value.shape) for value in state_0]
        if call.keep:
            found += [x.new_empty(shape, dtype=dtype) for shape, dtype in self._kept(plan, x)]
        return found

    def unkept(self, call: Call, inputs: Sequence[Tensor]) -> Kept | None:
        x, plan = inputs[0], call.plan
        if not plan.kit.keeps_tensors:
            return None
        return [x.new_empty((), dtype=dtype).expand(shape) for shape, dtype in self._kept(plan, x)]

    @staticmethod
    def _kept(plan: Plan, x: Tensor) -> Iterator[tuple[tuple[int, ...], torch.dtype]]:
        """Yield shapes and dtypes of what is kept, lists as tensors (T, ...)."""
        kit, (num_steps, batch) = plan.kit, x.shape[:2]
        for name in plan.chain.states:
            yield (num_steps + 1, batch, plan.width[f"{name}_prev"]), plan.dtype_of(name)
        for name in plan.stored:
            yield (num_steps, batch, plan.width[name]), plan.dtype_of(name)
        for stage, step in zip(plan.chain.stages, plan.steps, strict=True):
            kept: list[tuple[tuple[int, ...], torch.dtype]] = []
            if isinstance(stage, Norm):
                outlasts = stage.source in plan.outlasting
                kept = [(shape, plan.work) for shape in kit.norm_keeps(batch, plan.width[stage.source], outlasts)]
            elif isinstance(stage, Gates) and step is not None:
                kept = kit.keeps(step.cell, batch, plan.width[stage.out[0]], x.dtype)
            for shape, dtype in kept:
                yield (num_steps, *shape), dtype

    def backward(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        kept: Kept,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Sequence[Tensor | None]:
        return call.plan.kit.run_backward(Frame(call, inputs), kept, grads[0], tuple(grads[1:]), tuple(needed))

    def backward_with_graph(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        kept: Kept,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Sequence[Tensor | None]:
        if not call.plan.kit.differentiable:
            return super().backward_with_graph(call, inputs, kept, grads, needed)
        chain, count = call.maths, len(call.names)
        assert chain is not None

        def run(x: Tensor, *rest: Tensor) -> Tensors:
            named, start = dict(zip(call.names, rest, strict=False)), rest[count:]
            output, state_n = reference(
                chain, x, start, named, call.mask, reverse=bool(call.reverse), additions=call.additions
            )
            return output, *state_n

        return backward_through(run, inputs, grads, needed)


def recurrence(
    kit: str,
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run a cell over time with the gate maths of `kit`; see `eager` for the other arguments and results."""
    chain, named = named_weights(cell, weights)
    call = Call("recurrence", kit, chain, tuple(named), reverse, mask, additions)
    output, *state_n = node.run(call, x, *named.values(), *state_0)
    return output, tuple(state_n)
