"""The listener: symbol by symbol equals all at once, and a row is read as if it stood alone."""

import functools
from types import SimpleNamespace

import pytest
import torch

import rnnlab.nn
from rnnlab.decoding import translate
from rnnlab.decoding.symbols import START
from rnnlab.models import Listener

LENGTHS = torch.tensor([11, 7, 3])
TARGET = torch.tensor([[4, 5, 3, 0], [6, 3, 0, 0], [6, 6, 6, 3]])


def made(**options):
    torch.manual_seed(0)
    rnn = functools.partial(rnnlab.nn.LSTM, hidden_size=6, bidirectional=True, backend="eager")
    return Listener(rnn, num_features=5, num_classes=4, embedding_size=6, **options).double().eval()


def sounds():
    torch.manual_seed(1)
    source = torch.randn(3, 11, 5, dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        source[row, length:] = 0
    return source


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("options", [{}, {"attention": "additive", "input_feeding": True}, {"attention": "none"}])
def test_symbol_by_symbol_equals_all_at_once(options, stack):
    model, source = made(stack=stack, **options), sounds()
    whole = model(SimpleNamespace(source=source, source_lengths=LENGTHS, target=TARGET))
    memory = model.encode(source, LENGTHS)
    state, token = model.initial_state(memory), torch.full((3,), START)
    for place, following in enumerate(TARGET.t()):
        logits, state = model.step(token, state, memory)
        torch.testing.assert_close(logits, whole[:, place])
        token = following
    assert whole.shape == (3, 4, 4 + 3)


@pytest.mark.parametrize("stack", [1, 2, 3])
def test_a_row_is_read_as_if_it_stood_alone(stack):
    model, source = made(stack=stack), sounds()
    longer = torch.cat([source, torch.zeros(3, 4, 5, dtype=torch.float64)], dim=1)
    batch = SimpleNamespace(source=longer, source_lengths=LENGTHS, target=TARGET)
    together = model(batch)
    found = translate(model, longer, LENGTHS, max_length=4, beam=3)
    for row, length in enumerate(LENGTHS.tolist()):
        part, count = source[row : row + 1, :length], LENGTHS[row : row + 1]
        alone = model(SimpleNamespace(source=part, source_lengths=count, target=TARGET[row : row + 1]))
        torch.testing.assert_close(alone[0], together[row])
        assert translate(model, part, count, max_length=4, beam=3)[0][0].ids == found[row][0].ids
    torch.testing.assert_close(model.attention_weights(batch).sum(2), torch.ones(3, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stack": 0}, "model.stack must be an integer of at least 1, got 0"),
        ({"band_dropout": 1.0}, r"model.band_dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)
    with pytest.raises(ValueError, match=r"sources must be \(B, T, 5\) with T >= 1, got \(2, 3, 4\)"):
        made().encode(torch.zeros(2, 3, 4), torch.tensor([3, 3]))
