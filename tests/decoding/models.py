"""Small models for the tests of decoding."""

import functools
from typing import NamedTuple

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


class Memory(NamedTuple):
    """What the stub of an encoder leaves: a row a source."""

    codes: torch.Tensor  # (S, B, M)
    mask: torch.Tensor  # bool (S, B, 1)


class Translator(nn.Module):
    """An encoder-decoder with attention, as small as can be, whose state and memory both matter.

    Its attention sees queries (B, K, M): a state whose rows were not reordered, or a memory that lost its rows, shows.
    """

    def __init__(self, vocabulary=8, size=6, seed=0, scale=1.0, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weight(*shape):
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64).mul(scale).to(dtype))

        self.sources, self.targets = weight(vocabulary, size), weight(vocabulary, size)
        self.recurrent, self.head = weight(size, size), weight(size, vocabulary)
        self.calls = []  # rows of each step

    def encode(self, source, lengths):
        mask = torch.arange(source.shape[1]) < lengths[:, None]
        places = torch.linspace(0.1, 1, 50, dtype=self.sources.dtype)[: source.shape[1], None, None]
        return Memory(self.sources[source.T] + places, mask.T[:, :, None])

    def initial_state(self, memory):
        first = torch.where(memory.mask, memory.codes, 0).sum(0)
        return first.tanh(), (first.sin()[None],)  # in layers and nested, as stacks of cells have them

    def step(self, symbols, state, memory):
        self.calls.append(len(symbols))
        h, (c,) = state
        h = (h @ self.recurrent + self.targets[symbols] + c[0]).tanh()
        keys = memory.codes.transpose(0, 1)  # (B, S, M)
        queries = h.unflatten(0, (len(keys), -1))  # (B, K, M)
        energies = (queries @ keys.mT).masked_fill(~memory.mask.permute(1, 2, 0), -torch.inf)  # (B, K, S)
        h = h + (energies.softmax(-1) @ keys).flatten(0, 1)
        return h @ self.head, (h, (0.5 * c + h[None],))


class Fixed(nn.Module):
    """Expects the same of every next symbol of a source: row i of a table (I, V) of logits, i its first symbol."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(torch.as_tensor(table, dtype=torch.float64))
        self.calls = []

    def encode(self, source, lengths):
        return (self.table[source[:, 0]],)

    def initial_state(self, memory):
        return None

    def step(self, symbols, state, memory):
        self.calls.append(len(symbols))
        return memory[0].repeat_interleave(len(symbols) // len(memory[0]), dim=0), None
