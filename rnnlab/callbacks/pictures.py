"""Pictures of a finished run: how it learned, and what it forecasts.

`on_run_end(trainer, task, metrics)` is a hook of `rnnlab train`, not of Lightning: it comes after the final test, when
the task holds the best checkpoint and the final numbers, baselines among them, are known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.figures import save_figure
from rnnlab.callbacks.ledger import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LearningCurves(pl.Callback):
    """Draw metrics.csv as figures/learning_curves.png."""

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.plots import learning_curves

        rows = read_rows(Path(trainer.default_root_dir) / "metrics.csv")
        baselines = {
            key.removeprefix("baseline/"): value for key, value in metrics.items() if key.startswith("baseline/")
        }
        save_figure(trainer, "learning_curves", learning_curves(rows, baselines))


class Forecasts(pl.Callback):
    """Draw forecasts as figures/forecasts.png: of the test part over time for one series, else of single windows.

    Args:
        num_series: how many windows to draw.
    """

    def __init__(self, num_series: int = 6) -> None:
        self.num_series = num_series

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        has_levels = hasattr(trainer.datamodule, "to_level")
        save_figure(trainer, "forecasts", (_of_levels if has_levels else _of_windows)(trainer, task, self.num_series))


def _predict(task: pl.LightningModule, x: torch.Tensor) -> torch.Tensor:
    """Return forecasts (N, K) of inputs (N, T, I), on the CPU."""
    task.eval()
    with torch.inference_mode():
        return task.predict_step((x.to(task.device),), 0).cpu()


def _of_windows(trainer: pl.Trainer, task: pl.LightningModule, num_series: int) -> Figure:
    """Draw the first validation series."""
    from rnnlab.analysis.plots import forecast

    x, y = (tensor[:num_series] for tensor in trainer.datamodule.splits["val"])
    history = x[:, :, 0].numpy()
    truth = (y if y.ndim == 2 else y[:, -1]).numpy()
    baseline = np.repeat(history[:, -1:], truth.shape[1], axis=1)
    return forecast(history, truth, _predict(task, x).numpy(), baseline)


def _of_levels(trainer: pl.Trainer, task: pl.LightningModule, num_series: int) -> Figure:
    """Draw the test part of a user's series in its own units."""
    from rnnlab.analysis.plots import forecast, level_forecast

    data = trainer.datamodule
    x, _, origin = data.splits["test"]
    predicted = data.to_level(_predict(task, x), origin).numpy()  # (N, K)
    rows = data.first_targets["test"]
    if data.horizon == 1:
        others = {"persistence": data.levels[rows - 1]}
        if data.season is not None:
            others["seasonal naive"] = data.levels[rows - data.season]
        return level_forecast(data.levels, int(rows[0]), predicted[:, 0], others, unit=data.column)
    chosen = np.linspace(0, len(rows) - 1, min(num_series, len(rows))).astype(int)
    starts = rows[chosen][:, None]
    history = data.levels[starts + np.arange(-data.window, 0)]
    truth = data.levels[starts + np.arange(data.horizon)]
    naive = np.repeat(history[:, -1:], data.horizon, axis=1)
    return forecast(history, truth, predicted[chosen], naive, title=f"Forecasts of {data.column}, test part")
