"""Small models for the tests of decoding."""

import functools

import torch
from torch import nn

import rnnlab.nn
from rnnlab.models import CharLM

VOCAB_SIZE = 7  # UNKNOWN, START and five characters


def recurrent(cell, **options):
    return lambda input_size: rnnlab.nn.Recurrent(cell(input_size, 5), **options)


RNNS = {
    "lstm": functools.partial(rnnlab.nn.LSTM, hidden_size=5, num_layers=2),
    "gru": functools.partial(rnnlab.nn.GRU, hidden_size=5),
    "recurrent_gru": recurrent(rnnlab.nn.GRUCell, num_layers=2),
    "layer_norm_lstm": recurrent(rnnlab.nn.LayerNormLSTMCell),
    "lru": recurrent(rnnlab.nn.LRUCell),
    "learned_start": recurrent(rnnlab.nn.GRUCell, learn_initial_state=True),
}
STATEFUL = {"stateful": recurrent(rnnlab.nn.GRUCell, stateful=True)}


def char_lm(rnn="lstm", **options):
    """Return a model in double precision, whose weights are large enough for its past to matter."""
    model = CharLM({**RNNS, **STATEFUL}[rnn], VOCAB_SIZE, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.8)
    return model


class Constant(nn.Module):
    """Expects the same of every next symbol, whatever it has read."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def initial_state(self, batch_size):
        return None

    def forward(self, ids, state=None, *, lengths=None, return_state=False):
        logits = self.logits.expand(*ids.shape, -1)
        return (logits, None) if return_state else logits
