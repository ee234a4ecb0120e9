"""Splits that keep the share of each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def stratified_folds(labels: Sequence[str], num_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each row, int64 (N,); folds differ in size by one at most, and so do their rows of a class.

    Args:
        labels: class of each row.
        num_folds: at least 1.
        rng: decides which row of a class goes where.

    Example:
        >>> stratified_folds(["a", "a", "b", "b"], 2, np.random.default_rng(0)).tolist()
        [0, 1, 0, 1]
    """
    order = np.concatenate([*_shuffled(labels, rng), np.empty(0, np.int64)])
    folds = np.empty(len(order), np.int64)
    folds[order] = np.arange(len(order)) % num_folds  # a class goes on with the fold after the last one's
    return folds


def hold_out(labels: Sequence[str], fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return which rows are held out, bool (N,): of each class that share, rounded, and never all of it.

    Args:
        labels: class of each row.
        fraction: from 0 to 1.
        rng: decides which rows of a class it is.
    """
    chosen = np.zeros(len(labels), bool)
    for rows in _shuffled(labels, rng):
        chosen[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    return chosen


def _shuffled(labels: Sequence[str], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the rows of each class, in an order that is drawn."""
    array = np.asarray(labels, dtype=object)
    for label in sorted(set(labels)):
        yield rng.permutation(np.flatnonzero(array == label))
