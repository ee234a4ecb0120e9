"""forward(lengths=): padded batches in any order, no sorting; every row behaves as if it had been run alone."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from tests.nn.cases import (
    KINDS_AND_OPTIONS,
    OWN_BACKENDS,
    assert_same_run,
    build,
    every_kind,
    map_state,
    named,
    pair,
    randn,
    random_state,
    run,
    states,
    tolerance,
    upstream_for,
)
from tests.tolerances import FLOAT64

ORDERS = {"unsorted": [2, 6, 1, 4], "rising": [1, 2, 4, 6], "equal": [6, 6, 6, 6], "short": [3, 1, 2, 1]}
WITH_ZERO = [0, 6, 0, 3]

every_route = pytest.mark.parametrize("backend", ["auto", *OWN_BACKENDS])


def packed_run(module: Any, x: Tensor, hx: Any, lengths: list[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The oracle: torch.nn over a PackedSequence, padded again, with the upstream gradients of `cases.run`."""
    module.zero_grad(set_to_none=True)
    x = x.detach().clone().requires_grad_()
    hx = map_state(lambda state: state.detach().clone().requires_grad_(), hx)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, final = module(packed, hx)
    values = named((pad_packed_sequence(output, total_length=x.shape[0])[0], final))
    upstream = upstream_for(values)
    torch.autograd.backward(list(values.values()), list(upstream.values()))
    leaves = {"input": x, **dict(zip(("h_0", "c_0"), states(hx), strict=False)), **dict(module.named_parameters())}
    return {name: value.detach() for name, value in values.items()}, {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
@every_route
def test_equals_packed_sequence(kind, options, backend):
    ours, theirs = pair(kind, 5, 7, **options, backend=backend)
    x, hx, lengths = randn(6, 4, 5, backend=backend), random_state(theirs, 4), ORDERS["unsorted"]
    actual = run(ours, x, hx, lengths=torch.tensor(lengths))
    assert_same_run(actual, packed_run(theirs, x, hx, lengths), **tolerance(backend))


@every_kind
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_row_equals_its_own_run(kind, order, bidirectional):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=bidirectional)
    x, hx = randn(6, 4, 3), random_state(ours, 4)
    output, final = ours(x, hx, lengths=torch.tensor(ORDERS[order]))
    for row, length in enumerate(ORDERS[order]):
        one = slice(row, row + 1)
        alone, last = ours(x[:length, one], map_state(lambda state, one=one: state[:, one], hx))
        torch.testing.assert_close(output[:length, one], alone, **FLOAT64)
        for mine, yours in zip(states(final), states(last), strict=True):
            torch.testing.assert_close(mine[:, one], yours, **FLOAT64)


@every_kind
@every_route
def test_outputs_are_zero_after_each_row(kind, backend):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True, backend=backend)
    output, _ = ours(randn(6, 4, 3, backend=backend), random_state(ours, 4), lengths=torch.tensor(WITH_ZERO))
    for row, length in enumerate(WITH_ZERO):
        assert output[length:, row].eq(0).all()
        assert output[:length, row].ne(0).any() or length == 0


@every_kind
@every_route
def test_padding_has_no_influence_and_no_gradient(kind, backend):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True, backend=backend)
    lengths = torch.tensor(WITH_ZERO)
    x, hx = randn(6, 4, 3, backend=backend), random_state(ours, 4)
    padding = torch.arange(6)[:, None] >= lengths
    expected = run(ours, x, hx, lengths=lengths)
    assert expected[1]["input"][padding].eq(0).all()
    junk = torch.tensor([1e30, float("inf"), float("nan")], dtype=x.dtype)  # one value for each input feature
    actual = run(ours, torch.where(padding[..., None], junk, x), hx, lengths=lengths)
    assert actual[1]["input"][padding].eq(0).all()
    assert_same_run(actual, expected, **tolerance(backend))


