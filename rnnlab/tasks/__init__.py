"""LightningModules: loss, metrics and optimiser of a task; the model comes in built."""

from rnnlab.tasks.addition import AdditionTask
from rnnlab.tasks.forecasting import ForecastingTask

__all__ = ["AdditionTask", "ForecastingTask"]
