"""Pictures of text show each character once, in the colour of its value, and can be saved whatever the text."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps

from rnnlab.analysis import fonts
from rnnlab.analysis.text_grid import MOST_CHARACTERS, WIDE_CELL, lay_out, liveliest_rows
from rnnlab.analysis.text_plots import MOST_BITS, UnitPanel, learning_curve_bits, spread, surprise_map, unit_map

ROWS = [
    {"epoch": 0, "train/loss": math.log(2) * 4, "val/bits": 3.0, "time/epoch_s": 3.0},
    {"epoch": 1, "train/loss": math.log(2) * 3, "val/bits": 2.5},
    {"epoch": 2, "train/loss": math.log(2) * 2, "val/bits": 2.75},
]
TEXTS = st.text(st.sampled_from("ab\n\r\t é"), min_size=1, max_size=60)


def written(axis):
    return "".join(text.get_text() for text in axis.texts)


def test_learning_curve_is_in_bits_with_the_ngrams_beside_it(tmp_path):
    baselines = {
        "baseline/1gram/val/bits": 4.5,
        "baseline/5gram/val/bits": 2.4,
        "baseline/5gram_by_label/val/bits": 2.3,
        "baseline/5gram_by_label/val/bits/loud": 2.2,
        "baseline/5gram/test/bits": 9.0,
        "time/fit_s": 8,
    }
    (axis,) = learning_curve_bits(ROWS, baselines, "Shakespeare").axes
    train, val, *dashed = axis.get_lines()
    np.testing.assert_allclose(train.get_xydata(), [[1, 4], [2, 3], [3, 2]])
    np.testing.assert_allclose(val.get_xydata(), [[1, 3], [2, 2.5], [3, 2.75]])
    assert [(line.get_ydata()[0], line.get_linestyle()) for line in dashed] == [(4.5, "--"), (2.4, "--"), (2.3, "--")]
    assert [line.get_color() == "black" for line in dashed] == [False, False, True]  # the best one
    labels = [text.get_text() for text in axis.texts]
    grams = ["5-gram by label 2.300", "5-gram 2.400"]
    assert labels == ["training 2.000", *grams, "validation 2.750, best 2.500", "1-gram 4.500"]
    assert axis.get_ylabel() == "bits per character" and axis.get_xlabel() == "epoch"
    axis.figure.savefig(tmp_path / "curve.png")


def test_learning_curve_leaves_out_what_is_missing_or_not_finite():
    rows = [{"epoch": "4", "train/loss": "0.5", "val/bits": ""}, {"epoch": "5", "train/loss": "nan"}]
    (axis,) = learning_curve_bits(rows).axes
    (train,) = axis.get_lines()
    np.testing.assert_allclose(train.get_xydata(), [[5, 0.5 / math.log(2)]])
    with pytest.raises(ValueError, match="no row holds a finite 'train/loss' or 'val/bits'"):
        learning_curve_bits(rows[1:])


@given(places=st.lists(st.floats(-1, 2), max_size=12).map(sorted))
@settings(max_examples=50, deadline=None)
def test_spread_labels_keep_their_order_and_distance(places):
    moved = spread(places, gap=0.1)
    assert len(moved) == len(places)
    assert all(after - before >= 0.1 - 1e-9 for before, after in zip(moved, moved[1:], strict=False))
    assert sum(moved) == pytest.approx(sum(places), abs=1e-9)
    if all(after - before >= 0.1 for before, after in zip(places, places[1:], strict=False)):
        assert moved == places


@given(text=TEXTS, width=st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_layout_reads_line_by_line(text, width):
    grid = lay_out(text, width)
    cells = list(zip(grid.rows.tolist(), grid.columns.tolist(), strict=True))
    assert cells == sorted(set(cells))
    lines = [""] * grid.num_rows
    for (row, _), character in zip(cells, text, strict=True):
        lines[row] += character
    expected = []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        body = line.removesuffix("\n")
        pieces = [body[start : start + width] for start in range(0, len(body), width)] or [""]
        expected += [*pieces[:-1], pieces[-1] + line[len(body) :]]
    assert lines == expected


@given(text=TEXTS, num_rows=st.integers(1, 4), width=st.integers(1, 10), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_liveliest_rows_are_whole_rows(text, num_rows, width, seed):
    values = np.random.default_rng(seed).standard_normal(len(text))
    rows = lay_out(text, width).rows
    part = liveliest_rows(text, values, num_rows, width)
    shown = np.unique(rows[part])
    assert len(shown) == min(num_rows, rows[-1] + 1)
    assert np.isin(rows, shown).sum() == part.stop - part.start
    for first in range(rows[-1] + 2 - len(shown)):
        other = values[(rows >= first) & (rows < first + len(shown))]
        assert values[part].var() >= other.var() - 1e-12


def test_surprise_colours_each_character_by_its_bits(tmp_path):
    text = "a b\n\tc"
    bits = np.array([0.0, 1.0, 4.0, MOST_BITS, 20.0, 0.5])
    axis, bar = surprise_map(text, bits * math.log(2), "Start").axes
    assert written(axis) == "a·b↵→c"
    picture = axis.get_images()[0].get_array()
    assert picture.shape == (2, 4, 4)
    cells = [picture[0, 0], picture[0, 1], picture[0, 2], picture[0, 3], picture[1, 0], picture[1, 1]]
    np.testing.assert_allclose(cells, colormaps["YlOrRd"](np.minimum(bits, MOST_BITS) / MOST_BITS))
    np.testing.assert_array_equal(picture[1, 2:], 1)  # paper
    assert [text.get_color() for text in axis.texts] == ["black", "black", "black", "white", "white", "black"]
    assert [(text.get_position()) for text in axis.texts] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1)]
    assert "5.58 on average over 6 characters" in axis.figure.texts[0].get_text() + axis.figure.texts[-1].get_text()
    assert axis.figure.get_suptitle() == "Start"
    axis.figure.savefig(tmp_path / "surprise.png")


def test_any_character_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    text = "$x$ \\alpha {日本} \x00\x1b\u200b\ud800 e\u0301 🙂\r\n"
    figure = surprise_map(text, np.ones(len(text)), "of $5 and $6")
    assert written(figure.axes[0]) == "$x$·\\alpha·{□□}·□□□□·e\u0301·□←↵"
    figure.savefig(tmp_path / "odd.png")


def test_other_fonts_draw_what_the_first_lacks(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: ("Han", "Thai"))
    glyphs = {"DejaVu Sans Mono": "ab", "Han": "日本", "Thai": "ก日"}
    monkeypatch.setattr(fonts, "_code_points", lambda family: {ord(character) for character in glyphs[family]})
    axis, _ = surprise_map("a日本語", np.ones(4)).axes
    assert [text.get_text() for text in axis.texts] == ["a", "日", "本", "□"]
    assert [text.get_fontfamily() for text in axis.texts][:2] == [["DejaVu Sans Mono"], ["DejaVu Sans Mono", "Han"]]
    assert axis.get_position().width * axis.figure.get_figwidth() == pytest.approx(4 * WIDE_CELL)


def test_cells_keep_their_size():
    sizes = []
    for text in ("a" * 80, "a" * 80 + "\n" + "b" * 100):
        figure = surprise_map(text, np.ones(len(text)))
        box = figure.axes[0].get_position()
        grid = lay_out(text, 80)
        width, height = figure.get_size_inches()
        sizes.append((box.width * width / grid.num_columns, box.height * height / grid.num_rows))
    np.testing.assert_allclose(sizes[0], sizes[1])


def test_units_are_drawn_from_red_to_blue(tmp_path):
    panels = [
        UnitPanel("layer 1, h 3: inside a comment", "a#b", np.array([-1.0, 0.5, 1.0])),
        UnitPanel("layer 1, h 4: capitals", "AAAA", np.array([-3.0, 0.0, 0.0, 1.5])),
    ]
    first, second, bar = unit_map(panels, "Units").axes
    assert (first.get_title("left"), written(first)) == ("layer 1, h 3: inside a comment", "a#b")
    assert second.get_title("left") == "layer 1, h 4: capitals (values divided by 3)"
    colours = colormaps["RdBu"]
    np.testing.assert_allclose(first.get_images()[0].get_array()[0], colours([0.0, 0.75, 1.0]))
    np.testing.assert_allclose(second.get_images()[0].get_array()[0], colours([0.0, 0.5, 0.5, 0.75]))
    first.figure.savefig(tmp_path / "units.png")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surprise_map("", np.ones(0)), "expected 1 to 2000 characters .* got 0 and 80"),
        (lambda: surprise_map("a" * (MOST_CHARACTERS + 1), np.ones(MOST_CHARACTERS + 1)), "got 2001 and 80"),
        (lambda: surprise_map("ab", np.ones(2), width=0), "got 2 and 0"),
        (lambda: surprise_map("ab", np.ones(3)), r"nats must have the shape \(2,\), .* got \(3,\)"),
        (lambda: surprise_map("ab", np.array([1, np.nan])), "nats must be finite, got nan"),
        (lambda: unit_map([]), "at least one panel"),
        (lambda: unit_map([UnitPanel("", "ab", np.ones((2, 1)))]), r"values must have the shape \(2,\)"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_matplotlib_is_imported_on_first_use_and_pyplot_never():
    code = (
        "import sys, numpy, rnnlab.analysis.text_plots as plots; assert 'matplotlib' not in sys.modules;"
        "plots.surprise_map('ab', numpy.ones(2)); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
