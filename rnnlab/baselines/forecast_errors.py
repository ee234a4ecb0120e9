"""How far forecasts of many series are off, in units that can be compared, and whether one is better than another.

Letters: N windows, in the order of time where it matters, K steps, C columns, Q levels of quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

INTERVALS = {80: (0.1, 0.9), 95: (0.025, 0.975)}  # in percent, by the levels of their ends
_LEAST_LEVELS = 19  # of a CRPS

# What `forecast_terms` may return.
TERMS = ("mse", "mae", "crps", "mse_level", "mae_level", "smape", "mase", "rmsse", "coverage_80", "coverage_95")


def forecast_errors(
    forecast: np.ndarray,
    truth: np.ndarray,
    deviation: np.ndarray,
    naive_mae: np.ndarray,
    naive_mse: np.ndarray,
    quantiles: np.ndarray | None = None,
    levels: Sequence[float] = (),
) -> dict[str, float]:
    """Return the errors of forecasts over all values that are known.

    'mse', 'mae' and 'crps' are in deviations of the training part of the series and column, so that columns count
    alike; 'rmse_level' and 'mae_level' in the units of the table, to which columns of large values give the most.
    'smape' is 200 |e| / (|y| + |f|) in %, 0 where both are 0. 'mase' is |e| over the mean absolute change over a season
    in the training part (Hyndman and Koehler, 2006); 'rmsse' its square root of squares, over the steps of a window and
    column and then a mean of these (Makridakis et al., 2022). Both leave out columns that never changed.

    'crps', at 19 levels or more, is twice the pinball loss over all levels, each of which counts for what is nearer to
    it than to others; with the 21 of `rnnlab.models.heads.LEVELS` that of a normal distribution is 0.3% too large.
    'coverage_80' and 'coverage_95' are shares of values in the intervals, where levels have their ends.

    Args:
        forecast: levels (N, K, C).
        truth: (N, K, C), NaN where missing.
        deviation, naive_mae, naive_mse: (N, C), of the training part.
        quantiles: (N, K, C, Q), levels of the table.
        levels: Q shares, increasing.

    Raises:
        ValueError: shapes do not fit together.
    """
    terms = forecast_terms(forecast, truth, deviation, naive_mae, naive_mse, quantiles, levels)
    return from_means({name: float(values.mean()) for name, values in terms.items() if values.size})


def forecast_terms(
    forecast: np.ndarray,
    truth: np.ndarray,
    deviation: np.ndarray,
    naive_mae: np.ndarray,
    naive_mse: np.ndarray,
    quantiles: np.ndarray | None = None,
    levels: Sequence[float] = (),
) -> dict[str, np.ndarray]:
    """Return the numbers whose means are errors, see `forecast_errors`, of `TERMS` those that can be had.

    Each is flat, and may be empty. 'mse_level' stands for 'rmse_level', see `from_means`.
    """
    if forecast.shape != truth.shape or truth.ndim != 3 or deviation.shape != truth.shape[::2]:
        shapes = f"{forecast.shape}, {truth.shape} and {deviation.shape}"
        raise ValueError(f"forecast and truth must be (N, K, C) and deviation (N, C), got {shapes}")
    is_known = np.isfinite(truth)
    error, width = forecast - truth, deviation[:, None]
    size = np.abs(forecast) + np.abs(truth)
    terms = {
        "mse": np.square(error / width)[is_known],
        "mae": np.abs(error / width)[is_known],
        "mse_level": np.square(error)[is_known],
        "mae_level": np.abs(error)[is_known],
        "smape": (200 * np.abs(error) / np.where(size == 0, 1.0, size))[is_known],
        "mase": (np.abs(error) / naive_mae[:, None])[is_known & np.isfinite(naive_mae)[:, None]],
        "rmsse": _root_mean_squares(error, is_known, naive_mse),
    }
    if quantiles is None or not len(levels):
        return terms
    if len(levels) >= _LEAST_LEVELS:
        terms["crps"] = (_crps(truth, quantiles, np.asarray(levels)) / width)[is_known]
    for percent, ends in INTERVALS.items():
        if set(ends) <= set(levels):
            low, high = (quantiles[..., list(levels).index(end)] for end in ends)
            covers = np.where(np.isnan(low) | np.isnan(high), np.nan, (truth >= low) & (truth <= high))
            terms[f"coverage_{percent}"] = covers[is_known]
    return terms


def from_means(means: Mapping[str, float]) -> dict[str, float]:
    """Return errors by name of the means of terms."""
    errors = {"rmse_level" if name == "mse_level" else name: value for name, value in means.items()}
    if "rmse_level" in errors:
        errors["rmse_level"] = errors["rmse_level"] ** 0.5
    return errors


def _root_mean_squares(error: np.ndarray, is_known: np.ndarray, naive_mse: np.ndarray) -> np.ndarray:
    """Return sqrt(mean over steps of e^2 / naive_mse) of the windows and columns that have one, flat."""
    count = is_known.sum(axis=1)
    has_any = (count > 0) & np.isfinite(naive_mse)
    total = np.where(is_known, np.square(error), 0.0).sum(axis=1)
    return np.sqrt(total[has_any] / count[has_any] / naive_mse[has_any])


def _crps(truth: np.ndarray, quantiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return (...) of true values (...) and quantiles (..., Q)."""
    share = np.diff(np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]]))
    error = truth[..., None] - quantiles
    slanted = error @ (share * (2 * levels - 1))  # 2 max(level e, (level - 1) e) = |e| + (2 level - 1) e
    return np.abs(error, out=error) @ share + slanted


