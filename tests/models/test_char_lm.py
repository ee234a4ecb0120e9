"""The character model: logits at every step, states that go on, tied weights, locked dropout."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.models import CharLM
from rnnlab.models.layers import LockedDropout

LSTM = partial(rnnlab.nn.LSTM, hidden_size=6)
LAYERS = {
    "lstm": partial(LSTM, num_layers=2),
    "gru": partial(rnnlab.nn.GRU, hidden_size=6),
    "torch": partial(torch.nn.LSTM, hidden_size=6),
    "cell": lambda input_size: rnnlab.nn.Recurrent(rnnlab.nn.LayerNormLSTMCell(input_size, 6), num_layers=2),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("embedding_size", [None, 5])
def test_a_state_goes_on_where_it_was_left(name, embedding_size):
    model = CharLM(LAYERS[name], vocab_size=7, embedding_size=embedding_size).double()
    ids = torch.randint(0, 7, (3, 9))
    whole = model(ids)
    first, state = model(ids[:, :4], model.initial_state(3), return_state=True)
    second = model(ids[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    assert whole.shape == (3, 9, 7)


@pytest.mark.parametrize("name", ["lstm", "gru", "cell"])
def test_a_reset_begins_anew_and_lengths_end_early(name):
    model = CharLM(LAYERS[name], vocab_size=7).double()
    ids = torch.randint(0, 7, (2, 6))
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[1, 2] = True
    logits = model(ids, reset=reset)
    torch.testing.assert_close(logits[0], model(ids[:1])[0])
    torch.testing.assert_close(logits[1, 2:], model(ids[1:, 2:])[0])
    short, state = model(ids, lengths=torch.tensor([6, 2]), return_state=True)
    torch.testing.assert_close(short[1, :2], model(ids[1:, :2])[0])
    after = model(ids[:, :1], state)
    torch.testing.assert_close(after[1], model(torch.cat([ids[1:, :2], ids[1:, :1]], dim=1))[0, 2:])


def test_tied_weights_are_one_tensor():
    model = CharLM(LSTM, vocab_size=7, embedding_size=6, tie_weights=True)
    assert model.embedding.weight is model.head.weight
    model(torch.randint(0, 7, (2, 3))).sum().backward()
    assert sum(p.numel() for p in model.parameters()) == 7 * 6 + 7 + sum(p.numel() for p in model.rnn.parameters())
    copy = CharLM(LSTM, vocab_size=7, embedding_size=6, tie_weights=True)
    copy.load_state_dict(model.state_dict())
    assert copy.embedding.weight is copy.head.weight
    assert torch.equal(copy.head.weight, model.head.weight)


def test_locked_dropout_has_one_mask_for_all_steps():
    dropped = LockedDropout(0.5)(torch.ones(50, 8, 16))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0} and 0.3 < (dropped[0] == 0).float().mean() < 0.7
    x = torch.randn(5, 2, 3)
    assert LockedDropout(0.5).eval()(x) is x and LockedDropout(0.0)(x) is x


def test_initialisation_by_name():
    model = CharLM(LSTM, vocab_size=7, init={"recurrent": "orthogonal", "forget_bias": 1.0})
    weight = model.rnn.weight_hh_l0
    torch.testing.assert_close(weight.T @ weight, torch.eye(6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tie_weights": True}, "tie_weights=true needs model.embedding_size=6, .* got None"),
        ({"tie_weights": True, "embedding_size": 5}, "tie_weights=true needs model.embedding_size=6, .* got 5"),
        ({"rnn": partial(LSTM, bidirectional=True)}, "needs rnn.bidirectional=false"),
        ({"dropout": 1.0}, r"model.dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        CharLM(**{"rnn": LSTM, "vocab_size": 7, **arguments})
