"""Forecasts that cost nothing: the last value, and the value one season ago.

Letters: N series, T known steps, K forecast steps.
"""

from __future__ import annotations

import numpy as np


def naive(history: np.ndarray, horizon: int) -> np.ndarray:
    """Repeat the last known value.

    Args:
        history: known values (N, T), the latest last.
        horizon: K, how many steps to forecast.

    Returns:
        Forecasts (N, K).

    Example:
        >>> naive(np.array([[1.0, 2.0, 3.0]]), 2)
        array([[3., 3.]])
    """
    return np.repeat(history[:, -1:], horizon, axis=1)


def seasonal_naive(history: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Repeat the last known season.

    Args:
        history: known values (N, T), the latest last.
        horizon: K, how many steps to forecast.
        season: steps of one season, 1 to T; 1 is the naive forecast.

    Returns:
        Forecasts (N, K).

    Raises:
        ValueError: the history is shorter than a season.

    Example:
        >>> seasonal_naive(np.array([[1.0, 2.0, 3.0]]), horizon=3, season=2)
        array([[2., 3., 2.]])
    """
    num_steps = history.shape[1]
    if not 1 <= season <= num_steps:
        raise ValueError(f"season must be from 1 to the {num_steps} known steps, got {season}")
    return history[:, num_steps - season + np.arange(horizon) % season]
