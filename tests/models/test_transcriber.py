"""The transcriber: a row is read as if it stood alone, parts of it as the whole, and sizes are as they should be."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.models import Transcriber

EAGER = {"hidden_size": 6, "backend": "eager"}  # nothing to be compiled first
BIDIRECTIONAL = partial(rnnlab.nn.LSTM, bidirectional=True, **EAGER)
ONWARDS = {
    "RNN": partial(rnnlab.nn.RNN, num_layers=2, **EAGER),
    "LSTM": partial(rnnlab.nn.LSTM, **EAGER),
    "two GRU layers": partial(rnnlab.nn.GRU, num_layers=2, **EAGER),
    **{
        name: partial(rnnlab.nn.Recurrent, partial(getattr(rnnlab.nn, name), hidden_size=6), num_layers=2)
        for name in ("LayerNormLSTMCell", "PeepholeLSTMCell", "IndRNNCell", "MinGRUCell", "LRUCell", "NARXCell")
    },
}


def made(rnn=BIDIRECTIONAL, **options):
    torch.manual_seed(0)
    return Transcriber(rnn, num_features=3, num_classes=5, **options).eval()


def rows_of(*lengths):
    """Return features (T, B, F) of rows of these lengths, zero in padding, and the lengths."""
    features = torch.randn(max(lengths), len(lengths), 3)
    for row, length in enumerate(lengths):
        features[length:, row] = 0
    return features, torch.tensor(lengths)


@pytest.mark.parametrize("stack", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"layer_norm": True, "projection": 4}])
@pytest.mark.parametrize("rnn", [BIDIRECTIONAL, *ONWARDS.values()])
def test_a_row_is_read_as_if_it_stood_alone(rnn, options, stack):
    model, (features, lengths) = made(rnn, stack=stack, **options), rows_of(7, 1, 5, 6)
    logits, steps = model(torch.cat([features, torch.zeros(4, 4, 3)]), lengths)
    assert steps.tolist() == [-(-length // stack) for length in lengths.tolist()]
    assert logits.shape == (int(steps.max()), 4, 5)
    for row, length in enumerate(lengths.tolist()):
        alone, count = model(features[:length, row : row + 1], torch.tensor([length]))
        assert count == steps[row]
        torch.testing.assert_close(logits[: len(alone), row], alone[:, 0])


@pytest.mark.parametrize("rnn", ONWARDS.values(), ids=ONWARDS)
@pytest.mark.parametrize(("stack", "part"), [(1, 1), (2, 2), (2, 6), (3, 3)])
def test_parts_one_after_the_other_are_the_whole(rnn, stack, part):
    model = made(rnn, stack=stack, layer_norm=True)
    features = torch.randn(11, 2, 3)
    whole, _ = model(features, torch.tensor([11, 11]))
    state, logits = model.initial_state(2), []
    for chunk in features.split(part):
        step, state = model.step(chunk, state)
        logits.append(step)
    torch.testing.assert_close(torch.cat(logits), whole)


def test_every_parameter_learns():
    model, (features, lengths) = made(stack=2, layer_norm=True, projection=4, dropout=0.2).train(), rows_of(7, 4)
    logits, _ = model(features, lengths)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_a_dropped_band_is_dropped_in_all_frames():
    model, seen = made(stack=2, band_dropout=0.5).train(), []
    model.rnn.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    features = torch.ones(6, 200, 3)
    model(features, torch.full((200,), 6))
    bands = seen[0].view(3, 200, 2, 3)
    assert (bands == bands[:1, :, :1]).all() and set(bands.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (bands[0, :, 0] == 0).float().mean() < 0.6
    model.eval()(features, torch.full((200,), 6))
    assert (seen[1] == 1).all()


def test_the_blank_is_as_likely_at_first_as_asked_for():
    plain, less = made(), made(blank_bias=-2.0)
    torch.testing.assert_close(less.head.bias - plain.head.bias, torch.tensor([-2.0, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stack": 0}, "model.stack must be an integer of at least 1, got 0"),
        ({"projection": 0}, "model.projection must be an integer of at least 1, got 0"),
        ({"blank_bias": "low"}, "model.blank_bias must be a number, got 'low'"),
        ({"dropout": 1.0}, "model.dropout must lie in"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_a_network_both_ways_does_not_stream():
    model = made()
    assert not model.streams and made(ONWARDS["LSTM"]).streams
    with pytest.raises(ValueError, match="cannot read step by step"):
        model.step(torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"features must be \(T, B, 3\) with T >= 1, got \(1, 1, 4\)"):
        model(torch.zeros(1, 1, 4), torch.tensor([1]))
