"""The most frequent class, the nearest neighbour, and how they are scored."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_f1_score

from rnnlab.baselines import most_frequent_class, nearest_neighbour, score_classes
from rnnlab.baselines.classes import resampled


def test_scores_are_those_of_torchmetrics():
    rng = np.random.default_rng(0)
    true, given = rng.integers(0, 5, size=(2, 60))
    scores = score_classes([str(one) for one in true], [str(one) for one in given])
    expected = multiclass_f1_score(torch.from_numpy(given), torch.from_numpy(true), 5, average="macro")
    assert scores.macro_f1 == pytest.approx(float(expected), abs=1e-6)
    assert scores.accuracy == pytest.approx((true == given).mean())


def test_classes_that_are_never_found_count_as_zero_and_those_that_are_nowhere_do_not_count():
    assert score_classes(["a", "a", "b"], ["a", "a", "a"]).macro_f1 == pytest.approx((0.8 + 0) / 2)
    assert score_classes(["a", "new"], ["a", "a"]) == pytest.approx((0.5, (2 / 3) / 2))
    for truth, given in (([], []), (["a"], [])):
        with pytest.raises(ValueError, match="classes must be equally many"):
            score_classes(truth, given)


def test_most_frequent_class():
    assert most_frequent_class(["b", "a", "b"], 2) == ["b", "b"]
    assert most_frequent_class(["b", "a"], 1) == ["b"]


def test_nearest_neighbour_against_all_distances():
    rng = np.random.default_rng(1)
    known, asked = rng.standard_normal((50, 6, 2)), rng.standard_normal((600, 6, 2))
    labels = [str(row) for row in range(50)]
    distances = np.linalg.norm(asked[:, None] - known, axis=(2, 3))
    assert nearest_neighbour(list(known), labels, list(asked)) == [labels[row] for row in distances.argmin(axis=1)]


def test_nearest_neighbour_of_other_lengths():
    def wave(cycles, steps):
        return np.sin(2 * np.pi * cycles * np.linspace(0, 1, steps))[:, None]

    known = [wave(1, 30), wave(2, 50), wave(3, 40)]
    asked = [wave(3, 90), wave(1, 21), wave(2, 33)]
    assert nearest_neighbour(known, ["one", "two", "three"], asked) == ["three", "one", "two"]


def test_resampling_keeps_ends_and_lines():
    line = np.linspace(3.0, 5.0, 7)[:, None] * [1.0, -2.0]
    for steps in (2, 5, 13):
        assert resampled(line, steps) == pytest.approx(np.linspace(3.0, 5.0, steps)[:, None] * [1.0, -2.0])
    assert resampled(line, 7) is not line and np.array_equal(resampled(line, 7), line)
    assert resampled(np.array([[2.0]]), 3).tolist() == [[2.0]] * 3
