"""Texts in pictures: what their font lacks is taken from others, what none has is told."""

import warnings

import pytest
from matplotlib.figure import Figure

from rnnlab.analysis import fonts
from rnnlab.analysis.text_grid import without_glyph
from rnnlab.callbacks.figures import write_png


@pytest.fixture(autouse=True)
def no_other_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: ())


def test_missing_glyphs_are_told_in_one_line_and_not_warned_of(tmp_path, capsys):
    figure = Figure()
    figure.suptitle("\U000e0100 a \u4e00\u4e01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_png(tmp_path / "title.png", figure)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: title.png: boxes")]
    assert len(lines) == 1 and "U+4E00, U+4E01" in lines[0]


def test_every_text_of_a_figure_takes_the_glyphs_of_other_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: ("Thai", "Han"))
    glyphs = {"Han": "名詞動", "Thai": "ก"}
    monkeypatch.setattr(fonts, "_code_points", lambda family: {ord(character) for character in glyphs.get(family, "a")})
    figure = Figure()
    figure.suptitle("a 名")
    axis = figure.subplots()
    axis.set_xticks([0, 1, 2], ["a", "名詞", "助動詞"])
    axis.set_ylabel("a\n")
    assert fonts.complete_fonts(figure) == ["助"]
    plain, *others = axis.get_xticklabels()
    assert [text.get_fontfamily() for text in (axis.yaxis.label, plain)] == 2 * [["sans-serif"]]
    assert [text.get_fontfamily() for text in (*others, *figure.texts)] == 3 * [["sans-serif", "Han"]]


def test_characters_that_a_grid_shows_as_boxes():
    assert without_glyph("a\u4e01 \u4e00\n\u4e01□") == ["\u4e00", "\u4e01"]
