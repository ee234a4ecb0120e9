"""Statistics of the training parts of series: what inputs and targets are scaled by, and what errors are divided by.

Letters as in `rnnlab.data.panel`; S series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.panel import Panel, PanelSeries
from rnnlab.data.panel_scaling import PanelScaling


class Denominators(NamedTuple):
    """What errors are divided by, float64 (S, C) or, of the windows of a batch, (B, C); all of training parts.

    Attributes:
        deviation: of levels; 1 of a constant column.
        naive_mae, naive_mse: mean absolute and squared change over a season; NaN of a column without any.
    """

    deviation: Tensor
    naive_mae: Tensor
    naive_mse: Tensor


def learn(panel: Panel, scaling: PanelScaling, num_train: Sequence[int]) -> dict[str, Any]:
    """Return as plain data what a model of a panel takes for granted.

    Args:
        panel: its series are those that the model knows by name.
        num_train: rows of each training part.
    """
    parts = list(zip(panel.series, num_train, strict=True))
    mean, deviation = _moments(np.concatenate([one.known[:rows] for one, rows in parts]))
    return {
        "targets": panel.targets,
        "past": panel.past,
        "known": panel.known,
        "known_mean": mean,
        "known_deviation": deviation,
        "series": {one.name: learn_series(one, scaling, rows) for one, rows in parts},
    }


def learn_series(one: PanelSeries, scaling: PanelScaling, num_train: int) -> dict[str, list[float]]:
    """Return means and deviations of the training part of one series, of targets as they are scaled."""
    mean, deviation = scaling.statistics(scaling.forward(torch.from_numpy(one.target[:num_train])))
    past_mean, past_deviation = _moments(one.past[:num_train])
    return {
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
        "past_mean": past_mean,
        "past_deviation": past_deviation,
    }


def constant_target(panel: Panel, num_train: Sequence[int]) -> str | None:
    """Return the name of a target that has one value over the training part of each series; None if there is none."""
    parts = [one.target[:rows] for one, rows in zip(panel.series, num_train, strict=True)]
    for place, name in enumerate(panel.targets):
        columns = (part[:, place] for part in parts)
        if not any(len(known) and np.ptp(known) > 0 for known in (column[np.isfinite(column)] for column in columns)):
            return name
    return None


def denominators(series: Sequence[PanelSeries], num_train: Sequence[int], season: int) -> Denominators:
    """Return what errors of series are divided by, (S, C), from changes over `season` steps."""
    parts = [_measures(one.target[:rows], season) for one, rows in zip(series, num_train, strict=True)]
    return Denominators(*(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True)))


def _moments(values: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and deviation by column, 0 and 1 where there are no rows, 1 for the deviation of a constant."""
    if not len(values):
        return [0.0] * values.shape[1], [1.0] * values.shape[1]
    deviation = [1.0 if np.ptp(column) == 0 else float(column.std()) for column in values.T]
    return values.mean(axis=0).tolist(), deviation


def _measures(levels: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return deviation of levels (R, C), and mean absolute and squared change over a season, each (C,)."""
    deviation, mae, mse = np.array([_measures_of(column, season) for column in levels.T]).T
    return np.where(deviation > 0, deviation, 1.0), np.where(mae > 0, mae, np.nan), np.where(mse > 0, mse, np.nan)


def _measures_of(levels: np.ndarray, season: int) -> tuple[float, float, float]:
    """Return the same of one column (R,), NaN where there is nothing."""
    change = levels[season:] - levels[:-season]
    known, change = levels[np.isfinite(levels)], change[np.isfinite(change)]
    mae, mse = (np.abs(change).mean(), np.square(change).mean()) if len(change) else (np.nan, np.nan)
    return known.std() if len(known) and np.ptp(known) else 0.0, mae, mse
