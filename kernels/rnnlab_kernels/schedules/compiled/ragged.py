"""Rows of unequal length: steps outside them are not computed.

With the longest rows first, those that are inside their length at a step are the first ones, of each tile and of the
batch. A step then goes over that many rows of a tile; what holds the states of the others is instructions of its own
(machine.py). The order is that of the call's memory between forward and backward, and nobody else's.

T time, B batch, R rows of a tile.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.schedules.stepwise.frame import Frame

WORTH = 0.9  # the part of all steps that lies inside of rows from which rows stay in the order they have
SMALL = 1 << 17  # elements of a state over time below which all steps are computed: to look at the mask takes as long


class Rows(NamedTuple):
    """Which rows a pass goes over, if they are not of one length.

    Attributes:
        active: for each step and tile (T, tiles) over how many of its first rows it goes, -1 where all are inside.
        inside: the places of rows inside the mask among T*B; None if all are gone over.
    """

    active: Tensor
    inside: Tensor | None


def _is_small(frame: Frame) -> bool:
    return frame.num_steps * frame.batch * max(frame.width.values()) < SMALL


def in_order(frame: Frame) -> Tensor | None:
    """Put the rows with most steps first, and return their order; None if they stay as they are."""
    mask = frame.call.mask
    if mask is None or frame.batch == 1 or _is_small(frame):
        return None
    lengths = mask.expand(-1, -1, 1).sum((0, 2))
    if int(lengths.sum()) > WORTH * frame.num_steps * frame.batch:
        return None
    order = lengths.argsort(descending=True, stable=True)
    _reorder(frame, order)
    return order


def rows_of(frame: Frame, rows: int) -> Rows | None:
    """Return which rows are gone over, of tiles of R; None without a mask."""
    mask, num_steps, batch = frame.call.mask, frame.num_steps, frame.batch
    if mask is None:
        return None
    num_tiles = -(-batch // rows)
    if _is_small(frame):
        return Rows(torch.full((num_steps, num_tiles), rows), None)
    flags = torch.zeros(num_steps, num_tiles * rows, dtype=torch.int64)
    flags[:, :batch] = mask.squeeze(-1)
    tiles = flags.view(num_steps, num_tiles, rows)
    there = torch.full((num_tiles,), rows)
    there[-1:] = batch - rows * (num_tiles - 1)
    last = (tiles * torch.arange(1, rows + 1)).amax(-1)
    active = torch.where(tiles.sum(-1) == there, -1, last)
    return Rows(active, flags[:, :batch].flatten().nonzero().squeeze(1))


def _reorder(frame: Frame, order: Tensor) -> None:
    """Put the rows of a pass in an order."""
    call, masks = frame.call, frame.masks
    assert call.mask is not None
    reset = call.additions.reset
    if reset is not None:
        reset = reset.expand(-1, len(order), -1).index_select(1, order)
    mask = call.mask.expand(-1, len(order), -1).index_select(1, order)
    frame.call = call._replace(mask=mask, additions=call.additions._replace(reset=reset))
    frame.x = frame.x.index_select(1, order)
    frame.state_0 = tuple(value.index_select(0, order) for value in frame.state_0)
    frame.candidate = [part.index_select(1, order) for part in frame.candidate]
    frame.masks = masks._replace(
        sources={name: part.index_select(0, order) for name, part in masks.sources.items()},
        update=tuple(part.index_select(1, order) if isinstance(part, Tensor) else part for part in masks.update),
    )
