"""How right answers are: sequences of symbols against all answers that would have been right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Symbols = Sequence[Any]  # of one answer, in any form that can be compared


class AnswerScore(NamedTuple):
    """One answer beside the right ones.

    Attributes:
        is_right: whether it is one of them.
        distance: symbols to be put in, left out or replaced, to have the nearest of them.
        length: symbols of that nearest one.
    """

    is_right: bool
    distance: int
    length: int


class AnswerScores(NamedTuple):
    """Many answers beside the right ones.

    Attributes:
        exact_match: share of right answers, of 1, by weight.
        symbol_error_rate: sum of distances over sum of lengths, by weight; may exceed 1, and is NaN where all right
            answers are empty.
    """

    exact_match: float
    symbol_error_rate: float


def edit_distance(left: Symbols, right: Symbols) -> int:
    """Return how many symbols of one sequence have to be put in, left out or replaced to make the other one of it.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    before = list(range(len(right) + 1))
    for row, symbol in enumerate(left, start=1):
        here = [row]
        for column, other in enumerate(right):
            here.append(min(before[column] + (symbol != other), before[column + 1] + 1, here[column] + 1))
        before = here
    return before[-1]


def score_answer(answer: Symbols, references: Sequence[Symbols]) -> AnswerScore:
    """Compare an answer with all right ones, at least one; of equally near ones the first counts.

    Example:
        >>> score_answer("colr", ["colour", "color"])
        AnswerScore(is_right=False, distance=1, length=5)
    """
    answer = list(answer)
    for reference in references:
        if answer == list(reference):
            return AnswerScore(True, 0, len(answer))
    distance, nearest = min((edit_distance(answer, reference), k) for k, reference in enumerate(references))
    return AnswerScore(False, distance, len(references[nearest]))


def score_answers(
    answers: Sequence[Symbols], references: Sequence[Sequence[Symbols]], weights: Sequence[float] | None = None
) -> AnswerScores:
    """Compare N answers with the right ones of each.

    Args:
        answers: N sequences of symbols.
        references: of each, the sequences that are right, at least one.
        weights: how much each counts; None: all the same.

    Raises:
        ValueError: there is no answer, or not as many references and weights as answers.
    """
    weights = [1.0] * len(answers) if weights is None else weights
    if not answers or not len(answers) == len(references) == len(weights):
        raise ValueError(
            "answers, references and weights must be equally many, at least one, got "
            f"{len(answers)}, {len(references)} and {len(weights)}"
        )
    scores = list(map(score_answer, answers, references))
    right, distance, length = (
        sum(weight * value for weight, value in zip(weights, column, strict=True))
        for column in zip(*scores, strict=True)
    )
    return AnswerScores(right / sum(weights), distance / length if length else float("nan"))
