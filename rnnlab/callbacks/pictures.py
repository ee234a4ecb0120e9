"""Pictures of a finished run: how it learned, and what it forecasts.

`on_run_end(trainer, task, metrics)` is a hook of `rnnlab train`, not of Lightning: it comes after the final test, when
the task holds the best checkpoint and the final numbers, baselines among them, are known. With `test=false` there are
none of the test part, and no callback looks at it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.ledger import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def has_test(metrics: dict[str, float]) -> bool:
    """Tell whether the test part was measured, by the final numbers."""
    return any(key.startswith("test/") for key in metrics)


class LearningCurves(pl.Callback):
    """Draw metrics.csv as figures/learning_curves.png."""

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.plots import learning_curves

        rows = read_rows(Path(trainer.default_root_dir) / "metrics.csv")
        figure = learning_curves(rows, metrics, f"Learning curves of {run_name(trainer)}")
        save_figure(trainer, "learning_curves", figure)


class Forecasts(pl.Callback):
    """Draw forecasts as figures/forecasts.png: of the test part over time for one series, else of single windows.

    Args:
        num_series: how many windows to draw.
    """

    def __init__(self, num_series: int = 6) -> None:
        self.num_series = num_series

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        has_levels = hasattr(trainer.datamodule, "to_level")
        if has_levels and not has_test(metrics):
            return
        save_figure(trainer, "forecasts", (_of_levels if has_levels else _of_windows)(trainer, task, self.num_series))


def _predict(task: pl.LightningModule, x: torch.Tensor) -> torch.Tensor:
    """Return forecasts (N, K) of inputs (N, T, I), on the CPU."""
    task.eval()
    with torch.inference_mode():
        return task.predict_step((x.to(task.device),), 0).cpu()


def _best_baseline(data: pl.LightningDataModule, split: str, truth: np.ndarray) -> tuple[str, np.ndarray] | None:
    """Return name and forecasts (N, K) of the baseline with the least squared error; None of data without any."""
    if not hasattr(data, "baseline_forecasts"):
        return None
    forecasts = data.baseline_forecasts(split)
    return min(forecasts.items(), key=lambda item: float(np.mean((item[1] - truth) ** 2)))


def _of_windows(trainer: pl.Trainer, task: pl.LightningModule, num_series: int) -> Figure:
    """Draw the first validation series."""
    from rnnlab.analysis.plots import forecast

    x, y = trainer.datamodule.splits["val"]
    truth = (y if y.ndim == 2 else y[:, -1]).numpy()
    best, first = _best_baseline(trainer.datamodule, "val", truth), slice(num_series)
    history = x[first, :, 0].numpy()
    return forecast(history, truth[first], _predict(task, x[first]).numpy(), best and (best[0], best[1][first]))


def _of_levels(trainer: pl.Trainer, task: pl.LightningModule, num_series: int) -> Figure:
    """Draw the test part of a user's series in its own units, the best baseline and the naive one beside it."""
    from rnnlab.analysis.plots import forecast, level_forecast

    data = trainer.datamodule
    x, _, origin = data.splits["test"]
    predicted = data.to_level(_predict(task, x), origin).numpy()  # (N, K)
    rows, title = data.first_targets["test"], f"Forecasts of {data.column}, test part"
    truth = data.levels[rows[:, None] + np.arange(data.horizon)]
    best = _best_baseline(data, "test", truth)
    if data.horizon == 1:
        others = {**({best[0]: best[1][:, 0]} if best else {}), "naive": data.levels[rows - 1]}
        return level_forecast(data.levels, int(rows[0]), predicted[:, 0], others, data.column, data.times, title)
    chosen = np.linspace(0, len(rows) - 1, min(num_series, len(rows))).astype(int)
    steps = rows[chosen][:, None] + np.arange(-data.window, data.horizon)
    history = data.levels[steps[:, : data.window]]
    times = None if data.times is None else data.times[steps]
    shown = best and (best[0], best[1][chosen])
    return forecast(history, truth[chosen], predicted[chosen], shown, data.column, times, title)
