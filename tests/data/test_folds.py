"""Folds and held-out rows keep the share of each class."""

from collections import Counter

import numpy as np
import pytest

from rnnlab.data.folds import hold_out, stratified_folds

LABELS = ["1"] * 292 + ["2"] * 177 + ["3"] * 10 + ["4"] * 19 + ["5"] * 2  # of ECG5000


@pytest.mark.parametrize("labels", [LABELS, LABELS[::-1], ["a"] * 7 + ["b"] * 4, ["a"], []])
def test_folds_share_rows_and_classes_evenly(labels):
    folds = stratified_folds(labels, 5, np.random.default_rng(3))
    assert folds.shape == (len(labels),) and np.ptp(np.bincount(folds, minlength=5)) <= 1
    for label in set(labels):
        assert np.ptp(np.bincount(folds[np.array(labels) == label], minlength=5)) <= 1


def test_folds_are_drawn_and_a_function_of_the_generator():
    first, again, other = (stratified_folds(LABELS, 5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).mean() > 0.5
    assert len(set(np.diff(first[:50]))) > 3  # rows that stand together do not go together


def test_held_out_are_a_share_of_each_class_and_never_all():
    held = hold_out(LABELS, 0.15, np.random.default_rng(0))
    assert Counter(np.array(LABELS)[held]) == {"1": 44, "2": 27, "3": 2, "4": 3}
    assert hold_out(["a", "a", "b"], 0.99, np.random.default_rng(0)).tolist().count(True) == 1
    assert not hold_out([], 0.5, np.random.default_rng(0)).any()
