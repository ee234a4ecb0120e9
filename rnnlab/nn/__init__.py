"""Recurrent layers and cells: torch.nn's, made faster and free of feature cliffs, and research cells beside them."""

import sys
from types import ModuleType

from rnnlab.nn import cells, init, options
from rnnlab.nn.bidirectional import Bidirectional
from rnnlab.nn.cells import (
    ChainCell,
    CIFGCell,
    ElmanCell,
    GatedCell,
    GatedGRUCell,
    GatedLSTMCell,
    GRUCell,
    IndRNNCell,
    JordanCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormRNNCell,
    LRUCell,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    NARXCell,
    PeepholeLSTMCell,
    RNNCell,
    ScanCell,
    SelectiveLRUCell,
    StateSpaceCell,
)
from rnnlab.nn.convert import convert_weights
from rnnlab.nn.explain import available_backends, explain_backend
from rnnlab.nn.narx import NARX
from rnnlab.nn.recurrent import Recurrent
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
    "SelectiveLRUCell",
    "StateSpaceCell",
    "available_backends",
    "convert_weights",
    "detach_state",
    "explain_backend",
    "init",
]

# Where classes were before they moved: pickles of whole modules, and code of that time, look for them there.
_MOVED = {
    "gated": cells.base,
    "protocol": cells.protocol,
    **dict.fromkeys(("clipping", "dropout", "regularisation"), options),
    **{f"research.{name}": getattr(cells, name) for name in ("base", "elman", "gru", "layer_norm", "lstm", "scan")},
}
for _name, _module in {"research": cells, "research.state_space": cells.state_space}.items():
    _MOVED[_name] = ModuleType(_name)
    vars(_MOVED[_name]).update(vars(_module), NARX=NARX)
sys.modules.update({f"{__name__}.{name}": module for name, module in _MOVED.items()})
