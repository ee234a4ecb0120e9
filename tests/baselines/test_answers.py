"""Answers beside the right ones: edit distance by definition, the nearest right answer, weights."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.baselines import AnswerScore, edit_distance, score_answer, score_answers

WORDS = st.text("ab", max_size=5)


def by_definition(left, right):
    @functools.cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (left[i - 1] != right[j - 1])
        )

    return distance(len(left), len(right))


@given(WORDS, WORDS)
def test_edit_distance_is_that_of_its_definition(left, right):
    assert edit_distance(left, right) == edit_distance(list(right), tuple(left)) == by_definition(left, right)


def test_the_nearest_right_answer_counts():
    assert score_answer((1, 2), [[1, 2, 3], [1, 2]]) == AnswerScore(True, 0, 2)
    assert score_answer([1, 2], [[4, 5, 6, 7], [1, 2, 3]]) == AnswerScore(False, 1, 3)
    assert score_answer([1, 2], [[1, 2, 3], [2]]) == AnswerScore(False, 1, 3)  # of equally near ones the first
    assert score_answer([], [[7]]) == AnswerScore(False, 1, 1)


def test_shares_go_by_weight():
    scores = score_answers(["ab", "abc", "x"], [["ab"], ["ab", "zzz"], ["xyz"]])
    assert scores == pytest.approx((1 / 3, (0 + 1 + 2) / (2 + 2 + 3)))
    scores = score_answers(["ab", "abc", "x"], [["ab"], ["ab", "zzz"], ["xyz"]], [6, 3, 1])
    assert scores == pytest.approx((0.6, (3 * 1 + 2) / (6 * 2 + 3 * 2 + 3)))


@pytest.mark.parametrize("arguments", [([], []), (["a"], []), (["a"], [["a"]], [1, 2])])
def test_counts_must_agree(arguments):
    with pytest.raises(ValueError, match="must be equally many"):
        score_answers(*arguments)
