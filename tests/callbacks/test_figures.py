"""Pictures of texts whose characters no font has."""

import warnings

from matplotlib.figure import Figure

from rnnlab.analysis.text_grid import without_glyph
from rnnlab.callbacks.figures import write_png


def test_missing_glyphs_are_told_in_one_line_and_not_warned_of(tmp_path, capsys):
    figure = Figure()
    figure.suptitle("\U000e0100 a \u4e00\u4e01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_png(tmp_path / "title.png", figure)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: title.png: boxes")]
    assert len(lines) == 1 and "U+4E00, U+4E01" in lines[0]


def test_characters_that_a_grid_shows_as_boxes():
    assert without_glyph("a\u4e01 \u4e00\n\u4e01□") == ["\u4e00", "\u4e01"]
