"""What the forward and the backward half of a recurrence share: the plan of a layer, and the values of a pass.

T time, B batch, N columns of the input part, W width of a value.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import CHAINS_BY_KEY, Chain, Gates, Norm, Product
from rnnlab_kernels.schedules.additions import NO_MASKS, draw_masks
from rnnlab_kernels.schedules.engines import Call
from rnnlab_kernels.schedules.layout import settled, zero_padding, zero_rows

Tensors = tuple[Tensor, ...]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of gate maths and carried gradients for tensors stored as `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class Step(Protocol):
    """The gate maths of one gate update; the recurrence owns time, products and memory.

    A step is made with `(cell, first)`: `first` is its first block of H columns in the input part of the gates.
    """

    cell: Cell
    differentiable: bool  # may gradients be recomputed on the plain loop when a graph of them is asked for?
    keeps_tensors: bool  # of all steps, in place of a list of one a step?

    def fwd(self, gates_x: Tensor | None, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        """Write the new values into `out` and return what backward needs.

        `gates_x` (B, N) is the input part of all gates of the chain, `gates_h` (B, G*H) the recurrent part of this
        update's; where both are given, those of merged gates are summed. `gates_h` is scratch that may be overwritten.
        """

    def views(self, buffer: Tensor, hidden: int) -> Sequence[Any]:
        """Return, for each time step of a buffer (T, B, N), the form in which `bwd` wants its part."""

    def bwd(self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dx: Any, dh: Any) -> Tensors:
        """Write the gate gradients into `dx` and `dh`, views of buffers as `gates_x` and `gates_h`, None where the one
        was not given or shares the other's gradient; return the gradients of the carried values, contiguous."""

    @staticmethod
    def keeps(cell: Cell, batch: int, hidden: int, dtype: torch.dtype) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Return shapes and dtypes of what `fwd` returns for x of a dtype."""

    @staticmethod
    def norm_keeps(batch: int, width: int, outlasts: bool) -> list[tuple[int, ...]]:
        """Return shapes of what `norm_fwd` returns for backward, of the working dtype. `outlasts`: its source does."""

    @staticmethod
    def norm_fwd(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensors]:
        """Return the layer norm of x (B, W) over its units, and what its gradient needs."""

    @staticmethod
    def norm_bwd(dy: Tensor, saved: Tensors, gain: Tensor, dgain: Tensor, dshift: Tensor | None) -> Tensor:
        """Return dx (B, W); add the gradients of gain and shift to `dgain` and `dshift`, each (W,)."""


class Plan(NamedTuple):
    """What does not change from call to call of a layer: widths of values, and which share memory or gradients.

    Attributes:
        chain, kit: what a step does, and who does its gate maths.
        width: of each value.
        num_columns: N.
        dtype, work: of storage and of gate maths.
        merged: products (by the value they write) that are added to the input part as they are made: one gate update
            without split gates, or a norm, reads the two as one sum, so there is one pre-activation and one gradient.
        into_dx: values whose gradient is that of the whole input part.
        zoned: states that zoneout keeps a part of.
        stored: values with memory of their own over time.
        outlasting: those and the states; other values do not outlive their step.
        recurrent_parts: values that gate updates take as pre-activations.
        steps: for each stage its gate maths, None for products and norms. With `drops_candidate` that of the variant
            which takes a mask, where there is one.
        num_kept: for each stage how many tensors it keeps of a step.
        made: what a kit has worked out for sizes, and keeps.
    """

    chain: Chain
    kit: Any
    width: Mapping[str, int]
    num_columns: int
    dtype: torch.dtype
    work: torch.dtype
    merged: frozenset[str]
    into_dx: frozenset[str]
    zoned: frozenset[str]
    stored: tuple[str, ...]
    outlasting: frozenset[str]
    recurrent_parts: frozenset[str]
    steps: tuple[Step | None, ...]
    drops_candidate: bool
    num_kept: tuple[int, ...]
    made: dict[Any, Any]

    def dtype_of(self, name: str) -> torch.dtype:
        return self.dtype if name == self.chain.output else self.work


def make_plan(
    kit: Any,
    key: str,
    names: tuple[str, ...],
    shapes: tuple[torch.Size, ...],
    num_features: int,
    dtype: torch.dtype,
    zoned: tuple[str, ...],
    drops_candidate: bool,
) -> Plan:
    """Return the plan of a layer.

    Args:
        kit: makes steps of (cell, first).
        key: of the chain.
        names: of the weights.
        shapes: of weights and initial states.
        num_features: I.
        dtype: of storage.
        zoned, drops_candidate: as in `Plan`.
    """
    chain: Chain = CHAINS_BY_KEY[key]
    sizes = {name: shape[0] for name, shape in zip(names, shapes, strict=False)}
    num_columns = sizes.get("ih", num_features)
    width = {f"{name}_prev": shape[1] for name, shape in zip(chain.states, shapes[len(names) :], strict=True)}
    width |= {name: sizes[name] for name in chain.constants}
    read, written = {chain.output}, set[str]()
    inner: list[str] = []
    for stage in chain.stages:
        if isinstance(stage, Product):
            width[stage.out] = sizes[stage.weight]
            read |= {*stage.sources}
        elif isinstance(stage, Norm):
            width[stage.out] = width[stage.source]
        else:
            if stage.recurrent is not None:
                hidden = width[stage.recurrent] // stage.cell.num_gates
            else:
                hidden = width[stage.carried[0]]
            width |= dict.fromkeys(stage.out, hidden)
            written |= {*stage.out}
            read |= {*stage.carried}
        inner += stage.out if isinstance(stage, Gates) else (stage.out,)
    stored = [n for n in inner if (n in read or n in written) and (n not in chain.states or n in zoned)]
    stored += [n for n in inner if n in zoned and n not in stored]
    outlasting = {*stored, *chain.states}

    products = {stage.out: stage for stage in chain.stages if isinstance(stage, Product)}
    merged = {name for name, stage in products.items() if stage.add_input}
    into_dx = set(merged)
    for stage in chain.stages:
        if isinstance(stage, Gates) and stage.recurrent and stage.first == 0 and not stage.cell.split:
            if stage.recurrent not in outlasting and width[stage.recurrent] == num_columns:
                into_dx.add(stage.recurrent)
                merged |= {stage.recurrent} & products.keys()

    steps, num_kept = [], []
    for stage in chain.stages:
        step = None
        if isinstance(stage, Gates):
            cell = stage.cell.dropped if drops_candidate and stage.cell.dropped is not None else stage.cell
            step = kit(cell, stage.first or 0)
            num_kept.append(len(kit.keeps(cell, 0, 0, dtype)))
        else:
            num_kept.append(len(kit.norm_keeps(0, 0, stage.source in outlasting)) if isinstance(stage, Norm) else 0)
        steps.append(step)
    return Plan(
        chain,
        kit,
        width,
        num_columns,
        dtype,
        working_dtype(dtype),
        frozenset(merged),
        frozenset(into_dx),
        frozenset(zoned),
        tuple(stored),
        frozenset(outlasting),
        frozenset(stage.recurrent for stage in chain.stages if isinstance(stage, Gates) and stage.recurrent),
        tuple(steps),
        drops_candidate,
        tuple(num_kept),
        {},
    )


cached_plan = lru_cache(maxsize=256)(make_plan)


class Frame:
    """What a pass, forward or backward, has before it runs.

    Attributes:
        given: x as it is given.
        order: of the rows, if it is not that of `given`.
        rows: for each value its tensor (B, W) at each time step.
        affine: gains and shifts of norms, in the working dtype; empty where one call does all steps.
        candidate: the mask (T, B, H) that enters gate updates which drop their candidate, if there is one.
    """

    def __init__(self, call: Call, inputs: Sequence[Tensor]) -> None:
        plan: Plan = call.plan
        self.call, self.plan, self.chain, self.kit = call, plan, plan.chain, plan.kit
        if any(map(Tensor._is_zerotensor, inputs)) or any(map(Tensor.is_neg, inputs)):
            inputs = [settled(value) for value in inputs]
        x, count = inputs[0], len(call.names)
        self.weights, self.state_0 = dict(zip(call.names, inputs[1:], strict=False)), tuple(inputs[1 + count :])
        self.num_steps, self.batch = x.shape[:2]
        self.given = x
        if call.mask is None:
            self.x = x
        self.order: Tensor | None = None
        self.work, self.width, self.num_columns = plan.work, plan.width, plan.num_columns
        self.reverse = bool(call.reverse)
        self.masks = NO_MASKS
        if call.additions.noise is not None:
            self.masks = draw_masks(call.additions, self.chain, self.state_0, self.num_steps)
        self.candidate = [] if self.masks.candidate is None else [self.masks.candidate.to(self.work)]
        self.rows: dict[str, Any] = {}
        self.affine: dict[str | None, Tensor] = {}
        for stage in () if self.kit.keeps_tensors else self.chain.stages:
            if isinstance(stage, Norm):
                for weight in (stage.gain, stage.shift):
                    if weight in self.weights:
                        self.affine[weight] = self.weights[weight].to(self.work).contiguous()

    @cached_property
    def x(self) -> Tensor:
        """x in the order of rows, zeros outside the mask."""
        x, mask = self.given, self.call.mask
        if mask is None:
            return x
        if self.order is None:
            return zero_padding(x, mask)
        rows = x.index_select(1, self.order).flatten(0, 1)
        return zero_rows(rows, mask.expand(-1, self.batch, 1).flatten()).view(x.shape)

    def set_states(self, buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Take the buffers (T+1, B, W) of the states and (T, B, W) of the other values as rows, and the constants."""
        for name in self.chain.constants:
            spread = self.weights[name].to(self.work).expand(self.batch, -1).contiguous()
            self.rows[name] = (spread,) * self.num_steps
        for name, buffer in zip(self.chain.states, buffers, strict=True):
            rows = buffer.unbind(0)
            before, after = (rows[1:], rows[:-1]) if self.reverse else (rows[:-1], rows[1:])
            self.rows[f"{name}_prev"], self.rows[f"{name}_next"] = before, after
            self.rows[name] = after
        for name, buffer in zip(self.plan.stored, values, strict=True):
            self.rows[name] = buffer.unbind(0) if len(buffer) == self.num_steps else tuple(buffer) * self.num_steps

    def source(self, stage: Product, t: int) -> Tensor:
        """Return what a product multiplies at step t (B, K)."""
        masks = self.masks.sources
        parts = [self.rows[n][t] * masks[n] if n in masks else self.rows[n][t] for n in stage.sources]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(self.x.dtype)
