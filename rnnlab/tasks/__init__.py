"""LightningModules: loss, metrics and optimiser of a task; the model comes in built."""

from rnnlab.tasks.addition import AdditionTask
from rnnlab.tasks.char_lm import CharLMTask
from rnnlab.tasks.forecasting import ForecastingTask

__all__ = ["AdditionTask", "CharLMTask", "ForecastingTask"]
