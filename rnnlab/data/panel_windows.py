"""Windows of many series, gathered when they are asked for: no window is ever stored.

Letters as in `rnnlab.data.panel`; S series, R rows of all of them one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rnnlab.data.batches import dataset_loader
from rnnlab.data.panel import ForecastBatch, PanelSeries
from rnnlab.data.panel_scaling import PanelScaling


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
        values = np.full((sum(lengths), series[0].target.shape[1]), np.nan)
        past = np.zeros((sum(lengths), series[0].past.shape[1]), dtype=np.float32)
        known = np.empty((sum(lengths), series[0].known.shape[1]), dtype=np.float32)
        mean, deviation = (part.numpy() for part in known_statistics)
        for place, (one, start) in enumerate(zip(series, self.starts.tolist(), strict=True)):
            rows = slice(start, start + one.num_rows)
            values[rows] = one.target
            past[rows] = (one.past - past_statistics[0][place].numpy()) / past_statistics[1][place].numpy()
            known[start : start + len(one.known)] = (one.known - mean) / deviation
        self.values = scaling.forward(torch.from_numpy(values))  # (R, C)
        self.past, self.known = torch.from_numpy(past), torch.from_numpy(known)

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
        places, first = origins[:, 0], self.starts[origins[:, 0]] + origins[:, 1]
        values = self.values[first[:, None] + torch.arange(-self.context, 0)]  # (B, context + W, C)
        seen, ahead = first[:, None] + torch.arange(-self.window, 0), first[:, None] + torch.arange(horizon)
        mean, deviation = (part[places] for part in self.target_statistics)
        scaled = self.scaling.window(values, mean, deviation, horizon)
        inputs = [scaled.inputs.nan_to_num()]
        if self.is_masked:
            inputs.append(torch.isfinite(scaled.inputs).double())
        target = (self.values[ahead] - scaled.loc) / scaled.scale
        return ForecastBatch(
            past=torch.cat([*(part.float() for part in inputs), self.past[seen], self.known[seen]], dim=-1),
            future=self.known[ahead],
            series=self.numbers[places],
            target=target.float(),
            loc=scaled.loc,
            scale=scaled.scale,
            origin=origins,
        )

    def loader(self, origins: Tensor, horizon: int, batch_size: int, shuffle_seed: int | None = None) -> DataLoader:
        """Make a loader of the windows of `origins` (N, 2), in their order or shuffled anew each epoch."""
        return dataset_loader(_Rows(self, origins, horizon), batch_size, shuffle_seed)


class _Rows(Dataset):
    """Windows by number; a list of numbers is answered by one gather, as one batch."""

    def __init__(self, windows: PanelWindows, origins: Tensor, horizon: int) -> None:
        self.windows, self.origins, self.horizon = windows, origins, horizon

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: int) -> ForecastBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> ForecastBatch:
        return self.windows.gather(self.origins[torch.tensor(indices)], self.horizon)
