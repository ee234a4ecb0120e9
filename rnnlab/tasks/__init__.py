"""LightningModules: loss, metrics and optimiser of a task; the model comes in built."""

from rnnlab.tasks.addition import AdditionTask
from rnnlab.tasks.char_lm import CharLMTask
from rnnlab.tasks.classification import ClassificationTask
from rnnlab.tasks.ctc import CTCTask
from rnnlab.tasks.delineation import DelineationTask
from rnnlab.tasks.forecasting import ForecastingTask
from rnnlab.tasks.generation import GenerationTask
from rnnlab.tasks.listen import ListenTask
from rnnlab.tasks.seq2seq import Seq2SeqTask
from rnnlab.tasks.series_forecasting import SeriesForecastingTask
from rnnlab.tasks.tagging import TaggingTask

__all__ = [
    "AdditionTask",
    "CTCTask",
    "CharLMTask",
    "ClassificationTask",
    "DelineationTask",
    "ForecastingTask",
    "GenerationTask",
    "ListenTask",
    "Seq2SeqTask",
    "SeriesForecastingTask",
    "TaggingTask",
]
