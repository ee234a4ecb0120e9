"""The character model: logits at every step, states that go on, tied weights, locked dropout."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.models import CharLM
from rnnlab.models.layers import LockedDropout
from rnnlab.nn import LRUCell, Recurrent

LSTM = partial(rnnlab.nn.LSTM, hidden_size=6)
LRU = partial(Recurrent, partial(LRUCell, hidden_size=6))
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
        ({"rnn": LRU, "init": {"chrono": 9.0}}, "chrono needs a gate .* LRUCell has none"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        CharLM(**{"rnn": LSTM, "vocab_size": 7, **arguments})


TOLD = [name for name in LAYERS if name != "torch"]
LABELS = torch.tensor([2, 0])


def labelled(name, condition):
    torch.manual_seed(0)
    return CharLM(LAYERS[name], vocab_size=7, num_labels=3, condition=condition, label_size=4).double().eval()


@pytest.mark.parametrize("condition", ["initial", "each_step"])
@pytest.mark.parametrize("name", TOLD)
def test_a_label_is_told_once_or_at_each_step(name, condition):
    model, ids = labelled(name, condition), torch.randint(0, 7, (2, 9))
    labels = LABELS[:, None].expand(2, 9)
    whole = model(ids, labels=labels)
    table, x = model.label_table(LABELS), torch.nn.functional.one_hot(ids.t(), 7).double()
    if condition == "initial":
        output, _ = model.rnn(x, model.first_state(table, model.rnn.initial_state(2)))
    else:
        output, _ = model.rnn(torch.cat([x, table.expand(9, -1, -1)], dim=2))
    torch.testing.assert_close(whole, model.head(output).transpose(0, 1))
    first, state = model(ids[:, :4], labels=labels[:, :4], return_state=True)
    torch.testing.assert_close(torch.cat([first, model(ids[:, 4:], state, labels=labels[:, 4:])], dim=1), whole)
    other = model(ids, labels=1 - labels.clamp(max=1))
    assert (other != whole).any(-1).all()


@pytest.mark.parametrize("condition", ["initial", "each_step", None])
def test_a_model_of_labels_is_asked_as_one_without(condition):
    model, ids = labelled("lstm", condition), torch.randint(0, 7, (2, 5))
    expected = model(ids, labels=LABELS[:, None].expand(2, 5))
    torch.testing.assert_close(model.of(LABELS)(ids, model.of(LABELS).initial_state(2)), expected)
    alone = model.of(LABELS[:1])
    torch.testing.assert_close(alone(ids, alone.initial_state(2))[0], expected[0])


def test_conditions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"model.condition must be initial, each_step or null, got 'first'"):
        CharLM(LSTM, vocab_size=7, num_labels=3, condition="first")
    with pytest.raises(ValueError, match=r"model.condition=initial needs texts with labels: data=labelled_text"):
        CharLM(LSTM, vocab_size=7, condition="initial")
    with pytest.raises(ValueError, match=r"model.label_size must be an integer of at least 1, got 0"):
        CharLM(LSTM, vocab_size=7, num_labels=3, condition="each_step", label_size=0)
    with pytest.raises(ValueError, match=r"no first state for LSTM\(7, 6\) from a vector"):
        CharLM(LAYERS["torch"], vocab_size=7, num_labels=3, condition="initial")
    ids = torch.zeros(2, 3, dtype=torch.int64)
    for condition in ("initial", "each_step"):
        with pytest.raises(ValueError, match=f"a model with model.condition={condition} needs labels"):
            labelled("lstm", condition)(ids)
    with pytest.raises(ValueError, match=r"a text begins with a window, and reset cannot be given"):
        labelled("lstm", "initial")(ids, labels=ids, reset=ids.bool())
