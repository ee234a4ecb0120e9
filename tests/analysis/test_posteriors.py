"""The picture of what a transcriber expects over time."""

import numpy as np
import pytest

from rnnlab.analysis.posteriors import Posterior, posteriors

SYMBOLS = ["<blank>", "a", "b", " "]


def sound(**changes):
    probs = np.full((6, 4), 0.02)
    probs[[0, 2, 5], 0] = probs[[1], 1] = probs[[3, 4], 2] = 0.94
    one = Posterior(probs, [0, 1, 1, 2, 2, 0], [1, 3], "ab", "ab", "ab", 0.02)
    return one._replace(**changes)


def test_symbols_stand_at_their_peaks_and_below_at_their_alignment():
    figure = posteriors([sound()], SYMBOLS, "A title")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["a", "b", "a", "b"]
    assert axis.texts[0].xy == pytest.approx((0.03, 0.94))
    (first, second) = axis.patches
    assert (first.get_x(), first.get_width()) == pytest.approx((0.02, 0.04))
    assert (second.get_x(), second.get_width()) == pytest.approx((0.06, 0.04))
    spikes = next(line for line in axis.lines if line.get_label() == "best path")
    assert spikes.get_xdata() == pytest.approx([0.03, 0.07])
    assert axis.get_title(loc="left") == "best path and search: ab"
    assert figure.get_suptitle() == "A title"


def test_texts_that_differ_all_stand_above():
    title = posteriors([sound(best_path="a", search="a b")], SYMBOLS).axes[0].get_title(loc="left")
    assert title.split("\n") == ["best path: a", "search: a b", "right: ab"]
    title = posteriors([sound(truth=None)], SYMBOLS).axes[0].get_title(loc="left")
    assert title == "best path and search: ab"


def test_signs_of_mathematics_are_letters_and_blanks_alone_can_be_drawn(tmp_path):
    empty = sound(alignment=[0] * 6, frames=[], best_path="", search="$x^$")
    posteriors([sound(), empty], SYMBOLS).savefig(tmp_path / "picture.png")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="there is no sound to draw"):
        posteriors([], SYMBOLS)
    with pytest.raises(ValueError, match=r"probs must be \(2, 4\), got \(6, 4\)"):
        posteriors([sound(alignment=[0, 1])], SYMBOLS)
