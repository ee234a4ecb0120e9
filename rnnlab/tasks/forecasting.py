"""Training of a forecaster: mean squared error, scored at the last step and, where there are any, in original units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from rnnlab.data import Window
from rnnlab.tasks.carry import Carry, WindowedTask
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory


class ForecastingTask(WindowedTask):
    """Learn to forecast the series of a data module of `rnnlab.data`.

    Logged for 'val/' and 'test/', all as sums over counts: 'mse_last' over the forecasts made at the last step and,
    where the targets are at every step, 'mse' over all. Where batches end with an origin, the data module's `to_level`
    brings forecasts back to the series' own units, and 'rmse', 'mae' and 'mape' (in %, left out if a true value is 0)
    of the last step are logged too. 'train/loss' is the mean of what is minimised over the epoch, while the weights
    move: the error of all targets.

    Training batches may be windows of longer series (`rnnlab.data.Window`): the state is carried from one to the next,
    cut off from its graph, and saved in checkpoints. Evaluation always reads whole series.

    Args:
        model: series (B, T, I) -> forecasts, of the shape of the targets: (B, K), or (B, T, K) for every step. To
            train on windows it also has `initial_state` and takes a state and `return_state`, as `Forecaster` does. One
            whose `reads_targets` is true is given `targets` in training.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/mse_last", "min")

    def __init__(self, model: nn.Module, optim: OptimiserFactory, schedule: ScheduleFactory | None = None) -> None:
        super().__init__(model, optim, schedule, "mse", "mse_last", "level_mse", "mae", "mape")

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        y = batch[1]
        loss = mse_loss(self._forecast(batch, self.carry), y)
        return self.train_loss.add(self, loss, y[..., 0].numel())

    def check(self, batch: tuple[Tensor, ...]) -> None:
        """Raise ValueError unless the model's forecasts of a batch have the shape of its targets.

        With windows, also unless it has a state for the next one to start in.
        """
        self._forecast(batch)
        self._forecast(batch, Carry())

    def _forecast(self, batch: tuple[Tensor, ...], carry: Carry | None = None) -> Tensor:
        """Return the model's forecasts, after making sure that they are what the targets ask for.

        In training there is a carry: a window starts in its state and leaves its own there, and a model that learns
        from true values sees the targets.
        """
        x, y = batch[:2]
        if carry is not None and getattr(self.model, "reads_targets", False):
            forecast = self.model(x, targets=y)
        elif carry is not None and isinstance(batch, Window):
            state = carry.enter(batch.reset, self.model.initial_state(len(x)))
            forecast, state = self.model(x, state, return_state=True)
            carry.leave(state)
        else:
            forecast = self.model(x)
        if forecast.shape != y.shape:
            raise ValueError(
                f"the model forecasts {tuple(forecast.shape)} and the targets are {tuple(y.shape)}: "
                "data.target=sequence goes with model.all_steps=true, data.target=last with false"
            )
        return forecast

    def measure(self, batch: tuple[Tensor, ...], split: str) -> None:
        x, y, *origin = batch
        forecast = self._forecast(batch)
        error = (forecast - y).double()
        means = self.means[split]
        means.update(mse_last=_last_step(error) ** 2)
        if error.ndim == 3:
            means.update(mse=error**2)
        if origin:
            to_level = self.trainer.datamodule.to_level
            truth = to_level(_last_step(y), *origin)
            level_error = to_level(_last_step(forecast), *origin) - truth
            relative = torch.where(truth == 0, torch.inf, level_error / truth)
            means.update(level_mse=level_error**2, mae=level_error.abs(), mape=100 * relative.abs())

    def report(self, split: str) -> dict[str, Any]:
        means = self.means[split].report()
        if "level_mse" in means:
            means["rmse"] = means.pop("level_mse").sqrt()
            if not means["mape"].isfinite():
                del means["mape"]
        return means

    def predict_step(self, batch: tuple[Tensor, ...] | Tensor, batch_index: int = 0) -> Tensor:
        """Return the forecasts (B, K) made at the last step of series (B, T, I), alone or first in a batch."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        return _last_step(self.model(x))


def _last_step(values: Tensor) -> Tensor:
    """Return (B, K) of values that are (B, K) already or (B, T, K)."""
    return values if values.ndim == 2 else values[:, -1]
