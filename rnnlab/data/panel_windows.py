"""Windows of many series, gathered when they are asked for: no window is ever stored.

Letters as in `rnnlab.data.panel`; S series, R rows of all of them one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rnnlab.data.batches import BatchLoader, SharedBatches, as_served, row_order
from rnnlab.data.panel import ForecastBatch, PanelSeries
from rnnlab.data.panel_scaling import PanelScaling
from rnnlab.data.shares import ALONE, Borrowed, Share

_GROUP = 2**18  # numbers that are gathered at once


class PanelWindows:
    """Series laid end to end, from which batches of windows are gathered.

    Args:
        series: S series; rows of the future, without targets, are at the end of each.
        scaling: how targets are scaled.
        window: W.
        target_statistics: mean and deviation (S, C), of u.
        past_statistics: mean and deviation (S, P).
        known_statistics: mean and deviation (F,).
        numbers: int (S,), by which a model knows a series.
        is_masked: whether inputs say which targets were seen.
    """

    def __init__(
        self,
        series: Sequence[PanelSeries],
        scaling: PanelScaling,
        window: int,
        target_statistics: tuple[Tensor, Tensor],
        past_statistics: tuple[Tensor, Tensor],
        known_statistics: tuple[Tensor, Tensor],
        numbers: Tensor,
        is_masked: bool,
    ) -> None:
        self.scaling, self.window, self.numbers, self.is_masked = scaling, window, numbers, is_masked
        self.target_statistics, self.past_statistics = target_statistics, past_statistics
        lengths = [len(one.known) for one in series]
        self.starts = torch.tensor([0, *np.cumsum(lengths)[:-1]])
        values = _end_to_end([one.target for one in series], lengths, np.nan)
        self.values = scaling.forward(torch.from_numpy(values))  # (R, C)
        means, deviations = (part.numpy() for part in past_statistics)
        past = [((one.past - means[place]) / deviations[place]).astype(np.float32) for place, one in enumerate(series)]
        self.past = torch.from_numpy(_end_to_end(past, lengths, 0))
        mean, deviation = (part.numpy() for part in known_statistics)
        known = [((one.known - mean) / deviation).astype(np.float32) for one in series]
        self.known = torch.from_numpy(_end_to_end(known, lengths, 0))

    @property
    def context(self) -> int:
        """How many rows before its first target a window needs."""
        return self.window + self.scaling.context

    def gather(self, origins: Tensor, horizon: int) -> ForecastBatch:
        """Return the windows of `origins`.

        Args:
            origins: int64 (B, 2), place of the series and row of the first step to forecast.
            horizon: K; the series' rows of known covariates reach so far.
        """
        places = origins[:, 0]
        first, context = self.starts[places] + origins[:, 1] - self.context, self.context
        values, ahead = _steps(self.values, first, context + horizon).split([context, horizon], dim=1)
        past, known = (
            _steps(part, first, context + horizon)[:, -self.window - horizon :] for part in (self.past, self.known)
        )
        mean, deviation = (part[places] for part in self.target_statistics)
        scaled = self.scaling.window(values, mean, deviation, horizon)
        inputs = [scaled.inputs.nan_to_num()]
        if self.is_masked:
            inputs.append(torch.isfinite(scaled.inputs).double())
        target = (ahead - scaled.loc) / scaled.scale
        return ForecastBatch(
            past=torch.cat([*(part.float() for part in inputs), past[:, :-horizon], known[:, :-horizon]], dim=-1),
            future=known[:, -horizon:],
            series=self.numbers[places],
            target=target.float(),
            loc=scaled.loc,
            scale=scaled.scale,
            origin=origins,
        )

    def loader(
        self,
        origins: Tensor,
        horizon: int,
        batch_size: int,
        shuffle_seed: int | None = None,
        share: Share = ALONE,
    ) -> DataLoader:
        """Make a loader of the windows of `origins` (N, 2), in their order or shuffled anew each epoch."""
        numbers = (self.context + horizon) * (self.values.shape[1] + self.past.shape[1] + self.known.shape[1])
        sampler = SharedBatches(row_order(len(origins), shuffle_seed), batch_size, share)
        loader = _GroupLoader(_Rows(self, origins, horizon), sampler)
        loader.group = max(1, _GROUP // (batch_size * numbers))
        return loader


class _GroupLoader(BatchLoader):
    """Gathers the windows of several batches at once: of small ones, most of the time is not spent on their numbers.

    Attributes:
        group: batches that are gathered at once.
    """

    group: int

    def __iter__(self) -> Iterator[ForecastBatch | Borrowed]:
        batches = iter(self.sampler)
        while group := list(islice(batches, self.group)):
            sizes = [len(rows) for rows in group]
            parts = zip(*(part.split(sizes) for part in self.dataset[list(chain(*group))]), strict=True)
            for rows, batch in zip(group, parts, strict=True):
                yield as_served(ForecastBatch(*batch), rows)


def _steps(rows: Tensor, first: Tensor, num_steps: int) -> Tensor:
    """Return the rows (B, T, C) of (R, C) that begin at `first` (B,): of rows that overlap, copied once."""
    width = rows.shape[1]
    whole = rows.as_strided((max(len(rows) - num_steps + 1, 0), num_steps * width), (width, 1))
    return whole.index_select(0, first).view(len(first), num_steps, width)


def _end_to_end(parts: Sequence[np.ndarray], lengths: Sequence[int], filling: float) -> np.ndarray:
    """Return parts (R, C) one after the other, each filled to its length; a single whole one as it is, uncopied."""
    if len(parts) == 1 and len(parts[0]) == lengths[0]:
        return parts[0]
    return np.concatenate(
        [
            np.pad(part, ((0, length - len(part)), (0, 0)), constant_values=filling)
            for part, length in zip(parts, lengths, strict=True)
        ]
    )


class _Rows(Dataset):
    """Windows by number; a list of numbers is answered by one gather, as one batch."""

    def __init__(self, windows: PanelWindows, origins: Tensor, horizon: int) -> None:
        self.windows, self.origins, self.horizon = windows, origins, horizon

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, indices: Sequence[int]) -> ForecastBatch:
        return self.windows.gather(self.origins[torch.tensor(indices)], self.horizon)
