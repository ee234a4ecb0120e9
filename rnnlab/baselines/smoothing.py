"""Exponential smoothing and the theta method, with parameters found by statsmodels (extra `baselines`)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnlab.baselines.origins import check_origins, statsmodels
from rnnlab.baselines.state_space import deviation

_TRENDS = ("none", "add", "damped")
_SEASONS = ("none", "add", "mul")
_AUTO = "auto"


class SmoothingFit(NamedTuple):
    """Level l, slope b and season s of exponential smoothing, and how fast they follow (Holt, 1957; Winters, 1960).

        l_t = alpha (y_t - s_{t-m}) + (1 - alpha) (l_{t-1} + phi b_{t-1})
        b_t = beta (l_t - l_{t-1}) + (1 - beta) phi b_{t-1}
        s_t = gamma (y_t - l_{t-1} - phi b_{t-1}) + (1 - gamma) s_{t-m}

    and K steps later l + (phi + ... + phi^K) b + s; a season that multiplies takes division and product instead of
    difference and sum. Without slope b and beta are 0, without season s and gamma.

    These are the lines that statsmodels fits by. Its own forecasts begin at the end of the series alone and, up to
    release 0.15, are off at every m-th step, where they take the last season but one (statsmodels#9538).

    Attributes:
        alpha, beta, gamma, phi: of the lines above.
        level, slope: before the first step.
        season: of the first m steps.
        multiplies: whether the season does.
    """

    alpha: float
    beta: float
    gamma: float
    phi: float
    level: float
    slope: float
    season: list[float]
    multiplies: bool

    def forecast(self, series: np.ndarray, first_targets: np.ndarray, horizon: int) -> np.ndarray:
        """Return forecasts (N, K): each knows the values of `series` (T,) before its first target, and none behind."""
        levels, slopes, seasons = [self.level], [self.slope], list(self.season)
        for step, value in enumerate(series.tolist()):
            level, slope, season = levels[-1], self.phi * slopes[-1], seasons[step]
            known = level + slope
            levels.append(
                self.alpha * (value / season if self.multiplies else value - season) + (1 - self.alpha) * known
            )
            slopes.append(self.beta * (levels[-1] - level) + (1 - self.beta) * slope)
            seasons.append(
                self.gamma * (value / known if self.multiplies else value - known) + (1 - self.gamma) * season
            )
        ahead = np.arange(horizon)
        season = np.array(seasons)[first_targets[:, None] + ahead % len(self.season)]
        slope = np.array(slopes)[first_targets, None] * np.cumsum(self.phi ** (1.0 + ahead))
        trend = np.array(levels)[first_targets, None] + slope
        return trend * season if self.multiplies else trend + season


def ets(
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    season: int | None = None,
    trend: str = _AUTO,
    seasonal: str = _AUTO,
) -> np.ndarray:
    """Fit exponential smoothing once, by least squares of one step, then forecast from many origins without refitting.

    Args:
        series, num_fit, first_targets, horizon: as of `arima`, but no value may be missing.
        season: steps of a season; None for none.
        trend: 'none', 'add', or 'damped', one that dies away; 'auto' chooses by the corrected criterion of Akaike.
        seasonal: 'none', 'add', or 'mul', for positive values; 'auto' chooses likewise. Trend 'add' and season 'mul'
            are Holt and Winters' form.

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ImportError: statsmodels is not installed.
        ValueError: an argument is out of range, or two seasons do not fit into what is fitted.
    """
    series, targets = check_origins(series, num_fit, first_targets, horizon, missing="ets")
    return fit_ets(series[:num_fit], season, trend, seasonal).forecast(series, targets, horizon)


def fit_ets(series: np.ndarray, season: int | None = None, trend: str = _AUTO, seasonal: str = _AUTO) -> SmoothingFit:
    """Return the exponential smoothing of least squares of one step; arguments as of `ets`."""
    for name, value, allowed in (("trend", trend, _TRENDS), ("seasonal", seasonal, _SEASONS)):
        if value not in (_AUTO, *allowed):
            raise ValueError(f"{name} must be one of {', '.join((_AUTO, *allowed))}, got {value!r}")
    seasons: tuple[str, ...] = (seasonal,)
    if season is None:
        if seasonal not in (_AUTO, "none"):
            raise ValueError(f"seasonal={seasonal} needs a season")
        seasons = ("none",)
    elif seasonal == _AUTO:
        seasons = _SEASONS if (series > 0).all() else _SEASONS[:2]
    if "mul" in seasons and not (series > 0).all():
        raise ValueError(f"seasonal=mul needs positive values, got {series.min():g}")
    if seasons != ("none",):
        _check_season(season, series)
    trends = _TRENDS if trend == _AUTO else (trend,)
    fits = [_minimise(series, season, one, other) for one in trends for other in seasons]
    return min(fits, key=lambda fit: fit[0])[1]


def _minimise(series: np.ndarray, season: int | None, trend: str, seasonal: str) -> tuple[float, SmoothingFit]:
    """Return the criterion of Akaike, corrected for few values, and the smoothing of least squares."""
    smoothing = statsmodels("tsa.holtwinters", "ETS").ExponentialSmoothing
    unit = deviation(series)
    kind = {
        "trend": None if trend == "none" else "add",
        "damped_trend": trend == "damped",
        "seasonal": None if seasonal == "none" else seasonal,
        "seasonal_periods": None if seasonal == "none" else season,
    }
    found = _search(smoothing(series / unit, **kind), f"exponential smoothing, trend {trend}, season {seasonal}")
    given = {name: value for name, value in found.params.items() if value is not None}

    def number(name: str, otherwise: float) -> float:
        value = float(given.get(name, math.nan))
        return otherwise if math.isnan(value) else value

    multiplies = seasonal == "mul"
    first = given["initial_seasons"] if seasonal != "none" else np.zeros(1)
    fit = SmoothingFit(
        alpha=number("smoothing_level", 0.0),
        beta=number("smoothing_trend", 0.0),
        gamma=number("smoothing_seasonal", 0.0),
        phi=number("damping_trend", 1.0),
        level=unit * number("initial_level", 0.0),
        slope=unit * number("initial_trend", 0.0),
        season=(np.asarray(first) * (1.0 if multiplies else unit)).tolist(),
        multiplies=multiplies,
    )
    return float(found.aicc), fit


def _search(model: Any, what: str) -> Any:
    """Return the results of least squares; goes on by another method, and at last warns, if a search does not end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the end of the search, which is looked at
        found = model.fit()
        if not found.mle_retvals.success:
            again = model.fit(method="SLSQP")
            found = again if again.sse <= found.sse or again.mle_retvals.success else found
    if not found.mle_retvals.success:
        warnings.warn(f"{what}: the search for parameters did not end: {found.mle_retvals.message}", stacklevel=4)
    return found


def theta(
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    season: int | None = None,
) -> np.ndarray:
    """Fit the theta method once, then forecast from many origins (Assimakopoulos and Nikolopoulos, 2000).

    Simple exponential smoothing, of the series without its season, with half the slope of a straight line through it as
    drift (Hyndman and Billah, 2003). The season is that of a classical decomposition, which multiplies where all values
    and seasons are positive; slope, season and smoothing are of the fitted part, the level follows the series.

    Args:
        series, num_fit, first_targets, horizon: as of `arima`, but no value may be missing.
        season: steps of a season; None for none.

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ImportError: statsmodels is not installed.
        ValueError: an argument is out of range, or two seasons do not fit into what is fitted.
    """
    series, targets = check_origins(series, num_fit, first_targets, horizon, missing="theta")
    fitted = series[:num_fit]
    if num_fit < 3:
        raise ValueError(f"theta needs at least 3 values to fit, got {num_fit}")
    repeated, multiplies = np.zeros(1), False
    if season is not None:
        _check_season(season, fitted)
        repeated, multiplies = _classical_season(fitted, season)
    steps = np.arange(len(series) + horizon)
    of_step = repeated[steps % len(repeated)]
    known = of_step[: len(series)]
    plain = series / known if multiplies else series - known

    slope = np.polyfit(steps[:num_fit], plain[:num_fit], 1)[0]
    smoothing = statsmodels("tsa.holtwinters", "theta").SimpleExpSmoothing
    unit = deviation(plain[:num_fit])
    model = smoothing(plain[:num_fit] / unit, initialization_method="known", initial_level=plain[0] / unit)
    alpha = float(_search(model, "theta").params["smoothing_level"])
    level = SmoothingFit(alpha, 0.0, 0.0, 1.0, float(plain[0]), 0.0, [0.0], False)
    # The weights of the known values, which reach back to the first one, sum to this share of 1 / alpha.
    known_for = (1 - (1 - alpha) ** targets) / alpha if alpha > 0 else targets
    drift = 0.5 * slope * (np.arange(horizon) + known_for[:, None])
    forecast = level.forecast(plain, targets, horizon) + drift
    season_then = of_step[targets[:, None] + np.arange(horizon)]
    return forecast * season_then if multiplies else forecast + season_then


def _classical_season(series: np.ndarray, season: int) -> tuple[np.ndarray, bool]:
    """Return the season (m,) of a classical decomposition, and whether it multiplies."""
    decompose = statsmodels("tsa.seasonal", "theta").seasonal_decompose
    if (series > 0).all():
        found = decompose(series, model="multiplicative", period=season).seasonal[:season]
        if found.min() > 0:
            return found, True
    return decompose(series, model="additive", period=season).seasonal[:season], False


def _check_season(season: int, series: np.ndarray) -> None:
    if not 2 <= season <= len(series) // 2:
        raise ValueError(
            f"season must be from 2 to {len(series) // 2}, half the {len(series)} values to fit, got {season}"
        )
