"""Data modules: one file a family, all in memory, every split a pure function of the arguments."""

from rnnlab.data.adding import AddingData
from rnnlab.data.addition import AdditionData, decode, encode
from rnnlab.data.batches import EpochSampler, InMemoryData, Queries
from rnnlab.data.binary_sums import BinaryAdditionData
from rnnlab.data.copying import CopyData
from rnnlab.data.dates import DateData
from rnnlab.data.digits import DigitsData
from rnnlab.data.ecg import ECGData
from rnnlab.data.generated import GeneratedTaggerData
from rnnlab.data.homophones import HomophoneData, SegmentBatch
from rnnlab.data.images import ImageData
from rnnlab.data.labelled import ClassBatch, ClassData
from rnnlab.data.labelled_files import SeriesFileData
from rnnlab.data.labelled_text import LabelledTextData
from rnnlab.data.languages import LanguageData
from rnnlab.data.lemmas import LemmaData
from rnnlab.data.mnist1d import MNIST1DData
from rnnlab.data.morse import MorseData
from rnnlab.data.numbers import NumberData
from rnnlab.data.pair_files import TSVPairs
from rnnlab.data.pair_rows import Pair, PairBatch
from rnnlab.data.pairs import PairData
from rnnlab.data.panel_data import PanelData
from rnnlab.data.pronunciations import PronunciationData
from rnnlab.data.sentences import TaggedBatch
from rnnlab.data.series import CSVData
from rnnlab.data.sines import TwoSineData
from rnnlab.data.single_digits import SingleDigitsData
from rnnlab.data.sounds import SoundBatch, SoundData
from rnnlab.data.speech import SpokenData
from rnnlab.data.steps import StepBatch, StepData
from rnnlab.data.streams import Window, window_loader
from rnnlab.data.tagged import TaggerData
from rnnlab.data.text import TextData
from rnnlab.data.transcribed import TranscribedData
from rnnlab.data.waves import WaveData

__all__ = [
    "AddingData",
    "AdditionData",
    "BinaryAdditionData",
    "CSVData",
    "ClassBatch",
    "ClassData",
    "CopyData",
    "DateData",
    "DigitsData",
    "ECGData",
    "EpochSampler",
    "GeneratedTaggerData",
    "HomophoneData",
    "ImageData",
    "InMemoryData",
    "LabelledTextData",
    "LanguageData",
    "LemmaData",
    "MNIST1DData",
    "MorseData",
    "NumberData",
    "Pair",
    "PairBatch",
    "PairData",
    "PanelData",
    "PronunciationData",
    "Queries",
    "SegmentBatch",
    "SeriesFileData",
    "SingleDigitsData",
    "SoundBatch",
    "SoundData",
    "SpokenData",
    "StepBatch",
    "StepData",
    "TSVPairs",
    "TaggedBatch",
    "TaggerData",
    "TextData",
    "TranscribedData",
    "TwoSineData",
    "WaveData",
    "Window",
    "decode",
    "encode",
    "window_loader",
]
