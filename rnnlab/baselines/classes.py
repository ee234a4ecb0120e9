"""Classifiers without a network: the most frequent class, and the nearest neighbour.

Letters: N known sequences, M asked for, T steps, I values a step, S steps they are brought to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MOST_STEPS = 64  # of sequences that differ in length
_BLOCK = 256  # rows of distances at once


class ClassScores(NamedTuple):
    """Shares of 1.

    Attributes:
        accuracy: of right answers.
        macro_f1: mean of F1 over the classes that occur or were given.
    """

    accuracy: float
    macro_f1: float


def score_classes(truth: Sequence[str | None], given: Sequence[str | None]) -> ClassScores:
    """Compare classes with those that are right.

    Raises:
        ValueError: there are none, or not as many of both.

    Example:
        >>> score_classes(["a", "a", "b", "b"], ["a", "b", "b", "b"])
        ClassScores(accuracy=0.75, macro_f1=0.7333333333333334)
    """
    if not truth or len(truth) != len(given):
        raise ValueError(f"classes must be equally many, at least one, got {len(truth)} right and {len(given)} given")
    right = Counter(one for one, other in zip(truth, given, strict=True) if one == other)
    total = Counter(truth) + Counter(given)
    return ClassScores(right.total() / len(truth), sum(2 * right[name] / total[name] for name in total) / len(total))


def most_frequent_class(labels: Sequence[str], number: int) -> list[str]:
    """Return the most frequent label, of equal ones the first, for each of so many sequences."""
    return [Counter(labels).most_common(1)[0][0]] * number


def nearest_neighbour(known: Sequence[np.ndarray], labels: Sequence[str], asked: Sequence[np.ndarray]) -> list[str]:
    """Give each sequence the class of the known one at the least Euclidean distance, of equal ones the first.

    Where lengths differ, all are brought to the median one of the known, 64 at most, by linear interpolation.

    Args:
        known: (T, I) of each of N sequences.
        labels: their classes, N.
        asked: (T, I) of each of M sequences.
    """
    lengths = {len(values) for values in (*known, *asked)}
    steps = lengths.pop() if len(lengths) == 1 else min(_MOST_STEPS, int(np.median([len(values) for values in known])))
    points, others = (np.stack([resampled(values, steps).ravel() for values in some]) for some in (known, asked))
    squares = np.square(points).sum(axis=1)
    found = [
        (squares - 2 * others[start : start + _BLOCK] @ points.T).argmin(axis=1)
        for start in range(0, len(others), _BLOCK)
    ]
    return [labels[place] for place in np.concatenate(found)]


def resampled(values: np.ndarray, steps: int) -> np.ndarray:
    """Return a sequence (T, I) at so many steps (S, I), evenly spread from its first to its last, float64.

    Example:
        >>> resampled(np.array([[0.0], [1.0], [4.0]]), 5).ravel().tolist()
        [0.0, 0.5, 1.0, 2.5, 4.0]
    """
    if len(values) == steps:
        return values.astype(np.float64)
    places = np.linspace(0, len(values) - 1, steps)
    return np.stack([np.interp(places, np.arange(len(values)), column) for column in values.T], axis=1)
