"""Autoregression by least squares, one step after the other: x_t = w_0 x_{t-1} + ... + w_{p-1} x_{t-p} + w_p."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnnlab.baselines.linear import LinearForecast, fit_ols
from rnnlab.baselines.origins import check_origins


def ar(
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    order: int = 1,
) -> np.ndarray:
    """Fit AR(p) once by least squares, then forecast from many origins without refitting.

    Args:
        series: values in time order (T,), none missing.
        num_fit: how many of the first values the weights are estimated on.
        first_targets: index of the first step of each forecast, N of them, each with p steps before it, T being the
            step after the series.
        horizon: K, steps of each forecast; each step reads the forecasts of those before it.
        order: p.

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ValueError: an argument is out of range, or p + 1 weights need more values.
    """
    series, targets = check_origins(series, num_fit, first_targets, horizon, missing="ar")
    if not 1 <= order <= (num_fit - 1) // 2:
        raise ValueError(f"order must be from 1 to {(num_fit - 1) // 2} for {num_fit} values to fit, got {order}")
    if len(targets) and targets.min() < order:
        raise ValueError(f"first_targets must have the order, {order}, before them, got {targets.min()}")
    steps = np.arange(order, num_fit)
    model = fit_ols(series[steps[:, None] + np.arange(-order, 0)], series[steps, None])
    return iterate(model, series[targets[:, None] + np.arange(-order, 0)], horizon)


def iterate(model: LinearForecast, lags: np.ndarray, horizon: int) -> np.ndarray:
    """Return forecasts (N, K) of a map from lags (N, T) to the next step, by putting each where the latest lag was.

    Example:
        >>> doubling = LinearForecast(weight=np.array([[0.0], [2.0]]), intercept=np.zeros(1))
        >>> iterate(doubling, np.array([[5.0, 1.0]]), horizon=3)
        array([[2., 4., 8.]])
    """
    known = np.concatenate([lags.astype(np.float64), np.empty((len(lags), horizon))], axis=1)
    for step in range(lags.shape[1], known.shape[1]):
        known[:, step] = model(known[:, step - lags.shape[1] : step])[:, 0]
    return known[:, lags.shape[1] :]
