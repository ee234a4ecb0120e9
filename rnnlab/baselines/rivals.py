"""Forecasts of one series by the name of a method, all asked alike."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnlab.baselines.arima import arima
from rnnlab.baselines.autoregression import ar
from rnnlab.baselines.kalman import kalman
from rnnlab.baselines.naive import seasonal_naive
from rnnlab.baselines.origins import check_origins
from rnnlab.baselines.smoothing import ets, theta


def forecast_by(
    name: str,
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    season: int | None = None,
    *,
    log: bool = False,
    refit: bool = False,
    fit_last: int | None = None,
    **options: Any,
) -> np.ndarray:
    """Forecast a series from many origins. Each forecast knows every value before its first target, and none behind.

    Args:
        name: of `RIVALS`.
        series: values in time order (T,). NaN may stand for a missing one, but for ar, ets and theta; the naive ones
            repeat the last value that is there.
        num_fit: how many of the first values parameters are estimated on.
        first_targets: index of the first step of each forecast, N of them, T being the step after the series.
        horizon: K, steps of each forecast.
        season: steps of a season; None or 1 for none.
        log: forecast the logarithms, and give back the exponential of that: a median, not a mean.
        refit: estimate parameters anew at each origin, on all that is known there, instead of once.
        fit_last: use so many values to fit at most, the last ones, as if the series began there: a search takes time in
            proportion.
        options: of the method: `order` of ar; `order`, `seasonal_order` (P, D, Q) and `constant` of arima; `trend` and
            `seasonal` of ets; `level`, `harmonics` and `cycle` of kalman.

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ImportError: statsmodels is not installed, which arima, ets, theta and kalman need.
        ValueError: an unknown name or option, or an argument is out of range.

    Example:
        >>> forecast_by("seasonal_naive", np.array([1.0, 2.0, 3.0]), num_fit=2, first_targets=[3], horizon=3, season=2)
        array([[2., 3., 2.]])
    """
    check_rival(name, options, season)
    method = RIVALS[name]
    series, targets = check_origins(series, num_fit, first_targets, horizon)
    season = None if season == 1 and name != "seasonal_naive" else season
    if log and not (series[np.isfinite(series)] > 0).all():
        raise ValueError(f"log=true needs positive values, got {np.nanmin(series):g}")
    values = np.log(series) if log else series

    def ask(known: np.ndarray, fitted: int, origins: np.ndarray) -> np.ndarray:
        skipped = 0 if fit_last is None else max(0, fitted - fit_last)
        if len(origins) and origins.min() <= skipped:
            raise ValueError(f"fit_last={fit_last} leaves no value before target {origins.min()}")
        return method(known[skipped:], fitted - skipped, origins - skipped, horizon, season=season, **options)

    if refit:
        forecasts = [ask(values[:origin], origin, np.array([origin])) for origin in targets.tolist()]
        result = np.concatenate(forecasts) if forecasts else np.empty((0, horizon))
    else:
        result = ask(values, num_fit, targets)
    return np.exp(result) if log else result


def check_rival(name: str, options: Mapping[str, Any], season: int | None) -> None:
    """Raise ValueError unless `forecast_by` has this method, with these options of its own, for a season or none."""
    if name not in RIVALS:
        near = difflib.get_close_matches(str(name), RIVALS, n=1)
        hint = f", the nearest to {name!r}: {near[0]}" if near else f", got {name!r}"
        raise ValueError(f"a baseline must be one of {', '.join(RIVALS)}{hint}")
    method = RIVALS[name]
    allowed = [key for key in inspect.signature(method).parameters if key not in _COMMON]
    for key in options:
        if key not in allowed:
            raise ValueError(
                f"{name} has {'the options ' + ', '.join(allowed) if allowed else 'no options'}, got {key}"
            )
    if name == "seasonal_naive" and season is None:
        raise ValueError("seasonal_naive needs a season")


def _naive(series: np.ndarray, num_fit: int, first_targets: np.ndarray, horizon: int, season: int | None) -> np.ndarray:
    """The last value."""
    return _seasonal_naive(series, num_fit, first_targets, horizon, 1)


def _seasonal_naive(
    series: np.ndarray, num_fit: int, first_targets: np.ndarray, horizon: int, season: int | None
) -> np.ndarray:
    """The last season; what is missing of it, from the seasons before."""
    assert season is not None  # by `check_rival`
    if len(first_targets) and first_targets.min() < season:
        raise ValueError(f"seasonal_naive needs {season} values before a target, got {first_targets.min()}")
    known = series.copy()
    for step in np.flatnonzero(np.isnan(series[season:])) + season:
        known[step] = known[step - season]
    return seasonal_naive(known[first_targets[:, None] + np.arange(-season, 0)], horizon, season)


def _ar(
    series: np.ndarray,
    num_fit: int,
    first_targets: np.ndarray,
    horizon: int,
    season: int | None,
    order: int | None = None,
) -> np.ndarray:
    """AR of a given order, or of a season and one step more, which is enough to difference twice."""
    return ar(series, num_fit, first_targets, horizon, (season or 1) + 1 if order is None else order)


def _arima(
    series: np.ndarray,
    num_fit: int,
    first_targets: np.ndarray,
    horizon: int,
    season: int | None,
    order: Sequence[int] = (0, 1, 1),
    seasonal_order: Sequence[int] | None = None,
    constant: bool = False,
) -> np.ndarray:
    """ARIMA; with a season and nothing else said, the airline model of Box and Jenkins."""
    if seasonal_order is None:
        seasonal_order = (0, 1, 1)
    seasonal = (0, 0, 0, 0) if season is None else (*seasonal_order[:3], season)
    return arima(series, num_fit, first_targets, horizon, order, seasonal, constant)


# What every method is asked with, beside its own options.
_COMMON = ("series", "num_fit", "first_targets", "horizon", "season")
RIVALS: dict[str, Callable[..., np.ndarray]] = {
    "naive": _naive,
    "seasonal_naive": _seasonal_naive,
    "ar": _ar,
    "arima": _arima,
    "ets": ets,
    "theta": theta,
    "kalman": kalman,
}
