"""The picture of beats: points stand on the signal, durations above it, the truth below."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rnnlab.analysis.heart_beats import Strip, heart_beats

POINTS = np.array([[10.5, 10.48, 10.53, 10.46, 10.55], [11.5, 11.47, 11.56, 11.44, 11.58], [19.0] * 5])


def strip(**changes):
    signal = np.sin(np.arange(500) / 40)
    return Strip("a record", signal, 250, 10.0, POINTS, np.array([False, True, False]), None)._replace(**changes)


def test_durations_stand_above_and_wide_ones_are_orange():
    (axis,) = heart_beats([strip()], "A title").axes
    assert [text.get_text() for text in axis.texts] == ["90", "140"]  # the third beat is outside
    assert [to_hex(text.get_color()) for text in axis.texts] == ["#0072b2", "#d55e00"]
    spans = [patch for patch in axis.patches]
    assert [(patch.get_x(), patch.get_width()) for patch in spans] == [
        (pytest.approx(row[3]), pytest.approx(row[4] - row[3])) for row in POINTS[:2]
    ]
    assert axis.get_xlim() == (10.0, 12.0) and axis.figure.get_suptitle().startswith("A title\n")


def test_points_stand_on_the_signal():
    one = strip()
    (axis,) = heart_beats([one]).axes
    marks = {
        mark: [line for line in axis.lines if line.get_marker() == mark] for mark in ("v", "<", ">")
    }  # R, Q and S of two beats
    for column, lines in enumerate(marks.values()):
        for row, line in zip(POINTS, lines, strict=False):
            (time,), (level,) = line.get_data()
            assert time == pytest.approx(row[column]) and len(lines) == 2
            assert level == one.signal[round((time - 10) * 250)]


def test_the_truth_stands_below():
    for truth, count in ((None, 0), (POINTS[:, :1], 2), (POINTS, 4)):
        (axis,) = heart_beats([strip(truth=truth)]).axes
        grey = [line for line in axis.lines if line.get_color() == "#8C8C8C"]
        assert len(grey) == count and ("grey below: the truth" in axis.figure.get_suptitle()) == bool(count)
        assert all(max(line.get_ydata()) < -1 for line in grey)


def test_strips_without_beats_and_flat_ones_can_be_drawn(tmp_path):
    empty = strip(points=np.empty((0, 5)), is_wide=np.empty(0, dtype=bool), signal=np.zeros(100))
    heart_beats([strip(), empty]).savefig(tmp_path / "picture.png")
    with pytest.raises(ValueError, match="there is no strip to draw"):
        heart_beats([])
