"""The recurrence with its gate maths by torch operators: any device, any real dtype."""

from collections.abc import Mapping, Sequence
from itertools import repeat

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_torch
from rnnlab_kernels.cells.chain import EPS, Chain
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.stepwise.backward import run_backward
from rnnlab_kernels.schedules.stepwise.forward import run_forward
from rnnlab_kernels.schedules.stepwise.run import Tensors, recurrence, working_dtype


class TorchStep:
    """Gate maths by torch operators; see `recurrence.Step`."""

    differentiable = True
    keeps_tensors = False
    run_forward, run_backward = staticmethod(run_forward), staticmethod(run_backward)

    def __init__(self, cell: Cell, first: int) -> None:
        self.cell, self.first = cell, first
        self.num_gates, self.num_merged = cell.num_gates, cell.num_merged
        assert cell.gates_bwd is not None
        self._fwd, self._bwd = bind_torch(cell.gates_fwd), bind_torch(cell.gates_bwd)

    def fwd(self, gates_x: Tensor | None, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        num_gates, num_merged, hidden = self.num_gates, self.num_merged, out[0].shape[1]
        work = working_dtype(out[0].dtype)
        gates: Sequence[Tensor]
        if gates_x is not None:
            if gates_x.shape[1] != num_gates * hidden:
                gates_x = gates_x.narrow(1, self.first * hidden, num_gates * hidden)
            gates_x = gates_x.to(work)
        if gates_x is None or gates_h is None:
            only = gates_h if gates_x is None else gates_x
            assert only is not None
            gates = only.to(work).chunk(num_gates, 1)
        else:
            gates_h = gates_h.to(work)
            width = num_merged * hidden
            gates_h[:, :width] += gates_x[:, :width]
            parts = gates_h.chunk(num_gates, 1)
            # Copies, or what is kept of them for backward would keep the merged parts in memory too.
            parts_h = [part.clone() for part in parts[num_merged:]]
            gates = (*parts[:num_merged], *gates_x[:, width:].split(hidden, 1)[: self.cell.split], *parts_h)
        state, saved = self._fwd(gates, tuple(map(Tensor.to, carried, repeat(work))))
        for target, value in zip(out, state, strict=True):
            target.copy_(value)
        return saved

    @staticmethod
    def keeps(cell: Cell, batch: int, hidden: int, dtype: torch.dtype) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [((batch, hidden), working_dtype(dtype))] * len(cell.saved)

    @staticmethod
    def norm_keeps(batch: int, width: int, outlasts: bool) -> list[tuple[int, ...]]:
        return [(batch, width), (batch, 1), (batch, 1)]

    def views(self, buffer: Tensor, hidden: int) -> Sequence[Tensors]:
        width = self.num_gates * hidden
        # A recurrent part holds these gates alone.
        first = self.first * hidden if buffer.shape[-1] > width else 0
        return list(zip(*map(Tensor.unbind, buffer.narrow(-1, first, width).split(hidden, -1)), strict=True))

    def bwd(
        self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dx: Tensors | None, dh: Tensors | None
    ) -> Tensors:
        num_gates, num_merged = self.num_gates, self.num_merged
        work = dstate[0].dtype
        before, after = tuple(map(Tensor.to, carried, repeat(work))), tuple(map(Tensor.to, state, repeat(work)))
        dgates, dcarried = self._bwd(dstate, saved, before, after)
        # One copy a gate: torch.cat into strided memory measured four times slower.
        for target, value in zip(dx or (), dgates, strict=False):
            target.copy_(value)
        for target, value in zip(dh or (), (*dgates[:num_merged], *dgates[num_gates:]), strict=False):
            target.copy_(value)
        return dcarried

    @staticmethod
    def norm_fwd(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensors]:
        y, mean, rstd = torch.native_layer_norm(x, gain.shape, gain, shift, EPS)
        return y, (x, mean, rstd)

    @staticmethod
    def norm_bwd(dy: Tensor, saved: Tensors, gain: Tensor, dgain: Tensor, dshift: Tensor | None) -> Tensor:
        x, mean, rstd = saved
        wanted = [True, True, dshift is not None]
        backward = torch.ops.aten.native_layer_norm_backward.default
        dx, *found = backward(dy, x, gain.shape, mean, rstd, gain, dshift, wanted)
        for total, grad in zip((dgain, dshift), found, strict=True):
            if total is not None:
                total += grad
        return dx


def eager(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction by torch operators, with a hand-written backward pass.

    Args:
        cell: what a step does: a chain, or the gate maths of a cell that is one recurrent product and one gate update.
        x: (T, B, I) inputs, T >= 1; without a weight "ih" the input part of the gates (T, B, N).
        state_0: initial states (B, W) in the order of `cell.states`; any strides.
        weights: parameters, of the dtype and device of `x`, by the names of the chain.
        mask: (T, B, 1) boolean or None. Where False, a row's state is held and its output is zero.
        reverse: from the last step to the first.
        additions: resets, dropout, zoneout, clipping.

    Returns:
        output (T, B, W) aligned with `x`, and the states after the last visited step.
    """
    return recurrence("eager", cell, x, state_0, weights, mask, reverse=reverse, additions=additions)
