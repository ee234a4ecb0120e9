"""Two sines plus noise, the synthetic series of Geron's "Hands-On Machine Learning", 2nd edition, chapter 15."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rnnlab.baselines import fit_ols, naive
from rnnlab.data.batches import InMemoryData, Queries, split_rows
from rnnlab.data.checks import check_batch_size, check_choice, check_integer
from rnnlab.data.csv_text import read_cells, read_number, write_number
from rnnlab.data.streams import window_loader

_NUM_TRAIN, _NUM_VAL, _NUM_TEST = 7_000, 2_000, 1_000


def two_sines(num_series: int, num_steps: int, seed: int) -> np.ndarray:
    """Draw the series 0.5 sin((t-o1)(10 f1+10)) + 0.2 sin((t-o2)(20 f2+20)) + 0.1 (U-0.5), t from 0 to 1.

    The draws f1, f2, o1, o2 and U are uniform in [0, 1) and come from numpy's legacy generator in this order, which is
    what makes published numbers comparable. The sampling rate depends on `num_steps`.

    Returns:
        Series, float32 (num_series, num_steps).
    """
    rng = np.random.RandomState(seed)
    series = pure_waves(rng.rand(4, num_series, 1), np.linspace(0, 1, num_steps))
    series += 0.1 * (rng.rand(num_series, num_steps) - 0.5)
    return series.astype(np.float32)


def pure_waves(parameters: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the series without noise, float64 (N, T), of f1, f2, o1, o2, (4, N, 1), at times (T,)."""
    frequency_1, frequency_2, offset_1, offset_2 = parameters
    series = 0.5 * np.sin((time - offset_1) * (frequency_1 * 10 + 10))
    series += 0.2 * np.sin((time - offset_2) * (frequency_2 * 20 + 20))
    return series


class TwoSineData(InMemoryData):
    """10,000 two-sine series: 7,000 train, 2,000 validation, 1,000 test, in the order of the draw.

    A batch is (x float32 (B, T, 1), y float32). With target 'last', y (B, horizon) is what follows the last step; with
    'sequence', y (B, T, horizon) holds what follows every step.

    Args:
        num_steps: T, known steps of each series.
        horizon: how many steps to forecast.
        target: 'last' or 'sequence'.
        batch_size: series a batch; at most 7,000.
        seed: decides the series; 42 reproduces the published baselines.
        shuffle_seed: decides the order of training only.
        tbptt_steps: train on windows of this many steps (`rnnlab.data.Window`), between which gradients are cut off;
            needs target 'sequence'. None: on whole series.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_steps: int = 50,
        horizon: int = 1,
        target: str = "last",
        batch_size: int = 32,
        seed: int = 42,
        shuffle_seed: int = 0,
        tbptt_steps: int | None = None,
    ) -> None:
        self.num_steps = check_integer("num_steps", num_steps, 1)
        self.horizon = check_integer("horizon", horizon, 1)
        self.target = check_choice("target", target, ("last", "sequence"))
        self.seed = check_integer("seed", seed, 0, 2**32 - 1)
        self.tbptt_steps = None if tbptt_steps is None else check_integer("tbptt_steps", tbptt_steps, 1)
        if self.tbptt_steps is not None and target != "sequence":
            raise ValueError(f"tbptt_steps needs target 'sequence', targets at every step, got {target!r}")
        super().__init__(check_batch_size(batch_size, _NUM_TRAIN), shuffle_seed)
        self.sizes = {"input_size": 1, "output_size": self.horizon}

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        sizes = [_NUM_TRAIN, _NUM_VAL, _NUM_TEST]
        series = torch.from_numpy(two_sines(sum(sizes), self.num_steps + self.horizon, self.seed))
        x = series[:, : self.num_steps, None]
        if self.target == "last":
            y = series[:, self.num_steps :]
        else:
            y = series[:, 1:].unfold(1, self.horizon, 1).contiguous()  # (N, T, horizon)
        return split_rows((x, y), sizes)

    def train_dataloader(self) -> DataLoader:
        if self.tbptt_steps is None:
            return super().train_dataloader()
        settings = self.batch_size, self.tbptt_steps, self.order_seed
        return self.served(window_loader(*self.splits["train"], *settings, share=self.share))

    def rehearsal_batch(self) -> Any:
        x, y = super().rehearsal_batch()
        if self.tbptt_steps is None:
            return x, y
        return next(iter(window_loader(x, y, len(x), self.tbptt_steps)))

    def baselines(self) -> dict[str, float]:
        """Return the MSE of repeating the last value and of OLS on the T lags, both from the last step.

        Keys are 'baseline/naive/val/mse_last' and so on, with the names naive and ols, for validation and test. With
        target 'sequence', 'baseline/ols/val/mse' is the mean over every step of validation, OLS being one regression
        for each number of lags; naive likewise.
        """
        self.setup()
        result = {}
        for split in ("val", "test"):
            _, future = _windows(*self.splits[split])
            for name, forecast in self.baseline_forecasts(split).items():
                result[f"baseline/{name}/{split}/mse_last"] = _mse(forecast, future)
        if self.target == "sequence":
            result |= self._all_step_baselines()
        return result

    def baseline_forecasts(self, split: str) -> dict[str, np.ndarray]:
        """Return forecasts (N, horizon) at the last step of the series of a split, by name of the method."""
        history, _ = _windows(*self.splits[split])
        ols = fit_ols(*_windows(*self.splits["train"]))
        return {"naive": naive(history, self.horizon), "ols": ols(history)}

    def _all_step_baselines(self) -> dict[str, float]:
        (train_x, train_y), (x, y) = (
            tuple(tensor.double().numpy() for tensor in self.splits[split]) for split in ("train", "val")
        )
        by_step: dict[str, list[float]] = {"baseline/naive/val/mse": [], "baseline/ols/val/mse": []}
        for step in range(self.num_steps):
            history = x[:, : step + 1, 0]
            ols = fit_ols(train_x[:, : step + 1, 0], train_y[:, step])
            by_step["baseline/naive/val/mse"].append(_mse(naive(history, self.horizon), y[:, step]))
            by_step["baseline/ols/val/mse"].append(_mse(ols(history), y[:, step]))
        return {name: float(np.mean(values)) for name, values in by_step.items()}

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read one series a line, at least one number and usually `num_steps` of them, comma-separated, no header.

        Raises:
            ValueError: the file is missing, a cell is no number, or lines differ in length.
        """
        file, rows = read_cells(path, encoding or self.encoding)
        length = len(rows[0][1])
        for line, cells in rows:
            if len(cells) != length:
                raise ValueError(f"{file}:{line}: expected {length} numbers as in the first line, got {len(cells)}")
        values = [
            [read_number(cell, f"{file}:{line}, column {column}") for column, cell in enumerate(cells, start=1)]
            for line, cells in rows
        ]
        return Queries(torch.tensor(values, dtype=torch.float32).unsqueeze(-1), None)

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return one line of `horizon` comma-separated forecasts for each row (N, horizon), of all batches together."""
        return "".join(",".join(map(write_number, row)) + "\n" for row in self.answers(queries, outputs))

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> np.ndarray:
        return torch.cat(list(outputs)).float().numpy(force=True)


def _windows(x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return what is known at the last step (N, T) and what follows it (N, horizon), in float64."""
    return x[:, :, 0].double().numpy(), (y if y.ndim == 2 else y[:, -1]).double().numpy()


def _mse(forecast: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((forecast - truth) ** 2))
