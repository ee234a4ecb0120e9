"""The listener: symbol by symbol equals all at once, and a row is read as if it stood alone."""

import functools
import re
from types import SimpleNamespace

import pytest
import torch

import rnnlab.nn
from rnnlab.decoding import translate
from rnnlab.decoding.symbols import START
from rnnlab.models import EncoderDecoder, Listener

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


def test_a_last_stack_that_is_not_full_is_a_step():
    x, steps = made(stack=3).embed(sounds(), torch.tensor([10, 7, 3]))
    assert steps.tolist() == [4, 3, 1] and x.shape == (4, 3, 6)
    x, steps = made(stack=3).embed(sounds(), torch.tensor([4, 7, 3]))
    assert steps.tolist() == [2, 3, 1] and x.shape == (3, 3, 6)  # no frame of padding alone


def test_bands_are_dropped_for_all_frames_of_a_row_in_training_alone():
    read = []
    for rate in (0.0, 0.5):
        model = made(band_dropout=rate, stack=2)
        model.projection.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].view(-1, 3, 2, 5)))
        model.train().embed(sounds(), LENGTHS)
        model.eval().embed(sounds(), LENGTHS)
    plain, _, dropped, kept = read
    assert torch.equal(plain, kept)
    is_zero = (dropped[:3] == 0).all(dim=2).all(dim=0)  # (B, F), over the steps that all rows have but the last
    assert torch.equal(dropped[:1].expand(1, 3, 2, 5) == 0, is_zero.unsqueeze(1).expand(1, 3, 2, 5))
    assert 0 < is_zero.sum() < is_zero.numel()
    torch.testing.assert_close(dropped[0], (plain[0] * 2).masked_fill(is_zero.unsqueeze(1), 0))


def test_options_reach_the_encoder_and_the_decoder():
    decoder = functools.partial(rnnlab.nn.GRU, hidden_size=7, backend="eager")
    options = {"attention": "additive", "attention_size": 9, "input_feeding": True, "dropout": 0.25}
    model = made(decoder=decoder, init={"bias": "zeros"}, **options)
    expected = EncoderDecoder(
        *(functools.partial(rnnlab.nn.LSTM, hidden_size=6, bidirectional=True), None, 7),
        **{"decoder": decoder, "embedding_size": 6, **options},
    )
    shapes = {name: value.shape for name, value in model.named_parameters() if not name.startswith("projection")}
    assert shapes == {name: value.shape for name, value in expected.named_parameters()}
    assert model.input_feeding and model.dropout.p == 0.25
    assert not any(value.any() for name, value in model.decoder.named_parameters() if "bias" in name)


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
    for shape in ((2, 3, 4), (2, 0, 5), (2, 5), (2, 3, 5, 5)):
        with pytest.raises(ValueError, match=rf"sources must be \(B, T, 5\) with T >= 1, got {re.escape(str(shape))}"):
            made().encode(torch.zeros(shape), torch.tensor([3, 3]))
