"""Seasonal ARIMA by statsmodels, which is imported on first use (extra `baselines`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def arima(
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    order: Sequence[int] = (1, 0, 0),
    seasonal_order: Sequence[int] = (0, 0, 0, 0),
) -> np.ndarray:
    """Fit once, then forecast from many origins without refitting.

    Each forecast knows every value before its first target; only the parameters stem from the fitted part. They are
    those of the greatest likelihood, with the variance of the noise solved for: where it is searched for as one
    parameter more, a small one stops the search early, and the forecasts depend on the unit of the series.

    Args:
        series: values in time order (T,).
        num_fit: how many of the first values the parameters are estimated on.
        first_targets: index of the first step of each forecast, N of them.
        horizon: K, steps of each forecast.
        order: (p, d, q).
        seasonal_order: (P, D, Q, season).

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ImportError: statsmodels is not installed.
        ValueError: `num_fit` or a target lies outside the series.
    """
    try:
        from statsmodels.tsa.statespace.sarimax import SARIMAX
    except ImportError as error:
        raise ImportError(
            "the ARIMA baseline needs statsmodels, the extra `baselines`: pip install 'rnnlab[baselines]'"
        ) from error
    series = np.asarray(series, dtype=np.float64)
    targets = np.asarray(first_targets, dtype=np.int64)
    if not 1 <= num_fit <= len(series):
        raise ValueError(f"num_fit must be from 1 to {len(series)}, the length of the series, got {num_fit}")
    if len(targets) and not (1 <= targets.min() and targets.max() < len(series)):
        raise ValueError(f"first_targets must be from 1 to {len(series) - 1}, got {targets.min()} to {targets.max()}")
    orders = {"order": tuple(order), "seasonal_order": tuple(seasonal_order)}
    model = SARIMAX(series[:num_fit], **orders, concentrate_scale=True)
    fitted = model.fit(disp=False) if model.k_params else model.smooth([])  # a random walk has nothing to search for
    filtered = fitted.apply(series)
    if horizon == 1:
        return np.asarray(filtered.predict())[targets, None]
    forecasts = [filtered.predict(start=t, end=t + horizon - 1, dynamic=True) for t in targets.tolist()]
    return np.stack(forecasts) if forecasts else np.empty((0, horizon))
