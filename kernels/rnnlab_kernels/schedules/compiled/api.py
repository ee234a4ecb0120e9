"""All of time in one compiled call on a CPU, by Numba, for any chain of stages. float32 only.

Rows of a batch never meet inside a recurrence, so that each of torch's threads takes a tile of rows through all of time
without waiting for another: products, gates, norms, masks and what else a step has, in one call each way. Backward
writes gradients of pre-activations; those of weights and of the input are large products over T*B rows after it
(stepwise/gradients.py). What a step does is a list of instructions (machine.py), put together for each call
(forward.py, backward.py); compiled are the instructions alone, a cell's two when it is first used.

T time, B batch, H units, S saved values, W width of a value. Saved for backward: as in stepwise/run.py, but for

| tensor | shape |
| --- | --- |
| what a gate update keeps | (T, S, B, H) |
| of a norm: its source | (T, B, W), by gates |
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.launch import fused_supported
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.compiled.run import run_backward, run_forward
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.stepwise.run import Tensors, recurrence


class CompiledStep:
    """A gate update of a recurrence whose passes are compiled as a whole; see `frame.Step`."""

    differentiable = True
    keeps_tensors = True
    run_forward, run_backward = staticmethod(run_forward), staticmethod(run_backward)

    def __init__(self, cell: Cell, first: int) -> None:
        self.cell = cell

    @staticmethod
    def keeps(cell: Cell, batch: int, hidden: int, dtype: torch.dtype) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [((len(cell.saved), batch, hidden), dtype)]

    @staticmethod
    def norm_keeps(batch: int, width: int, outlasts: bool) -> list[tuple[int, ...]]:
        return [] if outlasts else [(batch, width)]


def fused(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction in one compiled call each way. Arguments and results as `kit_torch.eager`.

    Raises:
        RuntimeError: tensors other than float32 on a CPU, `launch.fused_supported` says so in words.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        raise RuntimeError(f"the fused schedule cannot run this: {fused_supported(x.device, x.dtype)[1]}")
    return recurrence("fused", cell, x, state_0, weights, mask, reverse=reverse, additions=additions)
