"""Recurrent layers and cells: torch.nn's, made faster and free of feature cliffs, and research cells beside them."""

from rnnlab.nn import init
from rnnlab.nn.backend import available_backends, explain_backend
from rnnlab.nn.bidirectional import Bidirectional
from rnnlab.nn.cells import GRUCell, LSTMCell, RNNCell
from rnnlab.nn.convert import convert_weights
from rnnlab.nn.gated import ChainCell, GatedCell
from rnnlab.nn.recurrent import Recurrent
from rnnlab.nn.research import (
    NARX,
    CIFGCell,
    ElmanCell,
    GatedGRUCell,
    GatedLSTMCell,
    IndRNNCell,
    JordanCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormRNNCell,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    NARXCell,
    PeepholeLSTMCell,
    ScanCell,
    StateSpaceCell,
)
from rnnlab.nn.rnn import GRU, LSTM, RNN
from rnnlab.nn.state import detach_state

__all__ = [
    "GRU",
    "LSTM",
    "NARX",
    "RNN",
    "Bidirectional",
    "CIFGCell",
    "ChainCell",
    "ElmanCell",
    "GRUCell",
    "GatedCell",
    "GatedGRUCell",
    "GatedLSTMCell",
    "IndRNNCell",
    "JordanCell",
    "LRUCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormRNNCell",
    "MinGRUCell",
    "MinLSTMCell",
    "NARXCell",
    "PeepholeLSTMCell",
    "RNNCell",
    "Recurrent",
    "ScanCell",
    "StateSpaceCell",
    "available_backends",
    "convert_weights",
    "detach_state",
    "explain_backend",
    "init",
]
