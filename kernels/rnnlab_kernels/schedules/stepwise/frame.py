"""What the forward and the backward half of a recurrence share: one call, the widths of its values, their memory.

T time, B batch, N columns of the input part, W width of a value.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Norm, Product
from rnnlab_kernels.schedules.additions import draw_masks
from rnnlab_kernels.schedules.engines import Call
from rnnlab_kernels.schedules.layout import settled, zero_padding

Tensors = tuple[Tensor, ...]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of gate maths and carried gradients for tensors stored as `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class Step(Protocol):
    """The gate maths of one gate update; the recurrence owns time, products and memory.

    A step is made with `(cell, first)`: `first` is its first block of H columns in the input part of the gates.
    """

    differentiable: bool  # may gradients be recomputed on the plain loop when a graph of them is asked for?

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
    def norm_keeps(batch: int, width: int) -> list[tuple[int, ...]]:
        """Return shapes of what `norm_fwd` returns for backward, all of the working dtype."""

    @staticmethod
    def norm_fwd(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensors]:
        """Return the layer norm of x (B, W) over its units, and what its gradient needs."""

    @staticmethod
    def norm_bwd(dy: Tensor, saved: Tensors, gain: Tensor, dgain: Tensor, dshift: Tensor | None) -> Tensor:
        """Return dx (B, W); add the gradients of gain and shift to `dgain` and `dshift`, each (W,)."""


class _Same:
    """A tensor as its value at each step. Not a tuple of it, which would ask torch.compile for the number of steps."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __getitem__(self, t: int) -> Tensor:
        return self.value


class Frame:
    """What forward and backward know before they run: widths of values, and which share memory or gradients.

    Attributes:
        rows: for each value its tensor (B, W) at each time step.
        whole: products (by the value they write) that are added to the input part as they are made: one gate update
            without split gates, or a norm, reads the two as one sum, so there is one pre-activation and one gradient.
        shared: values whose gradient is that of the whole input part.
        own: values with memory of their own over time.
        lasting: those and the states; other values do not outlive their step.
    """

    def __init__(self, call: Call, x: Tensor, weights: dict[str, Tensor], state_0: Tensors) -> None:
        self.call, self.weights, self.state_0 = call, weights, state_0
        assert isinstance(call.maths, Chain)
        self.chain = call.maths
        self.kit: Any = call.plan  # (cell, first) -> Step
        self.reverse = bool(call.reverse)
        self.num_steps, self.batch = x.shape[:2]
        self.x = settled(x) if call.mask is None else zero_padding(x, call.mask)
        self.work = working_dtype(x.dtype)
        self.masks = draw_masks(call.walk, self.chain, state_0, self.num_steps)
        self.num_columns = weights["ih"].shape[0] if "ih" in weights else x.shape[-1]
        self.rows: dict[str, Any] = {}
        for name in self.chain.constants:
            spread = settled(weights[name]).to(self.work).expand(self.batch, -1).contiguous()
            self.rows[name] = _Same(spread)
        self.partly = {
            name for name, part in zip(self.chain.states, self.masks.update, strict=False) if part is not None
        }
        self._find_widths()
        self.lasting = {*self.own, *self.chain.states}
        self._find_shared()

    def _find_widths(self) -> None:
        states, stages = self.chain.states, self.chain.stages
        self.width = {f"{name}_prev": value.shape[1] for name, value in zip(states, self.state_0, strict=True)}
        self.width |= {name: self.weights[name].shape[0] for name in self.chain.constants}
        read: set[str] = {self.chain.output}
        written: list[str] = []
        for stage in stages:
            if isinstance(stage, Product):
                self.width[stage.out] = self.weights[stage.weight].shape[0]
                read |= set(stage.sources)
            elif isinstance(stage, Norm):
                self.width[stage.out] = self.width[stage.source]
            else:
                if stage.recurrent is not None:
                    hidden = self.width[stage.recurrent] // stage.cell.num_gates
                else:
                    hidden = self.width[stage.carried[0]]
                self.width |= dict.fromkeys(stage.out, hidden)
                written += stage.out
                read |= set(stage.carried)
        inner = [name for stage in stages for name in (stage.out if isinstance(stage, Gates) else (stage.out,))]
        self.own = [n for n in inner if (n in read or n in written) and (n not in states or n in self.partly)]
        self.own += [n for n in inner if n in states and n in self.partly and n not in self.own]

    def _find_shared(self) -> None:
        products = {stage.out: stage for stage in self.chain.stages if isinstance(stage, Product)}
        self.whole = {name for name, stage in products.items() if stage.add_input}
        self.shared = set(self.whole)
        for stage in self.chain.stages:
            if isinstance(stage, Gates) and stage.recurrent and stage.first == 0 and not stage.cell.split:
                if stage.recurrent not in self.lasting and self.width[stage.recurrent] == self.num_columns:
                    self.shared.add(stage.recurrent)
                    self.whole |= {stage.recurrent} & products.keys()

    def dtype_of(self, name: str) -> torch.dtype:
        return self.x.dtype if name == self.chain.output else self.work

    def kept_by(self, stage: Product | Norm | Gates) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Return shapes and dtypes of what a stage keeps of a step."""
        if isinstance(stage, Norm):
            return [(shape, self.work) for shape in self.kit.norm_keeps(self.batch, self.width[stage.source])]
        if isinstance(stage, Gates):
            return self.kit.keeps(self.cell_of(stage), self.batch, self.width[stage.out[0]], self.x.dtype)
        return []

    def cell_of(self, stage: Gates) -> Cell:
        """Return the gate maths of an update: the variant that takes a mask, when candidates are dropped."""
        if self.masks.candidate is None or stage.cell.dropped is None:
            return stage.cell
        return stage.cell.dropped

    def carried(self, stage: Gates) -> list[Sequence[Tensor]]:
        """Return what enters a gate update element by element: for each value its tensor (B, W) at each step."""
        values = [self.rows[name] for name in stage.carried]
        if self.masks.candidate is not None and stage.cell.dropped is not None:
            values.append(self.masks.candidate.to(self.work))
        return values

    def set_states(self, buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Take the buffers (T+1, B, W) of the states and (T, B, W) of the other values as rows."""
        for name, buffer in zip(self.chain.states, buffers, strict=True):
            rows = buffer.unbind(0)
            self.rows[f"{name}_prev"], self.rows[f"{name}_next"] = self.ends(rows)
            self.rows[name] = self.rows[f"{name}_next"]
        for name, buffer in zip(self.own, values, strict=True):
            self.rows[name] = buffer.unbind(0) if len(buffer) == self.num_steps else tuple(buffer) * self.num_steps

    def ends(self, rows: Any) -> tuple[Any, Any]:
        return (rows[1:], rows[:-1]) if self.reverse else (rows[:-1], rows[1:])

    def source(self, stage: Product, t: int) -> Tensor:
        """Return what a product multiplies at step t (B, K)."""
        masks = self.masks.sources
        parts = [self.rows[n][t] * masks[n] if n in masks else self.rows[n][t] for n in stage.sources]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(self.x.dtype)


def affine(frame: Frame, stage: Norm) -> tuple[Tensor, Tensor | None]:
    shift = None if stage.shift is None else frame.weights.get(stage.shift)
    gain = settled(frame.weights[stage.gain]).to(frame.work).contiguous()
    return gain, None if shift is None else settled(shift).to(frame.work).contiguous()
