"""The symbols that every target has, by number, and what a decoder reads of a target."""

from __future__ import annotations

import torch
from torch import Tensor

PADDING, UNKNOWN, START, END = 0, 1, 2, 3


def decoder_input(target: Tensor) -> Tensor:
    """Return what is read before each symbol of a target (B, U): START, and then the target but for its last one."""
    return torch.cat([target.new_full((len(target), 1), START), target[:, :-1]], dim=1)
