"""Many series of one kind, as a table holds them, and windows of them as models take them.

Letters: C target columns, P covariates known of the past alone, F covariates known of the future too, B windows, W
steps that a model sees, K steps to forecast.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.table_form import TableForm


class PanelSeries(NamedTuple):
    """One series, at equally spaced times.

    Attributes:
        name: of the series; '' where the table has but one.
        times: datetime64[ns], or int64 counts of rows where the table has no times, (rows + ahead,).
        target: float64 (rows, C), NaN where a value is missing.
        past: float64 (rows, P).
        known: float64 (rows + ahead, F): the rows behind the last target are of the future. Calendar features and what
            is constant of a series are among its columns.
    """

    name: str
    times: np.ndarray
    target: np.ndarray
    past: np.ndarray
    known: np.ndarray

    @property
    def num_rows(self) -> int:
        """How many rows have targets."""
        return len(self.target)


class Panel(NamedTuple):
    """Series of one kind.

    Attributes:
        series: at least one.
        targets: names of the C target columns.
        past: names of the P past covariates.
        known: names of the F known covariates.
        notes: what the user should be told of how the table was read, a line each.
        form: of the table, completed with what was found out: later tables are to be read with it.
        zone: what is written behind times, as 'Z'.
    """

    series: list[PanelSeries]
    targets: list[str]
    past: list[str]
    known: list[str]
    notes: list[str]
    form: TableForm = TableForm()
    zone: str = ""


def columns_apart(panel: Panel) -> Panel:
    """Return a panel in which each target column of each series is a series of its own, of one target `value`.

    What a model then learns of one column it knows of all. Series are named by their column, after their own name.

    Raises:
        ValueError: two would have the same name.
    """
    apart = [
        one._replace(name=f"{one.name}/{target}" if one.name else target, target=one.target[:, [column]])
        for one in panel.series
        for column, target in enumerate(panel.targets)
    ]
    for name, count in Counter(one.name for one in apart).items():
        if count > 1:
            raise ValueError(f"columns=apart would name two series {name!r}: rename a column or a series")
    return panel._replace(series=apart, targets=["value"])


class ForecastBatch(NamedTuple):
    """Windows of series, scaled: a value v of `target` is the level `inverse(loc + scale * v)`, by the data's inverse.

    Attributes:
        past: float32 (B, W, I); first the C targets, then, with `missing=mask`, C ones and zeros that say which of them
            were seen, then the P past and the F known covariates of the same steps.
        future: float32 (B, K, F), known covariates of the steps to forecast.
        series: int64 (B,), number of the series, from 1; 0 is one that training did not have.
        target: float32 (B, K, C), NaN where missing.
        loc, scale: float64 (B, K, C).
        origin: int64 (B, 2), place of the series in the data's panel, and row of the first step to forecast.
    """

    past: Tensor
    future: Tensor
    series: Tensor
    target: Tensor
    loc: Tensor
    scale: Tensor
    origin: Tensor

    def to(self, *args, **kwargs) -> ForecastBatch:
        """Return the batch on another device."""
        return ForecastBatch(*(value.to(*args, **kwargs) for value in self))

    @property
    def observed(self) -> Tensor:
        """Bool (B, K, C): which targets are there."""
        return ~torch.isnan(self.target)


class Forecast(NamedTuple):
    """What a model says of a `ForecastBatch`, in its scaled values.

    Attributes:
        mean: (B, K, C); of logarithms it is the logarithm of a median, if their distribution is symmetric.
        quantiles: (B, K, C, Q), Q = 0 of a model that gives no distribution.
        levels: the Q shares, in (0, 1), increasing.
    """

    mean: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