class Comparison(NamedTuple):
    """Of two forecasts from the same origins.

    Attributes:
        difference: mean loss of the first less that of the second.
        statistic: that over its standard error, for so few origins.
        p_value: how often a statistic so far from 0 would come up if neither were better; NaN of too few origins.
    """

    difference: float
    statistic: float
    p_value: float


def compare_forecasts(errors_a: np.ndarray, errors_b: np.ndarray, horizon: int = 1) -> Comparison:
    """Test whether two forecasts are equally good (Diebold and Mariano, 1995).

    With the correction and Student's t of Harvey, Leybourne and Newbold (1997). The variance of the mean difference
    counts autocovariances up to lag horizon - 1; where their sum is not positive, with Bartlett's weights.

    Args:
        errors_a, errors_b: losses (N,) at origins in order of time, as squared errors.
        horizon: so many origins in a row forecast some common step, 1 if none do.

    Raises:
        ValueError: shapes differ, or the horizon is below 1.

    Example:
        >>> compare_forecasts(np.array([1.0, 3.0, 2.0, 2.5]), np.array([0.5, 1.0, 2.0, 0.5])).p_value < 0.2
        True
    """
    a, b = np.asarray(errors_a, dtype=np.float64), np.asarray(errors_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or horizon < 1:
        raise ValueError(
            f"losses must be two of (N,) and the horizon at least 1, got {a.shape}, {b.shape} and {horizon}"
        )
    count, difference = len(a), a - b
    mean = float(difference.mean()) if count else math.nan
    if count <= horizon or not np.isfinite(difference).all():
        return Comparison(mean, math.nan, math.nan)
    if not difference.any():
        return Comparison(0.0, 0.0, 1.0)
    centred = difference - mean
    covariances = [float(centred[lag:] @ centred[: count - lag]) / count for lag in range(horizon)]
    variance = covariances[0] + 2 * sum(covariances[1:])
    if variance <= 0:
        variance = covariances[0] + 2 * sum(c * (1 - lag / horizon) for lag, c in enumerate(covariances[1:], start=1))
    if variance <= 0:  # the same difference at each origin
        return Comparison(mean, math.copysign(math.inf, mean), 0.0)
    correction = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    statistic = mean / math.sqrt(variance / count) * math.sqrt(correction)
    return Comparison(mean, statistic, _two_sided(statistic, count - 1))


def _two_sided(statistic: float, freedom: int) -> float:
    """Return how often Student's t is as far from 0, by the integral of cos^(freedom - 1) over arctan(t / sqrt)."""
    start = math.atan(abs(statistic) / math.sqrt(freedom))
    tail, whole = (
        np.trapezoid(np.cos(angle := np.linspace(low, math.pi / 2, 20_001)) ** (freedom - 1), angle)
        for low in (start, 0.0)
    )
    return float(tail / whole)
