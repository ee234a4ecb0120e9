"""Pictures of attention and of scores by length."""

import numpy as np
import pytest

from rnnlab.analysis.alignment import Alignment, attention_maps, score_by_length


def alignment(source, answer, truth=None):
    weights = np.eye(len(answer), len(source)) + 1e-3
    return Alignment(list(source), list(answer), weights / weights.sum(axis=1, keepdims=True), truth)


def test_a_panel_for_each_answer_source_across_answer_down():
    figure = attention_maps([alignment("a b", "xy"), alignment("abcdef", "uvw", truth="uvz"), alignment("ab", "x")])
    panels = [axis for axis in figure.axes if axis.images and axis.get_label() != "<colorbar>"]
    assert [[tick.get_text() for tick in axis.get_xticklabels()] for axis in panels] == [
        ["a", "␣", "b"],
        ["a", "b"],  # the next column
        list("abcdef"),
    ]
    assert [tick.get_text() for tick in panels[2].get_yticklabels()] == list("uvw")
    assert panels[2].get_xlabel() == "wrong; right: uvz" and panels[0].get_xlabel() == ""
    assert panels[0].images[0].get_array().shape == (2, 3)


def test_maps_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="no answer to draw"):
        attention_maps([])
    with pytest.raises(ValueError, match=r"weights must be \(2, 3\), got \(3, 2\)"):
        attention_maps([Alignment("abc", "xy", np.ones((3, 2)))])


def test_scores_by_length_leave_out_what_is_rare():
    figure = score_by_length({"none": {3: (2, 10), 4: (4, 5), 30: (0, 1)}, "additive": {3: (1, 2)}})
    lines = {line.get_label(): line for line in figure.axes[0].containers}
    assert lines["none"].lines[0].get_xdata().tolist() == [3, 4]
    assert lines["none"].lines[0].get_ydata().tolist() == [0.2, 0.8]
    (bars,) = lines["none"].lines[2]
    for segment, share, total in zip(bars.get_segments(), (0.2, 0.8), (10, 5), strict=True):
        error = (share * (1 - share) / total) ** 0.5
        np.testing.assert_allclose(segment[:, 1], [share - error, share + error])
    assert lines["additive"].lines[0].get_xdata().tolist() == [3]
    with pytest.raises(ValueError, match="no source to draw"):
        score_by_length({"none": {}})
