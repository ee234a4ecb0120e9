"""Quantiles of distributions that torch can draw from but not invert: Student's t and the negative binomial."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

_NODES = 513  # of the table of Student's t over 1 / freedom
_POINTS, _FAR = 8193, 14.0  # of the integral over asinh(t), which ends at t = 6e5
_CHUNK, _MOST = 256, 1_000_000  # counts whose shares are summed at once, and at all


def student_t_quantiles(freedom: Tensor, levels: Sequence[float]) -> Tensor:
    """Return quantiles of Student's t, within 1e-5 of their size and more from level 0.01 to 0.99.

    Read off a table over 1 / freedom, whose first line is the normal distribution.

    Args:
        freedom: degrees of freedom, at least 2, of any shape (...).
        levels: Q shares in (0, 1).

    Returns:
        (..., Q), of the dtype of `freedom`.
    """
    table = _student_t_table(tuple(levels)).to(freedom)  # (N, Q)
    place = (2 / freedom).clamp(0, 1) * (_NODES - 1)
    below = place.floor().clamp(max=_NODES - 2)
    low, high = table[below.long()], table[below.long() + 1]
    return low + (place - below).unsqueeze(-1) * (high - low)


@functools.lru_cache(maxsize=8)
def _student_t_table(levels: tuple[float, ...]) -> Tensor:
    """Return the quantiles for 1 / freedom from 0 to 1/2, float64 (N, Q).

    The density is summed over s = asinh(t) from the middle outwards by the trapezoidal rule, and the sums inverted.
    """
    level = torch.tensor(levels, dtype=torch.float64)
    share = (level - 0.5).abs() * 2
    freedom = 2 * (_NODES - 1) / torch.arange(1, _NODES, dtype=torch.float64).unsqueeze(1)
    s = torch.linspace(0, _FAR, _POINTS, dtype=torch.float64)
    density = (-(freedom + 1) / 2 * (s.sinh().square() / freedom).log1p()).exp() * s.cosh()  # (N - 1, points)
    sums = torch.cumulative_trapezoid(density, dim=1)
    sums = torch.cat([torch.zeros_like(freedom), sums], dim=1) / sums[:, -1:]
    right = torch.searchsorted(sums, share.expand(len(sums), -1).contiguous()).clamp(1, _POINTS - 1)
    low, high = sums.gather(1, right - 1), sums.gather(1, right)
    place = right - 1 + (share - low) / (high - low)
    size = (place * (_FAR / (_POINTS - 1))).sinh() * torch.sign(level - 0.5)
    return torch.cat([torch.special.ndtri(level).unsqueeze(0), size])


def negative_binomial_quantiles(mean: Tensor, shape: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the least counts whose share reaches each level, by adding shares from 0: its time goes with the counts.

    The variance is mean + mean^2 / shape.

    Args:
        mean, shape: float64 above 0, (...).
        levels: Q shares in (0, 1).

    Returns:
        Whole numbers (..., Q), float64; NaN of a distribution that goes beyond a million.
    """
    level = torch.tensor(levels, dtype=torch.float64, device=mean.device)
    shape_of_result, mean, shape = (*mean.shape, len(level)), mean.flatten(), shape.flatten()
    result = mean.new_zeros(len(mean), len(level))
    rows, reached = torch.arange(len(mean), device=mean.device), torch.zeros_like(mean)
    for start in range(0, _MOST, _CHUNK):
        counts = torch.arange(start, start + _CHUNK, dtype=torch.float64, device=mean.device)
        shares = negative_binomial_log_share(counts, mean[rows, None], shape[rows, None]).exp()
        sums = reached[:, None] + shares.cumsum(dim=1)
        result[rows] += torch.searchsorted(sums, level.expand(len(rows), -1).contiguous())
        is_open = ~(sums[:, -1] >= level[-1])  # so is NaN
        reached, rows = sums[is_open, -1], rows[is_open]
        if not len(rows):
            break
    result[rows] = torch.nan
    return result.view(shape_of_result)


def negative_binomial_log_share(count: Tensor, mean: Tensor, shape: Tensor) -> Tensor:
    """Return log P(count), float64; the variance is mean + mean^2 / shape."""
    log_ways = torch.lgamma(count + shape) - torch.lgamma(shape) - torch.lgamma(count + 1)
    return log_ways - shape * (mean / shape).log1p() - count * (shape / mean).log1p()
