"""Models: recurrent layers with what goes before and after them; plain nn.Module, batch first outside."""

from rnnlab.models.adder import Adder
from rnnlab.models.char_lm import CharLM
from rnnlab.models.classifier import Classifier
from rnnlab.models.crf import LinearChainCRF
from rnnlab.models.delineator import Delineator
from rnnlab.models.encoder_decoder import EncoderDecoder
from rnnlab.models.finite_memory import TCN, TimeDelay
from rnnlab.models.forecaster import Forecaster
from rnnlab.models.linear_forecaster import LinearForecaster, LinearSeriesForecaster
from rnnlab.models.listener import Listener
from rnnlab.models.narx_forecaster import NARXForecaster
from rnnlab.models.recursive_forecaster import RecursiveForecaster
from rnnlab.models.segment_tagger import SegmentTagger
from rnnlab.models.series_forecaster import SeriesForecaster
from rnnlab.models.tagger import Tagger
from rnnlab.models.transcriber import Transcriber
from rnnlab.models.transformer import TransformerSeq2Seq
from rnnlab.models.vector_decoder import VectorDecoder
from rnnlab.models.vector_generator import VectorGenerator

__all__ = [
    "TCN",
    "Adder",
    "CharLM",
    "Classifier",
    "Delineator",
    "EncoderDecoder",
    "Forecaster",
    "LinearChainCRF",
    "LinearForecaster",
    "LinearSeriesForecaster",
    "Listener",
    "RecursiveForecaster",
    "NARXForecaster",
    "SegmentTagger",
    "SeriesForecaster",
    "Tagger",
    "TimeDelay",
    "Transcriber",
    "TransformerSeq2Seq",
    "VectorDecoder",
    "VectorGenerator",
]
