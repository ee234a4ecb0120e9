"""Cells beyond torch's, for `rnnlab.nn.Recurrent`: each one step, its equations and its paper."""

from rnnlab.nn.research.elman import ElmanCell, IndRNNCell, JordanCell
from rnnlab.nn.research.gru import GatedGRUCell
from rnnlab.nn.research.layer_norm import LayerNormGRUCell, LayerNormLSTMCell, LayerNormRNNCell
from rnnlab.nn.research.lstm import CIFGCell, GatedLSTMCell, PeepholeLSTMCell
from rnnlab.nn.research.scan import LRUCell, MinGRUCell, MinLSTMCell, ScanCell
from rnnlab.nn.research.state_space import NARX, NARXCell, StateSpaceCell

__all__ = [
    "NARX",
    "CIFGCell",
    "ElmanCell",
    "GatedGRUCell",
    "GatedLSTMCell",
    "IndRNNCell",
    "JordanCell",
    "LRUCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormRNNCell",
    "MinGRUCell",
    "MinLSTMCell",
    "NARXCell",
    "PeepholeLSTMCell",
    "ScanCell",
    "StateSpaceCell",
]
