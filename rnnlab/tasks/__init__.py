"""LightningModules: loss, metrics and optimiser of a task; the model comes in built."""

from rnnlab.tasks.addition import AdditionTask
from rnnlab.tasks.char_lm import CharLMTask
from rnnlab.tasks.ctc import CTCTask
from rnnlab.tasks.forecasting import ForecastingTask
from rnnlab.tasks.generation import GenerationTask
from rnnlab.tasks.seq2seq import Seq2SeqTask
from rnnlab.tasks.tagging import TaggingTask

__all__ = ["AdditionTask", "CTCTask", "CharLMTask", "ForecastingTask", "GenerationTask", "Seq2SeqTask", "TaggingTask"]
