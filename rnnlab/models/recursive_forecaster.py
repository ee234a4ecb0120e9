"""A recurrent network that tells the next step of a series, and reads what it told to go on.

Letters as in `rnnlab.models.distribution_forecaster`; S sample paths of a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.decoding.state import select_rows
from rnnlab.models.distribution_forecaster import DistributionForecaster, SeriesEmbedding
from rnnlab.models.layers import (
    LockedDropout,
    RecurrentFactory,
    at_least_float32,
    initialise_all,
    output_width,
    streams,
)


class RecursiveForecaster(DistributionForecaster):
    """Targets of a step and known covariates of the next -> recurrent layers -> what the head says of the next step.

    Trained with the true values as inputs, on every step from the second of the window to the last of the horizon, and
    measured so on the horizon alone. It forecasts any number of steps by sample paths that read their own draws
    (Salinas et al., 2020): means and quantiles of the first step are the head's, those of further ones the paths'. A
    head without a distribution has one path, of its numbers. Paths of one batch are the same whenever it is forecast.

    Args:
        rnn: factory of recurrent layers of one direction, called with `input_size`.
        input_size: I = C + F.
        future_size: F.
        num_targets: C.
        horizon: steps of the training windows; any number can be forecast.
        num_series: series that training has.
        head: name of a head, or a mapping of `name` and its options, see `rnnlab.models.heads`.
        num_samples: S.
        sample_seed: of the paths.
        series_size, series_dropout, dropout, init: as of `SeriesForecaster`.

    Raises:
        ValueError: layers that read backwards or carry no state, inputs that are not known of the future, or an option
            is out of range.
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        input_size: int,
        future_size: int,
        num_targets: int,
        horizon: int,
        num_series: int,
        head: str | Mapping[str, Any],
        num_samples: int = 100,
        sample_seed: int = 0,
        series_size: int = 0,
        series_dropout: float = 0.1,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(head)
        if input_size != num_targets + future_size:
            raise ValueError(
                f"model=recursive_forecaster reads its own forecasts: its inputs are the {num_targets} targets and "
                f"{future_size} known covariates, got {input_size}; there must be no past covariates and no "
                "missing=mask, or model=series_forecaster"
            )
        if type(num_samples) is not int or num_samples < 2:
            raise ValueError(f"model.num_samples must be an integer of at least 2, got {num_samples!r}")
        self.num_targets, self.num_samples, self.sample_seed = num_targets, num_samples, sample_seed
        self.embedding = SeriesEmbedding(num_series, series_size, series_dropout)
        self.rnn = rnn(input_size=input_size + series_size)
        if not streams(self.rnn):
            raise ValueError(
                "model=recursive_forecaster goes on where it stopped: it needs a recurrent layer with "
                "rnn.bidirectional=false, that does not go backwards"
            )
        self.dropout = LockedDropout(dropout)
        self.readout = nn.Linear(output_width(self.rnn), num_targets * self.head.size)
        initialise_all([self.rnn], self.readout, init)

    def check(self, batch: Any) -> None:
        super().check(batch)
        self._check_scale(batch)

    def _check_scale(self, batch: Any) -> None:
        if not all(torch.equal(part, part[:, :1].expand_as(part)) for part in (batch.loc, batch.scale)):
            raise ValueError(
                "model=recursive_forecaster reads its own forecasts, which must be scaled as its inputs are: "
                "data.difference=false and data.seasonal_difference=null, or model=series_forecaster"
            )

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return losses and weights of the horizon (B, K, C), in training of the window too, (B, W - 1 + K, C)."""
        num_steps, seen = batch.target.shape[1], batch.past[..., : self.num_targets]
        values = torch.cat([seen, batch.target.nan_to_num()[:, :-1].to(seen.dtype)], dim=1)
        known = torch.cat([batch.past[:, 1:, self.num_targets :], batch.future], dim=1)
        raw, _ = self._read(torch.cat([values, known], dim=-1), batch.series)
        target = torch.cat([seen[:, 1:], batch.target.to(seen.dtype)], dim=1)
        if not self.training:
            raw, target = raw[:, -num_steps:], target[:, -num_steps:]
        return self.losses_of(raw, target, batch.scale[:, :1].expand(-1, target.shape[1], -1))

    def _read(self, x: Tensor, series: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return raw numbers of the next steps (B, T, C, P) of inputs (B, T, I), and the state behind them."""
        x = self.embedding(x, series).transpose(0, 1)
        output, state = self.rnn(x) if state is None else self.rnn(x, state)
        numbers = self.readout(self.dropout(output)).transpose(0, 1)
        return at_least_float32(numbers).unflatten(2, (self.num_targets, self.head.size)), state

    def forecast(self, batch: Any, levels: Sequence[float], num_steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Return means and quantiles, see the base.

        Raises:
            ValueError: the scale of forecasts changes from step to step.
        """
        self._check_scale(batch)
        steps = batch.loc.shape[1] if num_steps is None else num_steps
        generator = torch.Generator(batch.past.device).manual_seed(self.sample_seed)
        known = torch.cat([batch.past[:, 1:, self.num_targets :], batch.future[:, :1]], dim=1)
        first = torch.cat([batch.past[..., : self.num_targets], known], dim=-1)
        raw, state = self._read(first, batch.series)
        raw, scale = raw[:, -1:], batch.scale[:, :1]
        means, quantiles = [self.head.mean(raw, scale)], [self.head.quantiles(raw, levels, scale)]
        num_paths = self.num_samples if self.head.has_distribution else 1
        rows = torch.arange(len(raw), device=raw.device).repeat_interleave(num_paths)  # windows of the B*S paths
        raw, state, series, scale = raw[rows], select_rows(state, rows), batch.series[rows], scale[rows]
        draws = self.head.sample(raw, scale, generator)  # (B*S, 1, C)
        for step in range(1, steps):
            x = torch.cat([draws.to(batch.past.dtype), batch.future[rows, step, None]], dim=-1)
            raw, state = self._read(x, series, state)
            draws = self.head.sample(raw, scale, generator)
            means.append(self.head.mean(raw, scale).unflatten(0, (-1, num_paths)).mean(dim=1))
            of_paths = _quantiles(draws.unflatten(0, (-1, num_paths)), levels if self.head.has_distribution else ())
            quantiles.append(of_paths)
        return torch.cat(means, dim=1), torch.cat(quantiles, dim=1)


def _quantiles(draws: Tensor, levels: Sequence[float]) -> Tensor:
    """Return quantiles (B, T, C, Q) of draws (B, S, T, C).

    A further draw is below them with the probability of their level: the p-th lies at place p (S + 1) in the order of
    the draws, on a straight line between two. `torch.quantile` has another rule, and takes at most 16 million values.
    """
    last = draws.shape[1] - 1
    place = (torch.tensor(levels, dtype=draws.dtype, device=draws.device) * (last + 2) - 1).clamp(0, last)
    below, ordered = place.floor().long(), draws.sort(dim=1).values.movedim(1, -1)
    low, high = ordered[..., below], ordered[..., (below + 1).clamp(max=last)]
    return torch.lerp(low, high, (place - below).expand(low.shape))