@every_kind
@every_route
def test_rows_of_length_zero_keep_their_state(kind, backend):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True, backend=backend)
    x, hx = randn(6, 4, 3, backend=backend), random_state(ours, 4)
    output, final = ours(x, hx, lengths=torch.tensor(WITH_ZERO))
    for mine, given in zip(states(final), states(hx), strict=True):
        assert torch.equal(mine[:, ::2], given[:, ::2])
        assert not torch.equal(mine[:, 1], given[:, 1])
    assert output[:, ::2].eq(0).all()
    for mine in states(ours(x, lengths=torch.tensor(WITH_ZERO))[1]):
        assert mine[:, ::2].eq(0).all()


@every_kind
@every_route
def test_state_of_a_row_of_length_zero_gets_the_upstream_gradient(kind, backend):
    ours, _ = pair(kind, 3, 4, backend=backend)
    hx = map_state(lambda state: state.requires_grad_(), random_state(ours, 3))
    _, final = ours(randn(6, 3, 3, backend=backend), hx, lengths=torch.tensor([0, 6, 0]))
    torch.autograd.backward([state.sum() for state in states(final)])
    for state in states(hx):
        torch.testing.assert_close(state.grad[:, ::2], torch.ones_like(state[:, ::2]), **tolerance(backend))


@every_kind
@every_route
def test_all_rows_of_length_zero(kind, backend):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True, backend=backend)
    hx = random_state(ours, 2)
    output, final = ours(randn(5, 2, 3, backend=backend), hx, lengths=torch.tensor([0, 0]))
    assert output.shape == (5, 2, 8)
    assert output.eq(0).all()
    assert all(torch.equal(mine, given) for mine, given in zip(states(final), states(hx), strict=True))


@every_kind
def test_reverse_direction_starts_at_each_rows_own_end(kind):
    ours, _ = pair(kind, 3, 4, bidirectional=True)
    x = randn(6, 3, 3)
    output, final = ours(x, lengths=torch.tensor([2, 6, 4]))
    for row, length in enumerate([2, 6, 4]):
        alone = ours(x[:length, row : row + 1])[0]
        torch.testing.assert_close(output[length - 1, row, 4:], alone[-1, 0, 4:], **FLOAT64)
        torch.testing.assert_close(states(final)[0][1, row], output[0, row, 4:], **FLOAT64)


@every_kind
@every_route
def test_full_lengths_equal_no_lengths(kind, backend):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True, backend=backend)
    x, hx = randn(6, 4, 3, backend=backend), random_state(ours, 4)
    assert_same_run(run(ours, x, hx, lengths=torch.tensor([6] * 4)), run(ours, x, hx), **tolerance(backend))


@every_kind
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int16, torch.uint8])
def test_integer_lengths_of_any_width(kind, dtype):
    ours, _ = pair(kind, 3, 4)
    x = randn(6, 4, 3)
    expected = ours(x, lengths=torch.tensor(ORDERS["unsorted"]))
    actual = ours(x, lengths=torch.tensor(ORDERS["unsorted"], dtype=dtype))
    torch.testing.assert_close(actual[0], expected[0], **FLOAT64)


@every_kind
@pytest.mark.parametrize("form", [list, tuple])
def test_lengths_in_a_sequence(kind, form):
    ours, _ = pair(kind, 3, 4)
    x = randn(6, 4, 3)
    expected = ours(x, lengths=torch.tensor(ORDERS["unsorted"]))[0]
    torch.testing.assert_close(ours(x, lengths=form(ORDERS["unsorted"]))[0], expected, **FLOAT64)
    with pytest.raises((TypeError, ValueError), match="length.*integer|integer.*length"):
        ours(x, lengths=form([2.0, 6.0, 1.0, 4.0]))


@every_kind
def test_batch_first(kind):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True)
    other = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True, batch_first=True, dtype=torch.float64)
    other.load_state_dict(ours.state_dict())
    x, hx, lengths = randn(6, 4, 3), random_state(ours, 4), torch.tensor(ORDERS["unsorted"])
    expected, actual = named(ours(x, hx, lengths=lengths)), named(other(x.transpose(0, 1), hx, lengths=lengths))
    torch.testing.assert_close(actual.pop("output").transpose(0, 1), expected.pop("output"), **FLOAT64)
    torch.testing.assert_close(actual, expected, **FLOAT64)


