"""The best path is the best of all paths, ties included."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.decoding import viterbi


def lattice(batch, num_steps, num_tags, seed, whole_numbers=False):
    """Return emissions, transitions, start and end in float64, and random lengths."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, num_steps, num_tags), (num_tags, num_tags), (num_tags,), (num_tags,))
    if whole_numbers:  # few different scores: many ties
        parts = [torch.randint(-1, 2, shape, generator=generator).double() for shape in shapes]
    else:
        parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return *parts, torch.randint(1, num_steps + 1, (batch,), generator=generator)


def best_of_all(emissions, transitions, start, end):
    """Return the best tags of one sentence (n, K) and their score; of equals, the first one read backwards."""

    def score(path):
        inside = sum(transitions[a, b] for a, b in itertools.pairwise(path))
        return (
            start[path[0]] + end[path[-1]] + inside + sum(row[k] for row, k in zip(emissions, path, strict=True))
        ).item()

    num_steps, num_tags = emissions.shape
    paths = itertools.product(range(num_tags), repeat=num_steps)
    best = min(paths, key=lambda path: (-score(path), path[::-1]))
    return list(best), score(best)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 999), st.booleans())
def test_it_is_the_best_of_all_paths(batch, num_steps, num_tags, seed, whole_numbers):
    emissions, *weights, lengths = lattice(batch, num_steps, num_tags, seed, whole_numbers)
    tags, scores = viterbi(emissions, *weights, lengths)
    assert tags.dtype == torch.int64 and tags.shape == (batch, num_steps)
    for row, length in enumerate(lengths.tolist()):
        expected, score = best_of_all(emissions[row, :length], *weights)
        assert tags[row].tolist() == expected + [0] * (num_steps - length)
        assert scores[row].item() == pytest.approx(score, rel=1e-9, abs=1e-9)


def test_padding_has_no_influence():
    emissions, *weights, lengths = lattice(5, 6, 3, seed=0)
    expected = viterbi(emissions, *weights, lengths)
    for rubbish in (torch.nan, torch.inf):
        beyond = torch.arange(6) >= lengths[:, None]
        found = viterbi(emissions.masked_fill(beyond[:, :, None], rubbish), *weights, lengths)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_minus_infinity_forbids():
    emissions, transitions, start, end, lengths = lattice(8, 5, 3, seed=1)
    transitions[0, 1] = start[2] = -torch.inf
    tags, scores = viterbi(emissions, transitions, start, end, lengths)
    assert scores.isfinite().all() and (tags[:, 0] != 2).all()
    inside = torch.arange(1, 5) < lengths[:, None]
    assert not ((tags[:, :-1] == 0) & (tags[:, 1:] == 1) & inside).any()


def test_half_precision_is_summed_in_single():
    emissions, *weights, lengths = (
        part if part.dtype == torch.int64 else part.bfloat16() for part in lattice(4, 6, 3, 2)
    )
    tags, scores = viterbi(emissions, *weights, lengths)
    expected_tags, expected = viterbi(emissions.float(), *(weight.float() for weight in weights), lengths)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, expected) and torch.equal(tags, expected_tags)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_no_rows_and_any_integers(dtype):
    tags, scores = viterbi(
        torch.zeros(0, 3, 2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), torch.zeros(0, dtype=dtype)
    )
    assert tags.shape == (0, 3) and scores.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emissions": torch.zeros(3, 2)}, r"emissions must be \(B, T, K\) with T >= 1, got \(3, 2\)"),
        ({"emissions": torch.zeros(2, 0, 2)}, r"T >= 1"),
        ({"transitions": torch.zeros(2, 3)}, r"transitions must be \(2, 2\) for emissions \(2, 3, 2\), got \(2, 3\)"),
        ({"end": torch.zeros(3)}, r"end must be \(2,\)"),
        ({"lengths": torch.ones(3, dtype=torch.int64)}, r"lengths must be \(2,\)"),
        ({"lengths": torch.tensor([2, -1])}, "lengths must be from 1 to T = 3, got -1 in row 1"),
        ({"lengths": torch.tensor([0, 1])}, "lengths must be from 1 to T = 3, got 0 in row 0"),
        ({"lengths": torch.tensor([1, 4], dtype=torch.int8)}, "lengths must be from 1 to T = 3, got 4 in row 1"),
        ({"lengths": torch.tensor([1.5, 2.0])}, "lengths must be integers, got torch.float32"),
        ({"lengths": torch.tensor([True, True])}, "lengths must be integers, got torch.bool"),
    ],
)
def test_shapes_and_lengths_must_fit(changes, message):
    arguments = {
        "emissions": torch.zeros(2, 3, 2),
        "transitions": torch.zeros(2, 2),
        "start": torch.zeros(2),
        "end": torch.zeros(2),
        "lengths": torch.ones(2, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match=message):
        viterbi(**{**arguments, **changes})
