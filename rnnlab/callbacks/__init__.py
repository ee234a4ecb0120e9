"""What a run records and shows while it trains."""

from rnnlab.callbacks.char_pictures import CharPictures
from rnnlab.callbacks.checkpoint import LastAndBest
from rnnlab.callbacks.clip_rate import ClipRate
from rnnlab.callbacks.gradient_flow import GradientFlow
from rnnlab.callbacks.heart_beats import HeartBeats
from rnnlab.callbacks.ledger import Ledger
from rnnlab.callbacks.pairs import PairReport, PairSamples
from rnnlab.callbacks.pictures import Forecasts, LearningCurves
from rnnlab.callbacks.progress import EpochProgress
from rnnlab.callbacks.prune import Prune
from rnnlab.callbacks.reseed import Reseed, reseed
from rnnlab.callbacks.samples import Samples
from rnnlab.callbacks.series_forecasts import SeriesForecasts
from rnnlab.callbacks.sounds import Posteriors, SoundSamples
from rnnlab.callbacks.steps import StepReport
from rnnlab.callbacks.tagging import ClassReport, TagReport
from rnnlab.callbacks.text_samples import TextSamples
from rnnlab.callbacks.waves import Waves

__all__ = [
    "CharPictures",
    "ClassReport",
    "ClipRate",
    "EpochProgress",
    "Forecasts",
    "GradientFlow",
    "HeartBeats",
    "LastAndBest",
    "LearningCurves",
    "Ledger",
    "PairReport",
    "PairSamples",
    "Posteriors",
    "Prune",
    "Reseed",
    "Samples",
    "SeriesForecasts",
    "SoundSamples",
    "StepReport",
    "TagReport",
    "TextSamples",
    "Waves",
    "reseed",
]
