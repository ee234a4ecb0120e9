"""Which Triton schedule a layer is for, and with which tiles: a pure function of cell, sizes and chip.

| schedule | chains | weights | from |
| --- | --- | --- | --- |
| sequence | any whose values are as wide as its states | must fit on the chip | 16 steps |
| step | one product, one gate update | any | 1 step |
| pointwise | any | any | 1 step |

The first that can run a layer is its plan. The order is that of the rooflines in the design of the kernels and has been
measured on no GPU: `backend="auto"` does not follow it, `backend="sequence"` and `"step"` do as they are told.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.launch import chip_of
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.layout import Weights, named_weights
from rnnlab_kernels.schedules.persistent.tiles import Tiling, heads_of, plan_for

ORDER = ("sequence", "step", "pointwise")
SHORT = 16  # fewer steps do not repay the loading of weights and the first barrier


class Plan(NamedTuple):
    """What runs a layer.

    Attributes:
        schedule: one of `ORDER`.
        tiles: of all but pointwise.
        reason: in a few words.
        passed: why not, for each schedule before it in `ORDER`.
    """

    schedule: str
    tiles: Tiling | None
    reason: str
    passed: Mapping[str, str]


def plan(
    cell: Cell | Chain,
    num_steps: int,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    sm_count: int,
    smem_bytes: int,
    *,
    tf32: bool = False,
    heads: int = 1,
    additions: Additions = PLAIN,
) -> Plan:
    """Return the schedule and its tiles for one layer in one direction.

    Args:
        cell: gate maths or a chain.
        num_steps, batch, hidden: T, B, H.
        dtype: of storage.
        sm_count, smem_bytes: multiprocessors of the chip, and the shared memory that one program may use.
        tf32: fp32 values are multiplied in TF32.
        heads: of the recurrent weights.
        additions: resets, noise, clipping.
    """
    passed: dict[str, str] = {}
    for schedule in ORDER[:-1]:
        if schedule == "sequence" and num_steps < SHORT:
            passed[schedule] = f"{num_steps} steps do not repay the loading of weights"
            continue
        chip = sm_count, smem_bytes, tf32
        tiles, reason = tiles_of(schedule, cell, batch, hidden, dtype, chip, heads=heads, additions=additions)
        if tiles is not None:
            return Plan(schedule, tiles, reason, passed)
        passed[schedule] = reason
    return Plan("pointwise", None, "a product and a launch for each stage of a step", passed)


def tiles_of(
    schedule: str,
    cell: Cell | Chain,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    chip: tuple[int, int, bool],
    *,
    heads: int = 1,
    additions: Additions = PLAIN,
) -> tuple[Tiling | None, str]:
    """Return the tiles of one of the schedules, None where it cannot run the layer, and the reason in a few words.

    Args:
        schedule: "sequence" or "step".
        cell, batch, hidden, dtype, heads, additions: as in `plan`.
        chip: multiprocessors, shared memory, TF32; `launch.chip_of` returns those of a device.
    """
    chain = cell if isinstance(cell, Chain) else as_chain(cell)
    return plan_for(chain, additions, batch, hidden // heads, dtype, chip, heads, schedule == "step")


def sequence_both_ways(
    cell: Cell | Chain,
    x: Tensor,
    states: Sequence[tuple[Tensor, ...]],
    weights: Sequence[Weights | Mapping[str, Tensor]],
    mask: Tensor | None,
    additions: Sequence[Additions],
) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Return output and last states of both directions of a layer: in one launch each way if that can be, else in two.

    Arguments as in `both_ways` of the persistent schedule; the directions may also have resets of their own.
    """
    from rnnlab_kernels.schedules.persistent import api

    sides = [named_weights(cell, own, dense=False) for own in weights]
    chain, first = sides[0]
    # Under torch.compile sizes may be any, and nothing is decided by them: two launches are always right.
    together = not torch.compiler.is_compiling() and "ih" in first and set(first) == set(sides[1][1])
    if together and additions[0].reset is None is additions[1].reset:
        heads = 2 * heads_of(first.values())
        batch, width, chip = x.shape[1], 2 * states[0][0].shape[1], chip_of(x.dtype, x.device)
        tiles, _ = tiles_of("sequence", chain, batch, width, x.dtype, chip, heads=heads, additions=additions[0])
        if tiles is not None:
            output, finals = api.both_ways(cell, x, states, weights, mask, additions=additions)
            return list(zip(output.chunk(2, -1), finals, strict=True))
    calls = zip(states, weights, (False, True), additions, strict=True)
    return [api.sequence(cell, x, state, own, mask, reverse=back, additions=added) for state, own, back, added in calls]
