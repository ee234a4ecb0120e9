"""Rows of unequal length: steps outside them are not computed.

With the longest rows first, those that are inside their length at a step are the first ones, of each tile and of the
batch. A step then goes over that many rows of a tile; what holds the states of the others is instructions of its own
(machine.py). The order is that of the call's memory between forward and backward, and nobody else's: rows of the input
and of the output are read and written by their numbers.

T time, B batch, R rows of a tile.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab_kernels.schedules.stepwise.frame import Frame

WORTH = 0.9  # the part of all steps that lies inside of rows from which rows stay in the order they have
SMALL = 1 << 17  # elements of a state over time below which all steps are computed: to look at the mask takes as long


class Rows(NamedTuple):
    """Which rows a pass goes over, if they are not of one length.

    Attributes:
        active: for each step and tile (T, tiles) over how many of its first rows it goes, -1 where all are inside.
        ahead: for each step and tile how many rows of those before it, tile by tile and step by step, are gone over.
        inside: the places among T*B of the rows that are gone over; None if those are all.
    """

    active: Tensor
    ahead: Tensor | None
    inside: Tensor | None


def _is_small(frame: Frame) -> bool:
    return frame.num_steps * frame.batch * max(frame.width.values()) < SMALL


def in_order(frame: Frame) -> Tensor | None:
    """Put the rows with most steps first, and return their order; None if they stay as they are."""
    mask = frame.call.mask
    if mask is None or frame.batch == 1 or _is_small(frame):
        return None
    lengths = mask.expand(-1, frame.batch, 1).squeeze(-1).numpy().sum(0)
    if int(lengths.sum()) > WORTH * frame.num_steps * frame.batch:
        return None
    order = torch.from_numpy((-lengths).argsort(kind="stable"))
    _reorder(frame, order)
    return order


def back_from(order: Tensor) -> Tensor:
    """Return where each row stands in an order."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return back


def rows_of(frame: Frame, rows: int) -> Rows | None:
    """Return which rows are gone over, of tiles of R; None without a mask."""
    mask, num_steps, batch = frame.call.mask, frame.num_steps, frame.batch
    if mask is None:
        return None
    num_tiles = -(-batch // rows)
    if _is_small(frame):
        return Rows(torch.full((num_steps, num_tiles), rows), None, None)
    flags = np.zeros((num_steps, num_tiles * rows), np.bool_)
    flags[:, :batch] = mask.expand(-1, batch, 1).squeeze(-1).numpy()
    tiles = flags.reshape(num_steps, num_tiles, rows)
    there = np.full(num_tiles, rows)
    there[-1:] = batch - rows * (num_tiles - 1)
    count = np.where(tiles.any(-1), rows - tiles[:, :, ::-1].argmax(-1), 0)
    active = np.where(tiles.sum(-1) == there, -1, count)
    ahead = count.cumsum().reshape(count.shape) - count
    gone_over = (np.arange(rows) < count[:, :, None]).reshape(flags.shape)[:, :batch]
    inside = np.flatnonzero(gone_over)
    return Rows(*map(torch.from_numpy, (active, ahead, inside)))


def _reorder(frame: Frame, order: Tensor) -> None:
    """Put the rows of a pass in an order."""
    call, masks = frame.call, frame.masks
    assert call.mask is not None
    reset = call.additions.reset
    if reset is not None:
        reset = reset.expand(-1, len(order), -1).index_select(1, order)
    mask = call.mask.expand(-1, len(order), -1).index_select(1, order)
    frame.call = call._replace(mask=mask, additions=call.additions._replace(reset=reset))
    frame.order = order
    frame.state_0 = tuple(value.index_select(0, order) for value in frame.state_0)
    frame.candidate = [part.index_select(1, order) for part in frame.candidate]
    frame.masks = masks._replace(
        sources={name: part.index_select(0, order) for name, part in masks.sources.items()},
        update=tuple(part.index_select(1, order) if isinstance(part, Tensor) else part for part in masks.update),
    )
