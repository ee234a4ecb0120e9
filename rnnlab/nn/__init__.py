"""Recurrent layers and cells: torch.nn's, made faster and free of feature cliffs."""

from rnnlab.nn import init
from rnnlab.nn.backend import available_backends, explain_backend
from rnnlab.nn.cells import GRUCell, LSTMCell, RNNCell
from rnnlab.nn.rnn import GRU, LSTM, RNN
from rnnlab.nn.state import detach_state

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "available_backends",
    "detach_state",
    "explain_backend",
    "init",
]
