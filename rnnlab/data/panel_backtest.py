"""Forecasts of the end of each series from rolling origins, of a model and of baselines side by side.

N windows of a fold, one of each series; K steps, C columns, Q levels, M folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.baselines import Comparison, compare_forecasts, forecast_errors
from rnnlab.data.clock import write_time
from rnnlab.data.panel import Forecast
from rnnlab.data.panel_baselines import PanelBaselines
from rnnlab.data.panel_data import PanelData

MODEL = "model"


def rows_needed(num_folds: int, stride: int, horizon: int) -> int:
    """Return how many rows at the end of a series the windows of all folds forecast together."""
    return horizon + (num_folds - 1) * stride


def fold_origins(data: PanelData, num_folds: int, stride: int) -> list[Tensor]:
    """Return of each fold place and first target row (N, 2), of all series of the test part; the last ends with them.

    Args:
        data: set up.
        num_folds: M.
        stride: rows from an origin to the next.

    Raises:
        ValueError: the first fold would begin before the test part, or with too few rows before it for a window.
    """
    needed = rows_needed(num_folds, stride, data.horizon)
    places = data.splits["test"][0][:, 0].unique()
    for place in places.tolist():
        one, start = data.panel.series[place], data.borders[place][2]
        whose = f" of series {one.name!r}" if one.name else ""
        if one.num_rows - needed < start:
            raise ValueError(
                f"backtest.folds={num_folds} and backtest.stride={stride} forecast {needed} rows with a horizon of "
                f"{data.horizon}, and the test part{whose} has {one.num_rows - start}: fewer folds, a smaller stride, "
                "or backtest.retrain=true, which needs no test part"
            )
        if one.num_rows - needed < data.context:
            raise ValueError(
                f"backtest.folds={num_folds} and backtest.stride={stride} leave {one.num_rows - needed} rows{whose} "
                f"before the first fold, and a window needs {data.context}: fewer folds, or a smaller stride"
            )
    ends = torch.tensor([data.panel.series[place].num_rows for place in places.tolist()])
    return [torch.stack([places, ends - data.horizon - fold * stride], dim=1) for fold in reversed(range(num_folds))]


class Fold(NamedTuple):
    """Forecasts from the same origins, in levels.

    Attributes:
        forecasts: (N, K, C) by method, the model first.
        quantiles: of the model, (N, K, C, Q).
        truth: (N, K, C).
        measures: deviation, mean absolute and mean squared naive change, (N, C) each.
        start: time of the first step of the first series.
    """

    forecasts: dict[str, np.ndarray]
    quantiles: np.ndarray
    truth: np.ndarray
    measures: tuple[np.ndarray, ...]
    start: str


def make_fold(data: PanelData, origins: Tensor, forecast: Forecast) -> Fold:
    """Put baselines, fitted to what lies before the data's test part, beside a model's forecast in levels."""
    rivals = PanelBaselines(data)
    (place, row), *_ = origins.tolist()
    return Fold(
        {
            MODEL: forecast.mean.cpu().numpy(),
            **{name: rivals.forecasts(name, origins) for name in data.given_baselines},
        },
        forecast.quantiles.cpu().numpy(),
        rivals.truth(origins),
        tuple(part[origins[:, 0]].numpy() for part in data.measures),
        write_time(data.panel.series[place].times[row], data.panel.form.date_format),
    )


class BackTest:
    """All folds together.

    Args:
        folds: M of them, in the order of time.
        levels: Q shares of the quantiles.
        overlap: how many folds in a row forecast some common step.
    """

    def __init__(self, folds: Sequence[Fold], levels: Sequence[float], overlap: int) -> None:
        self.folds, self.levels, self.overlap = folds, levels, overlap
        self.methods = list(folds[0].forecasts)
        self.horizon = folds[0].truth.shape[1]

    def errors(self, step: int | None = None) -> dict[str, dict[str, float]]:
        """Return the errors of `forecast_errors` by method, at one step from 1, or over all."""
        steps = slice(None) if step is None else slice(step - 1, step)
        truth = np.concatenate([fold.truth[:, steps] for fold in self.folds])
        measures = [np.concatenate(parts) for parts in zip(*(fold.measures for fold in self.folds), strict=True)]
        quantiles = np.concatenate([fold.quantiles[:, steps] for fold in self.folds])
        return {
            name: forecast_errors(
                np.concatenate([fold.forecasts[name][:, steps] for fold in self.folds]),
                truth,
                *measures,
                *((quantiles, self.levels) if name == MODEL else ()),
            )
            for name in self.methods
        }

    def by_fold(self) -> dict[str, np.ndarray]:
        """Return the mean squared error of each fold, in deviations, (M,) by method; NaN of one without a value."""
        return {
            name: np.array(
                [forecast_errors(f.forecasts[name], f.truth, *f.measures).get("mse", math.nan) for f in self.folds]
            )
            for name in self.methods
        }

    def comparisons(self) -> Mapping[str, Comparison]:
        """Return by baseline whether its squared errors differ from the model's, from fold to fold."""
        losses = self.by_fold()
        return {
            name: compare_forecasts(losses[MODEL], losses[name], self.overlap) for name in self.methods if name != MODEL
        }
