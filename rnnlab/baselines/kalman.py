"""Structural models: level, trend, season and cycle by the Kalman filter of statsmodels (extra `baselines`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnlab.baselines.origins import check_origins, statsmodels
from rnnlab.baselines.state_space import StateSpaceFit, deviation, search

_LEVELS = {
    "level": "local level",
    "trend": "local linear trend",
    "smooth_trend": "smooth trend",
    "constant": "deterministic constant",
}


def kalman(
    series: np.ndarray,
    num_fit: int,
    first_targets: Sequence[int] | np.ndarray,
    horizon: int = 1,
    level: str = "level",
    season: int | None = None,
    harmonics: int | None = None,
    cycle: bool = False,
) -> np.ndarray:
    """Fit a structural model once, then forecast from many origins without refitting.

    Args:
        series, num_fit, first_targets, horizon: as of `arima`.
        level, season, harmonics, cycle: as of `fit_structural`.

    Returns:
        Forecasts (N, K), float64.

    Raises:
        ImportError: statsmodels is not installed.
        ValueError: an argument is out of range.
    """
    series, targets = check_origins(series, num_fit, first_targets, horizon)
    return fit_structural(series[:num_fit], level, season, harmonics, cycle).forecast(series, targets, horizon)


def fit_structural(
    series: np.ndarray,
    level: str = "level",
    season: int | None = None,
    harmonics: int | None = None,
    cycle: bool = False,
) -> StateSpaceFit:
    """Return the structural model of the greatest likelihood (Harvey, 1989): a sum of parts, each with its own noise.

    Args:
        series: values in time order (T,), NaN where one is missing.
        level: 'level', a random walk with noise on top, which is ARIMA(0,1,1); 'trend', one whose slope is a random
            walk too; 'smooth_trend', where the slope alone moves; or 'constant'.
        season: steps of a season that changes slowly; None for none.
        harmonics: waves that the season is made of, at most season / 2; None for a number of its own at each step,
            which for a season of hundreds of steps is slow.
        cycle: add a wave whose length is found, and which dies away and is renewed.

    Raises:
        ImportError: statsmodels is not installed.
        ValueError: an unknown level, or a season that the series is too short for.
    """
    components = statsmodels("tsa.statespace.structural", "Kalman").UnobservedComponents
    if level not in _LEVELS:
        raise ValueError(f"level must be one of {', '.join(_LEVELS)}, got {level!r}")
    if season is not None and not 2 <= season < len(series):
        raise ValueError(f"season must be from 2 to {len(series) - 1} for {len(series)} values, got {season}")
    if harmonics is not None and not (season and 1 <= harmonics <= season // 2):
        raise ValueError(f"harmonics must be from 1 to half the season, got {harmonics} of a season of {season}")
    waves = None if harmonics is None else [{"period": season, "harmonics": harmonics}]
    unit = deviation(series)
    model = components(
        series / unit,
        _LEVELS[level],
        seasonal=season if harmonics is None else None,
        freq_seasonal=waves,
        cycle=cycle,
        stochastic_cycle=cycle,
        damped_cycle=cycle,
    )
    starts = [_cyclic_start(model)] if cycle else []
    return StateSpaceFit(search(model, f"a structural model with level={level}", *starts), unit)


def _cyclic_start(model: Any) -> np.ndarray:
    """Return parameters with a lively cycle of the frequency that is strongest: likelihood has maxima without one."""
    values = np.nan_to_num(model.endog[:, 0] - np.nanmean(model.endog))
    strength = np.abs(np.fft.rfft(values))
    strongest = 2 * np.pi * (1 + strength[1:-1].argmax()) / len(values)
    start = dict(zip(model.param_names, model.start_params, strict=True))
    cycle = {"sigma2.cycle": 0.1, "frequency.cycle": strongest, "damping.cycle": 0.9}
    return np.array([cycle.get(name, 0.1 * value) for name, value in start.items()])
