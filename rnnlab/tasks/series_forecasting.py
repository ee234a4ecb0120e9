"""Training of forecasters of windows of series: what their head minimises, scored in units of the series.

Letters: B windows, K steps to forecast, C targets, Q levels of quantiles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.baselines.forecast_errors import INTERVALS, TERMS, forecast_terms, from_means
from rnnlab.data.panel import Forecast, ForecastBatch
from rnnlab.models.heads import LEVELS
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task


class SeriesForecastingTask(Task):
    """Learn to forecast the series of `rnnlab.data.PanelData`.

    Minimised, and logged as 'loss', is what the model's head minimises, the mean over targets that are not missing.
    Logged for 'val/' and 'test/' beside it: the errors of `rnnlab.baselines.forecast_errors`, 'crps' and coverage of
    models that give a distribution alone. They are of whole forecasts, brought to levels by the data's `inverse`;
    'loss' of a recursive model is of single steps.

    Args:
        model: as `rnnlab.models.SeriesForecaster`, with `head`, `loss` and `forecast`.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.

    Attributes:
        monitor: the metric that picks the best checkpoint: the CRPS, of a point forecast the squared error; and which
            way is up.
        levels: of the quantiles that it forecasts, none of a point.
        intervals: in percent, by the levels of their ends.
    """

    intervals = INTERVALS

    def __init__(self, model: nn.Module, optim: OptimiserFactory, schedule: ScheduleFactory | None = None) -> None:
        super().__init__(model, optim, schedule, "loss", *TERMS)
        self.monitor = ("val/crps" if model.head.has_distribution else "val/mse", "min")
        self.levels = LEVELS if model.head.has_distribution else ()

    def training_step(self, batch: ForecastBatch, batch_index: int) -> Tensor:
        loss, weight = self.model.loss(batch)
        count = weight.sum()
        mean = (loss * weight).sum() / count.clamp(min=1)
        return self.train_loss.add(self, mean, count)

    def check_data(self, data: Any) -> None:
        """Raise ValueError unless all levels of `rnnlab.data.PanelData` are of the kind that the head can say."""
        for one in data.panel.series:
            self.model.head.check_levels(torch.from_numpy(one.target))

    def check(self, batch: ForecastBatch) -> None:
        """Raise ValueError unless the model can forecast such a batch."""
        self.model.check(batch)
        self.model.loss(batch)
        mean = self.predict_step(batch).mean
        if mean.shape != batch.target.shape:
            raise ValueError(
                f"the model forecasts {tuple(mean.shape)}, and the targets are {tuple(batch.target.shape)}"
            )

    def measure(self, batch: ForecastBatch, split: str) -> None:
        loss, weight = self.model.loss(batch)
        self.means[split].update(loss=loss, weight=weight)
        data = self.trainer.datamodule
        forecast = data.in_levels(batch, self.predict_step(batch))
        truth = data.inverse(batch.loc + batch.scale * batch.target)
        arrays = (forecast.mean, truth, *data.denominators(batch), forecast.quantiles)
        terms = forecast_terms(*(values.cpu().numpy() for values in arrays), forecast.levels)
        for name, values in terms.items():
            if values.size:
                self.means[split].update(**{name: torch.from_numpy(values)})

    def report(self, split: str) -> dict[str, Any]:
        return from_means(self.means[split].report())

    def predict_step(self, batch: ForecastBatch, batch_index: int = 0) -> Forecast:
        """Return the forecast of all steps of a batch, in scaled values."""
        return Forecast(*self.model.forecast(batch, self.levels), self.levels)
