"""PackedSequence in and out: torch.nn's results in the user's order, and the dense messages for bad input."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from tests.nn.cases import (
    KINDS_AND_OPTIONS,
    assert_same_run,
    both_libraries,
    build,
    every_kind,
    map_state,
    pair,
    randn,
    random_state,
    run,
    states,
)
from tests.tolerances import FLOAT64

LENGTHS = {"sorted": [5, 4, 2, 1], "equal": [5, 5, 5, 5], "unsorted": [2, 5, 1, 4], "ones": [1, 1, 1, 1]}


def pack(x: Tensor, order: str) -> PackedSequence:
    lengths = torch.tensor(LENGTHS[order])
    return pack_padded_sequence(x, lengths, enforce_sorted=order != "unsorted")


@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_values_and_gradients_match_torch(kind, options, order):
    ours, theirs = pair(kind, 5, 7, **options)
    packed, hx = pack(randn(5, 4, 5), order), random_state(theirs, 4)
    assert_same_run(run(ours, packed, hx), run(theirs, packed, hx), **FLOAT64)


@every_kind
@pytest.mark.parametrize("order", LENGTHS)
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", pytest.param("triton", marks=pytest.mark.interpret)])
def test_each_row_equals_its_own_run(kind, order, backend):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, backend=backend, dtype=torch.float32)
    x = torch.randn(5, 4, 3)
    hx = random_state(theirs, 4)
    output, final = ours(pack(x, order), hx)
    padded, _ = pad_packed_sequence(output, total_length=5)
    for row, length in enumerate(LENGTHS[order]):
        one = slice(row, row + 1)
        alone, last = theirs(x[:length, one], map_state(lambda state, one=one: state[:, one], hx))
        torch.testing.assert_close(padded[:length, one], alone)
        assert padded[length:, one].eq(0).all()
        for mine, yours in zip(states(final), states(last), strict=True):
            torch.testing.assert_close(mine[:, one], yours)


@both_libraries
@every_kind
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_in_packed_out(library, kind, order, batch_first):
    packed = pack(torch.randn(5, 4, 3), order)
    output, hx = build(library, kind, 3, 4, batch_first=batch_first)(packed)
    assert isinstance(output, PackedSequence)
    assert isinstance(hx, tuple) == (kind == "LSTM")
    assert torch.equal(output.batch_sizes, packed.batch_sizes)
    for mine, given in zip(output[2:], packed[2:], strict=True):
        assert (mine is None) == (given is None)
        assert mine is None or torch.equal(mine, given)


@every_kind
def test_batch_first_is_ignored(kind):
    packed = pack(torch.randn(5, 4, 3), "unsorted")
    module = build(rnnlab.nn, kind, 3, 4)
    other = build(rnnlab.nn, kind, 3, 4, batch_first=True)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(packed)[0].data, other(packed)[0].data)


@every_kind
def test_dropout_one_feeds_zeros_to_the_next_layer(kind):
    ours, theirs = pair(kind, 3, 4, 2, dropout=1.0)
    packed = pack(randn(5, 4, 3), "unsorted")
    assert_same_run(run(ours, packed), run(theirs, packed), **FLOAT64)


PACKING_ERRORS = {
    "unsorted lengths": ([2, 5], RuntimeError, "`lengths` array must be sorted in decreasing order"),
    "a zero length": ([5, 0], RuntimeError, "Length of all samples has to be greater than 0"),
    "too many lengths": ([5, 4, 3], RuntimeError, "Expected `len(lengths)` to be equal to batch_size"),
}


@pytest.mark.parametrize("lengths, error, message", PACKING_ERRORS.values(), ids=PACKING_ERRORS)
def test_packing_is_torch_packing(lengths, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        pack_padded_sequence(torch.zeros(5, 2, 3), torch.tensor(lengths))


@both_libraries
@every_kind
def test_output_pads_like_torch(library, kind):
    output, _ = build(library, kind, 3, 4)(pack(torch.randn(5, 4, 3), "sorted"))
    with pytest.raises(ValueError, match="^Expected total_length to be at least the length of the longest sequence"):
        pad_packed_sequence(output, total_length=2)


def bad_calls(order: str, kind: str) -> dict[str, tuple[Any, Any, type[Exception], str]]:
    """Packed input, state, exception and message of calls that are wrong in one way each."""
    hidden = "hidden[0]" if kind == "LSTM" else "hidden"

    def state(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
        tensor = torch.zeros(*shape, dtype=dtype)
        return (tensor, tensor.clone()) if kind == "LSTM" else tensor

    good = pack(torch.randn(5, 4, 3), order)
    return {
        "features": (
            pack(torch.randn(5, 4, 2), order),
            None,
            RuntimeError,
            "input.size(-1) must be equal to input_size. Expected 3, got 2",
        ),
        "dtype": (
            pack(randn(5, 4, 3), order),
            None,
            ValueError,
            "RNN input dtype (torch.float64) does not match weight dtype (torch.float32)",
        ),
        "batch too large": (good, state(1, 6, 4), RuntimeError, f"Expected {hidden} size (1, 4, 4), got [1, 6, 4]"),
        "batch too small": (good, state(1, 3, 4), RuntimeError, f"Expected {hidden} size (1, 4, 4), got [1, 3, 4]"),
        "hidden size": (good, state(1, 4, 5), RuntimeError, f"Expected {hidden} size (1, 4, 4), got [1, 4, 5]"),
        "layers": (good, state(2, 4, 4), RuntimeError, f"Expected {hidden} size (1, 4, 4), got [2, 4, 4]"),
    }


@every_kind
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("fault", ["features", "dtype", "batch too large", "batch too small", "hidden size", "layers"])
def test_bad_packed_calls_get_the_dense_messages(kind, order, fault):
    packed, hx, error, message = bad_calls(order, kind)[fault]
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        build(rnnlab.nn, kind, 3, 4)(packed, hx)


@every_kind
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_state_without_a_batch_is_refused(kind, order):
    tensor = torch.zeros(1, 4)
    with pytest.raises(RuntimeError, match="3-D|Expected hidden"):
        build(rnnlab.nn, kind, 3, 4)(pack(torch.zeros(5, 4, 3), order), (tensor, tensor) if kind == "LSTM" else tensor)


@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_forms_of_the_state(order):
    packed, state = pack(torch.zeros(5, 4, 3), order), torch.zeros(1, 4, 4)
    with pytest.raises(TypeError, match="hx"):
        rnnlab.nn.LSTM(3, 4)(packed, state)
    with pytest.raises(TypeError, match="hx"):
        rnnlab.nn.GRU(3, 4)(packed, (state, state))
    with pytest.raises(RuntimeError, match="^lstm expects two hidden states"):
        rnnlab.nn.LSTM(3, 4)(packed, (state, state, state))


@both_libraries
@every_kind
@pytest.mark.parametrize("lengths", [[7, 3], [6, 6], [6, 1]], ids=str)
def test_length_beyond_the_packed_time(library, kind, lengths):
    # Packing accepts such lengths and leaves batch_sizes that promise more rows than there are.
    packed = pack_padded_sequence(torch.zeros(5, 2, 3), torch.tensor(lengths))
    with pytest.raises(RuntimeError, match="batch_sizes|length" if library is rnnlab.nn else None):
        build(library, kind, 3, 4)(packed)


@every_kind
def test_lengths_and_a_packed_sequence_exclude_each_other(kind):
    with pytest.raises((TypeError, ValueError), match="lengths"):
        build(rnnlab.nn, kind, 3, 4)(pack(torch.zeros(5, 4, 3), "sorted"), lengths=torch.tensor([5, 4, 2, 1]))
