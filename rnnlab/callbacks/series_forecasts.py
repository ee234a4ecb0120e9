"""What a forecaster of many series says of the test part, with its intervals, and whether they can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.pictures import has_test
from rnnlab.decoding.sampling import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WINDOWS_A_BATCH = 256


class SeriesForecasts(pl.Callback):
    """Draw figures/forecasts.png, and figures/calibration.png of models that give a distribution.

    Args:
        num_windows: how many windows of the test part are drawn, equally far apart, of the first target.
        most_windows: how many windows calibration looks at, equally far apart, at most.
    """

    def __init__(self, num_windows: int = 6, most_windows: int = 2000) -> None:
        self.num_windows, self.most_windows = num_windows, most_windows

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        if not has_test(metrics):
            return
        data, name = trainer.datamodule, run_name(trainer)
        save_figure(
            trainer, "forecasts", forecasts(data, task, self.num_windows, f"Forecasts of the test part ({name})")
        )
        if task.levels:
            title = f"Calibration on the test part ({name})"
            save_figure(trainer, "calibration", calibration(data, task, self.most_windows, title))


def forecasts(data: Any, task: Any, num_windows: int, title: str) -> Figure:
    """Draw windows of the test part of a panel, with bands.

    Args:
        data: as `rnnlab.data.PanelData`, set up.
        task: as `rnnlab.tasks.SeriesForecastingTask`.
    """
    from rnnlab.analysis.bands import bands

    origins = _spread(data.splits["test"][0], num_windows)
    mean, quantiles, _ = _in_levels(data, task, origins)
    history, truth, times, names = [], [], [], []
    for place, row in origins.tolist():
        one = data.panel.series[place]
        history.append(one.target[row - data.window : row, 0])
        truth.append(one.target[row : row + data.horizon, 0])
        times.append(one.times[row - data.window : row + data.horizon])
        names.append(" ".join(filter(None, (one.name, data.panel.targets[0]))))
    ends = {
        f"{percent}%": tuple(quantiles[:, :, 0, task.levels.index(end)] for end in pair)
        for percent, pair in task.intervals.items()
        if task.levels
    }
    return bands(np.stack(history), np.stack(truth), mean[:, :, 0], ends, np.stack(times), names, title)


def calibration(data: Any, task: Any, most_windows: int, title: str) -> Figure:
    """Draw how often true values of the test part lay below their quantiles: at the first step, the last, and all."""
    from rnnlab.analysis.bands import calibration as draw

    _, quantiles, truth = _in_levels(data, task, _spread(data.splits["test"][0], most_windows))
    is_below = np.where(np.isnan(truth)[..., None], np.nan, truth[..., None] <= quantiles)  # (N, K, C, Q)
    last = is_below.shape[1]
    parts = (
        {"all steps": is_below}
        if last == 1
        else {"all steps": is_below, "step 1": is_below[:, :1], f"step {last}": is_below[:, -1:]}
    )
    return draw(task.levels, {name: np.nanmean(part, axis=(0, 1, 2)) for name, part in parts.items()}, title)


def _spread(origins: torch.Tensor, most: int) -> torch.Tensor:
    """Return at most so many of the origins (N, 2), equally far apart."""
    return origins[np.linspace(0, len(origins) - 1, min(most, len(origins))).astype(int)]


def _in_levels(data: Any, task: Any, origins: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means (N, K, C), quantiles (N, K, C, Q) and truth (N, K, C) of windows (N, 2), in levels."""
    found = []
    with evaluating(task), torch.inference_mode():
        for rows in origins.split(_WINDOWS_A_BATCH):
            batch = data.windows.gather(rows, data.horizon).to(task.device)
            forecast = data.in_levels(batch, task.predict_step(batch))
            truth = data.inverse(batch.loc + batch.scale * batch.target)
            found.append([values.cpu().numpy() for values in (forecast.mean, forecast.quantiles, truth)])
    mean, quantiles, truth = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return mean, quantiles, truth
