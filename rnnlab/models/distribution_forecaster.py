"""What models of windows of many series share: heads, targets that are missing, and which series a window is of.

Batches are `rnnlab.data.ForecastBatch`. Letters: B windows, W steps seen, K steps to forecast, C targets, I inputs at
each step seen, F known covariates, P raw numbers of a head, Q levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.models.heads import make_head


class DistributionForecaster(nn.Module):
    """Base of models that forecast what their `head` can say of each step and target.

    Args:
        head: name of a head, or a mapping of `name` and its options, see `rnnlab.models.heads`.

    Attributes:
        head: the `rnnlab.models.heads.Head`.
    """

    def __init__(self, head: str | Mapping[str, Any]) -> None:
        super().__init__()
        self.head = make_head(head)

    def check(self, batch: Any) -> None:
        """Raise ValueError unless data of this kind can be forecast."""
        self.head.check(batch.loc)

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return losses, and weights of that shape: 1 where a target is there, 0 where it is missing.

        (B, K, C), or with all steps that are learnt in place of K.
        """
        raise NotImplementedError

    def forecast(self, batch: Any, levels: Sequence[float], num_steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Return means (B, K, C) and quantiles (B, K, C, Q), Q = 0 of a head without a distribution, scaled.

        Args:
            batch: windows.
            levels: Q shares in (0, 1), increasing.
            num_steps: how many steps of those of the batch; None for all.
        """
        raise NotImplementedError

    def losses_of(self, raw: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses and weights (B, T, C) of raw numbers (B, T, C, P) and targets (B, T, C), NaN where missing."""
        is_there = ~target.isnan()
        loss = self.head.loss(raw, target.where(is_there, 0.0).to(raw.dtype), scale)
        return loss, is_there.to(raw.dtype)


class DirectForecaster(DistributionForecaster):
    """Base of models that tell all steps at once; a subclass writes `raw`.

    Args:
        horizon: K, steps it can tell.
        head: as of `DistributionForecaster`.
    """

    def __init__(self, horizon: int, head: str | Mapping[str, Any]) -> None:
        super().__init__(head)
        self.horizon = horizon

    def raw(self, batch: Any, num_steps: int) -> Tensor:
        """Return raw numbers of the first steps, (B, num_steps, C, P), in float32 or float64."""
        raise NotImplementedError

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.losses_of(self.raw(batch, batch.target.shape[1]), batch.target, batch.scale)

    def forecast(self, batch: Any, levels: Sequence[float], num_steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Return means and quantiles, see the base.

        Raises:
            ValueError: more steps are asked for than it can tell.
        """
        steps = batch.loc.shape[1] if num_steps is None else num_steps
        if steps > self.horizon:
            raise ValueError(
                f"the model tells {self.horizon} steps, {steps} were asked for: model=recursive_forecaster can go on"
            )
        raw, scale = self.raw(batch, steps), batch.scale[:, :steps]
        return self.head.mean(raw, scale), self.head.quantiles(raw, levels, scale)


class SeriesEmbedding(nn.Module):
    """What is learnt of each series, a vector read at every step; number 0 stands for any that training lacks.

    In training some windows forget which series they are of, and are taken for number 0.

    Args:
        num_series: S.
        size: of a vector; 0 for none.
        dropout: share of the windows that forget, in [0, 1).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, num_series: int, size: int, dropout: float) -> None:
        super().__init__()
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError(f"model.series_size must be an integer of at least 0, got {size!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"model.series_dropout must lie in [0, 1), got {dropout!r}")
        self.dropout = dropout
        self.table = nn.Embedding(num_series + 1, size) if size else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, x: Tensor, series: Tensor) -> Tensor:
        """Return inputs (B, T, I) with the vectors of their series (B,) beside them at each step."""
        if self.table is None:
            return x
        if self.training and self.dropout:
            series = series.where(torch.rand(len(series), device=series.device) >= self.dropout, 0)
        vector = self.table(series).unsqueeze(1).expand(-1, x.shape[1], -1)
        return torch.cat([x, vector.to(x.dtype)], dim=-1)
