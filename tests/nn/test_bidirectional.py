"""`Bidirectional`: two layers of one direction equal one of two, with lengths, masks, resets and packed input."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnlab.nn
from rnnlab.nn.bidirectional import MERGES, Bidirectional
from rnnlab.nn.recurrent import Recurrent
from tests.nn.plain import DTYPE, assert_close, flags, make, randn

T, B = 6, 4
LENGTHS = [2, 6, 0, 4]


def wrapped(kind: str = "two", merge: str = "concat", **options) -> tuple[Recurrent, Bidirectional]:
    both = Recurrent(make(kind), bidirectional=True, merge=merge, **options)
    layers = [Recurrent([cell], **options) for cell in both.cells]
    return both, Bidirectional(*layers, merge=merge)


@pytest.mark.parametrize("given", ["nothing", "lengths", "mask", "reset", "mask reset", "lengths reset"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_equals_a_bidirectional_recurrent(given, batch_first):
    both, pair = wrapped(batch_first=batch_first)
    x, options = randn(T, B, 3), {}
    if "mask" in given:
        options["mask"] = flags(T, B)
    if "reset" in given:
        options["reset"] = flags(T, B, p=0.3)
    if batch_first:
        x, options = x.transpose(0, 1), {name: value.t() for name, value in options.items()}
    if "lengths" in given:
        options["lengths"] = torch.tensor(LENGTHS)
    hx = tuple(type(state)(*(torch.randn_like(part) for part in state)) for state in both.initial_state(B))
    output, state = both(x, hx, **options)
    found, (forward, backward) = pair(x, hx, **options)
    assert_close(found, output)
    assert_close([tuple(forward[0]), tuple(backward[0])], [tuple(each) for each in state])


@pytest.mark.parametrize("merge", MERGES)
def test_merges_and_packed_input(merge):
    both, pair = wrapped(merge=merge)
    x = randn(T, 3, 3)
    assert_close(pair(x)[0], both(x)[0])
    for order in ([6, 4, 2], [2, 6, 4]):
        packed = pack_padded_sequence(x, torch.tensor(order), enforce_sorted=False)
        found, expected = pair(packed)[0], both(packed)[0]
        if merge != "none":
            found, expected = (found,), (expected,)
        for one, other in zip(found, expected, strict=True):
            assert_close(one.data, other.data)
            assert torch.equal(one.unsorted_indices, packed.unsorted_indices)


@pytest.mark.parametrize("library", [nn, rnnlab.nn], ids=["torch", "rnnlab"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_wraps_layers_of_either_library(library, kind):
    whole = getattr(nn, kind)(3, 4, bidirectional=True, dtype=DTYPE)
    pair = Bidirectional(getattr(library, kind)(3, 4, dtype=DTYPE))
    for suffix, layer in (("", pair.layer), ("_reverse", pair.backward_layer)):
        layer.load_state_dict({name: getattr(whole, name + suffix) for name in layer.state_dict()})
    x = randn(T, B, 3)
    output, (forward, backward) = pair(x)
    expected, hx = whole(x)
    assert_close(output, expected)
    first = hx[0] if kind == "LSTM" else hx
    assert_close(torch.cat([each[0] if kind == "LSTM" else each for each in (forward, backward)]), first)
    assert_close(pair(x[:, 0])[0], whole(x[:, 0])[0])
    packed = pack_padded_sequence(x, torch.tensor([2, 6, 1, 4]), enforce_sorted=False)
    assert_close(pair(packed)[0].data, whole(packed)[0].data)


def test_lengths_reach_rnnlab_layers():
    whole = rnnlab.nn.GRU(3, 4, bidirectional=True, dtype=DTYPE)
    pair = Bidirectional(rnnlab.nn.GRU(3, 4, dtype=DTYPE))
    for suffix, layer in (("", pair.layer), ("_reverse", pair.backward_layer)):
        layer.load_state_dict({name: getattr(whole, name + suffix) for name in layer.state_dict()})
    x = randn(T, B, 3)
    assert_close(pair(x, lengths=LENGTHS)[0], whole(x, lengths=LENGTHS)[0])


def test_layers_may_differ():
    pair = Bidirectional(nn.GRU(3, 4), rnnlab.nn.LSTM(3, 2), merge="concat")
    output, (forward, backward) = pair(torch.zeros(T, B, 3))
    assert output.shape == (T, B, 6)
    assert isinstance(forward, torch.Tensor) and isinstance(backward, tuple)


def test_the_copy_has_weights_of_its_own():
    pair = Bidirectional(Recurrent(make("opaque"), norm=None))
    first, second = (dict(layer.named_parameters()) for layer in (pair.layer, pair.backward_layer))
    assert first.keys() == second.keys()
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_refuses():
    for layers, options, message in (
        ((nn.GRU(3, 4),), {"merge": "ave"}, "Unknown merge 'ave'"),
        ((nn.GRU(3, 4, bidirectional=True),), {}, "GRU reads backwards already"),
        ((nn.GRU(3, 4), Recurrent(nn.GRUCell(3, 4), go_backwards=True)), {}, "Recurrent reads backwards already"),
        ((nn.GRU(3, 4), nn.GRU(3, 4, batch_first=True)), {}, "same batch_first"),
    ):
        with pytest.raises(ValueError, match=message):
            Bidirectional(*layers, **options)
    packed = pack_padded_sequence(torch.zeros(T, 1, 3), torch.tensor([6]))
    with pytest.raises(ValueError, match="a PackedSequence brings its lengths"):
        Bidirectional(nn.GRU(3, 4))(packed, lengths=[6])


def test_refuses_layers_with_other_results():
    for option in ("stateful", "return_all_states"):
        with pytest.raises(ValueError, match=f"no layer with {option}=True"):
            Bidirectional(Recurrent(make("gru"), **{option: True}))
    with pytest.raises(ValueError, match="lengths go with batched input"):
        Bidirectional(rnnlab.nn.GRU(3, 4))(torch.zeros(5, 3), lengths=[3])
