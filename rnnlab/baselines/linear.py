"""Ordinary least squares on lags: one linear map from the known values to all forecast steps.

Letters: N series, T lags, K forecast steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LinearForecast(NamedTuple):
    """A fitted map; `model(lags)` forecasts.

    Attributes:
        weight: (T, K), float64.
        intercept: (K,), float64.
    """

    weight: np.ndarray
    intercept: np.ndarray

    def __call__(self, lags: np.ndarray) -> np.ndarray:
        """Return forecasts (N, K) from lags (N, T)."""
        return lags.astype(np.float64) @ self.weight + self.intercept


def fit_ols(lags: np.ndarray, targets: np.ndarray) -> LinearForecast:
    """Fit by least squares in closed form, in float64, every forecast step on its own ("direct").

    With fewer rows than unknowns the solution of least norm is taken.

    Args:
        lags: known values (N, T).
        targets: what followed them (N, K).

    Raises:
        ValueError: shapes do not fit together.

    Example:
        >>> model = fit_ols(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]]))
        >>> model(np.array([[10.0]])).round(6)
        array([[21.]])
    """
    if lags.ndim != 2 or targets.ndim != 2 or len(lags) != len(targets):
        raise ValueError(f"expected lags (N, T) and targets (N, K), got shapes {lags.shape} and {targets.shape}")
    design = np.concatenate([lags, np.ones((len(lags), 1))], axis=1, dtype=np.float64)
    solution = np.linalg.lstsq(design, targets.astype(np.float64), rcond=None)[0]
    return LinearForecast(weight=solution[:-1], intercept=solution[-1])
