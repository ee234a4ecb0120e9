"""Rows of unequal length: steps outside them are not computed.

With the longest rows first, those that are inside their length at a step are the first ones, of each tile and of the
batch. A step then goes over that many rows of a tile; what holds the states of the others is instructions of its own
(machine.py). The order is that of the call's memory between forward and backward, and nobody else's.

T time, B batch, R rows of a tile.
"""

import torch
from torch import Tensor

from rnnlab_kernels.schedules.stepwise.frame import Frame

WORTH = 0.9  # the part of all steps that lies inside of rows from which rows stay in the order they have


def order_of(mask: Tensor | None) -> Tensor | None:
    """Return rows in an order, those with most steps inside the mask (T, B, 1) first; None where that is no gain."""
    if mask is None or mask.shape[1] == 1 or not mask.numel():
        return None
    lengths = mask.expand(-1, -1, 1).sum((0, 2))
    if int(lengths.sum()) > WORTH * mask.shape[0] * mask.shape[1]:
        return None
    return lengths.argsort(descending=True, stable=True)


def reorder(frame: Frame, order: Tensor) -> None:
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


def prefixes(mask: Tensor, rows: int) -> Tensor:
    """Return for each step and tile of R rows (T, tiles) how many of the first rows hold all that are inside the mask
    (T, B, 1), -1 where that is every row."""
    num_steps, batch = mask.shape[:2]
    num_tiles = -(-batch // rows)
    inside = torch.zeros(num_steps, num_tiles * rows, dtype=torch.int64)
    inside[:, :batch] = mask.squeeze(-1)
    tiles = inside.view(num_steps, num_tiles, rows)
    there = torch.full((num_tiles,), rows)
    there[-1:] = batch - rows * (num_tiles - 1)
    last = (tiles * torch.arange(1, rows + 1)).amax(-1)
    return torch.where(tiles.sum(-1) == there, -1, last)
