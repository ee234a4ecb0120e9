"""Seasonal ARIMA by statsmodels, which is imported on first use (extra `baselines`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnnlab.baselines.origins import check_origins, statsmodels
from rnnlab.baselines.state_space import StateSpaceFit, deviation, search


def arima(
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    order: Sequence[int] = (1, 0, 0),
    seasonal_order: Sequence[int] = (0, 0, 0, 0),
    constant: bool = False,
) -> np.ndarray:
    """Fit once, then forecast from many origins without refitting.

    Each forecast knows every value before its first target; only the parameters stem from the fitted part.

    Args:
        series: values in time order (T,), NaN where one is missing.
        num_fit: how many of the first values the parameters are estimated on.
        first_targets: index of the first step of each forecast, N of them, T being the step after the series.
        horizon: K, steps of each forecast.
        order: (p, d, q).
        seasonal_order: (P, D, Q, season).
        constant: estimate a mean too; with differences, of these, which is a drift.

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ImportError: statsmodels is not installed.
        ValueError: `num_fit` or a target lies outside the series.
    """
    series, targets = check_origins(series, num_fit, first_targets, horizon)
    return fit_arima(series[:num_fit], order, seasonal_order, constant).forecast(series, targets, horizon)


def fit_arima(
    series: np.ndarray,
    order: Sequence[int] = (1, 0, 0),
    seasonal_order: Sequence[int] = (0, 0, 0, 0),
    constant: bool = False,
) -> StateSpaceFit:
    """Return the model of the greatest likelihood, with the variance of the noise solved for, not searched for."""
    sarimax = statsmodels("tsa.statespace.sarimax", "ARIMA").SARIMAX
    unit = deviation(series)
    orders = {"order": tuple(order), "seasonal_order": tuple(seasonal_order)}
    model = sarimax(series / unit, **orders, trend="c" if constant else None, concentrate_scale=True)
    return StateSpaceFit(search(model, f"ARIMA{tuple(order)}{tuple(seasonal_order)}"), unit)
