"""A mask as an operator, `rnnlab::keep_mask`, for a seed whose value is not known before the graph runs.

Nothing imports this module before it is needed: torch.library takes a second to import.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rnnlab_kernels.schedules.noise.draw import draw_mask


@torch.library.custom_op("rnnlab::keep_mask", mutates_args=())
def keep_mask(
    seed: Tensor, stream: int, first: int, shape: Sequence[int], p: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return `masks.keep_mask` of a tensor."""
    num_steps, batch, hidden = shape
    return draw_mask(int(seed), stream, first, (num_steps, batch, hidden), p, device, dtype)


@keep_mask.register_fake
def _(
    seed: Tensor, stream: int, first: int, shape: Sequence[int], p: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    return torch.empty(shape, device=device, dtype=dtype)
