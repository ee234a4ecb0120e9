"""Cells, each one step with its equations and its paper: torch's own, and those beyond them for `Recurrent`."""

from rnnlab.nn.cells.base import ChainCell, GatedCell
from rnnlab.nn.cells.elman import ElmanCell, IndRNNCell, JordanCell
from rnnlab.nn.cells.gru import GatedGRUCell
from rnnlab.nn.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell, LayerNormRNNCell
from rnnlab.nn.cells.lstm import CIFGCell, GatedLSTMCell, PeepholeLSTMCell
from rnnlab.nn.cells.scan import LRUCell, MinGRUCell, MinLSTMCell, ScanCell, SelectiveLRUCell
from rnnlab.nn.cells.state_space import NARXCell, StateSpaceCell
from rnnlab.nn.cells.torch_cells import GRUCell, LSTMCell, RNNCell

__all__ = [
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
    "ScanCell",
    "SelectiveLRUCell",
    "StateSpaceCell",
]
