"""What forecasts of one series from many origins share: their arguments, and statsmodels, loaded on first use."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def check_origins(
    series: np.ndarray, num_fit: int, first_targets: Sequence[int] | np.ndarray, horizon: int, missing: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Return the series in float64 (T,) and the first targets as int64 (N,).

    Args:
        series: values in time order (T,).
        num_fit: how many of the first values parameters are estimated on.
        first_targets: index of the first step of each forecast; T is the step after the series.
        horizon: K, steps of each forecast.
        missing: name of a method that cannot do without a value; '' where NaN may stand for one.

    Raises:
        ValueError: a number is out of range, or a value is missing.
    """
    series = np.asarray(series, dtype=np.float64)
    targets = np.asarray(first_targets, dtype=np.int64)
    if series.ndim != 1:
        raise ValueError(f"expected one series (T,), got shape {series.shape}")
    if not 1 <= num_fit <= len(series):
        raise ValueError(f"num_fit must be from 1 to {len(series)}, the length of the series, got {num_fit}")
    if len(targets) and not (1 <= targets.min() and targets.max() <= len(series)):
        raise ValueError(f"first_targets must be from 1 to {len(series)}, got {targets.min()} to {targets.max()}")
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, got {horizon}")
    lacking = np.flatnonzero(~np.isfinite(series))
    if missing and len(lacking):
        raise ValueError(f"{missing} needs every value, and the series lacks {len(lacking)}, the first at {lacking[0]}")
    return series, targets


def statsmodels(module: str, method: str) -> Any:
    """Return a module below `statsmodels`.

    Raises:
        ImportError: it is not installed; says how to get it, and what `method` needs it.
    """
    try:
        return importlib.import_module(f"statsmodels.{module}")
    except ImportError as error:
        raise ImportError(
            f"the {method} baseline needs statsmodels, the extra `baselines`: pip install 'rnnlab[baselines]'"
        ) from error