@every_kind
def test_lengths_are_left_alone_and_may_be_strided(kind):
    ours, _ = pair(kind, 3, 4)
    lengths = torch.tensor([2, 9, 6, 9, 1, 9, 4, 9])[::2]
    x = randn(6, 4, 3)
    expected = ours(x, lengths=torch.tensor([2, 6, 1, 4]))[0]
    torch.testing.assert_close(ours(x, lengths=lengths)[0], expected, **FLOAT64)
    assert lengths.tolist() == [2, 6, 1, 4]


@every_kind
@every_route
def test_length_beyond_the_time_is_refused(kind, backend):
    ours, _ = pair(kind, 3, 4, backend=backend)
    with pytest.raises(ValueError, match="length.*7"):
        ours(randn(6, 2, 3, backend=backend), lengths=torch.tensor([7, 3]))


@every_kind
def test_negative_lengths_are_refused(kind):
    with pytest.raises(ValueError, match="length.*-1"):
        build(rnnlab.nn, kind, 3, 4)(torch.zeros(6, 2, 3), lengths=torch.tensor([-1, 3]))


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool])
def test_lengths_that_are_no_integers_are_refused(kind, dtype):
    with pytest.raises((TypeError, ValueError), match="length.*integer|integer.*length"):
        build(rnnlab.nn, kind, 3, 4)(torch.zeros(6, 2, 3), lengths=torch.ones(2).to(dtype))


@every_kind
@pytest.mark.parametrize("lengths", [[3], [3, 2, 1], [[3, 2]], 3], ids=str)
def test_wrong_number_of_lengths_is_refused(kind, lengths):
    with pytest.raises(ValueError, match="length"):
        build(rnnlab.nn, kind, 3, 4)(torch.zeros(6, 2, 3), lengths=torch.tensor(lengths))


@every_kind
def test_lengths_without_a_batch_are_refused(kind):
    with pytest.raises(ValueError, match="length"):
        build(rnnlab.nn, kind, 3, 4)(torch.zeros(6, 3), lengths=torch.tensor([3]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_lengths_of_a_narrow_type_reach_long_sequences(dtype):
    layer = rnnlab.nn.GRU(1, 2)
    x = torch.randn(300, 2, 1)
    actual, _ = layer(x, lengths=torch.tensor([5, 100], dtype=dtype))
    expected, _ = layer(x, lengths=[5, 100])
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_lengths_of_an_empty_batch():
    output, _ = rnnlab.nn.GRU(1, 2)(torch.randn(3, 0, 1), lengths=[])
    assert output.shape == (3, 0, 2)


def test_explain_backend_knows_of_lengths():
    x = torch.randn(3, 2, 1)
    assert "held in padding" in rnnlab.nn.explain_backend(rnnlab.nn.LSTM(1, 2), x, lengths=[3, 1])
    assert "aten" not in rnnlab.nn.explain_backend(rnnlab.nn.GRU(1, 2), x, lengths=[3, 1]).split("(")[0]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_lstm_in_single_precision_equals_packed_sequence(bias, bidirectional):
    """Which `auto` runs on torch's own layer on a CPU; in double precision it does not."""
    options = {"num_layers": 2, "bias": bias, "bidirectional": bidirectional}
    ours, theirs = rnnlab.nn.LSTM(5, 7, **options), torch.nn.LSTM(5, 7, **options)
    ours.load_state_dict(theirs.state_dict())
    x, hx, lengths = torch.randn(6, 4, 5), random_state(theirs, 4), ORDERS["unsorted"]
    actual = run(ours, x, map_state(torch.Tensor.float, hx), lengths=torch.tensor(lengths))
    assert_same_run(actual, packed_run(theirs, x, map_state(torch.Tensor.float, hx), lengths))
