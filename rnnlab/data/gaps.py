"""What stands for missing values."""

from __future__ import annotations

import numpy as np


def fill(values: np.ndarray, policy: str) -> np.ndarray:
    """Return values (T, C) in which others stand for NaN; those stay NaN for which the policy has none.

    Args:
        values: float64 (T, C).
        policy: 'hold': the last value before; 'linear': a line between the values before and after; others: none.
    """
    if policy not in ("hold", "linear") or not np.isnan(values).any():
        return values
    is_known, steps = np.isfinite(values), np.arange(len(values))
    result = values.copy()
    if policy == "hold":
        last = np.maximum.accumulate(np.where(is_known, steps[:, None], -1), axis=0)
        held = np.take_along_axis(values, last.clip(0), axis=0)
        return np.where(last < 0, np.nan, held)
    for column, known in enumerate(is_known.T):
        if known.any():
            result[:, column] = np.interp(steps, steps[known], values[known, column], left=np.nan, right=np.nan)
    return result


def first_missing(values: np.ndarray) -> tuple[int, int] | None:
    """Return row and column of the first NaN of values (T, C), by row."""
    rows = np.flatnonzero(np.isnan(values).any(axis=1))
    return (int(rows[0]), int(np.isnan(values[rows[0]]).argmax())) if len(rows) else None


def count_rows(values: np.ndarray) -> int:
    """Return the number of rows of values (T, C) up to the last that is not all NaN."""
    return max(
        (len(column) - int(np.isfinite(column[::-1]).argmax()) if np.isfinite(column).any() else 0)
        for column in values.T
    )
