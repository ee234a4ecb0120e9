"""A text as a grid of characters, one coloured cell each: what the pictures of text have in common.

Letters: N characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnnlab.analysis.fonts import choose_families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

CELL_WIDTH, CELL_HEIGHT = 0.095, 0.175  # inches
WIDE_CELL = 0.13  # inches, in texts that have characters as wide as they are high
_FONT, _FONT_SIZE = "DejaVu Sans Mono", 8  # points: a letter is 0.067 inches wide
_MARGIN = 0.15  # inches, around everything

# A page of newlines alone would be as many rows; with twice as many a PNG of 150 dots per inch could not be written.
MOST_CHARACTERS = 2000

_MARKS = {"\n": "↵", "\r": "←", "\t": "→", " ": "·"}
_NO_GLYPH = "□"
# Relative luminance at which black and white text have the same contrast (WCAG 2, contrast ratio).
_EVEN_CONTRAST = 0.179


class Grid(NamedTuple):
    """Where the characters of a text stand.

    Attributes:
        rows, columns: of each character, int64 (N,).
        cell_width: inches.
    """

    rows: np.ndarray
    columns: np.ndarray
    cell_width: float = CELL_WIDTH

    @property
    def num_rows(self) -> int:
        return int(self.rows[-1]) + 1

    @property
    def num_columns(self) -> int:
        return int(self.columns.max()) + 1


def lay_out(text: str, width: int) -> Grid:
    """Break a text behind its newlines and, in between, after `width` characters.

    A newline stands at the end of its line, in one column more than `width` if the line is full.

    Raises:
        ValueError: the text is empty or longer than `MOST_CHARACTERS`, or the width below 1.
    """
    if not 1 <= len(text) <= MOST_CHARACTERS or width < 1:
        raise ValueError(
            f"expected 1 to {MOST_CHARACTERS} characters and a width of at least 1, got {len(text)} and {width}"
        )
    rows, columns = np.zeros(len(text), dtype=np.int64), np.zeros(len(text), dtype=np.int64)
    row = column = 0
    for index, character in enumerate(text):
        if column == width and character != "\n":
            row, column = row + 1, 0
        rows[index], columns[index] = row, column
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    return Grid(rows, columns, WIDE_CELL if any(map(_is_wide, set(text))) else CELL_WIDTH)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def check_values(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return `values` as an array after making sure that there is a finite one for each character.

    Raises:
        ValueError: wrong shape, or NaN or infinity among them.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, a value for each character, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
    return values


def liveliest_rows(text: str, values: np.ndarray, num_rows: int, width: int) -> slice:
    """Return the part of a text, `num_rows` rows of its grid or all there are, in which values (N,) vary most."""
    rows = lay_out(text, width).rows
    firsts = range(max(1, int(rows[-1]) + 2 - num_rows))
    parts = [slice(*np.searchsorted(rows, (first, first + num_rows)).tolist()) for first in firsts]
    return max(parts, key=lambda part: float(np.var(values[part])))


def make_panels(grids: Sequence[Grid], title: str, head: float, heading: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with grids one below the other, every cell of the same size, or wide, whatever the text.

    Args:
        grids: one a panel.
        title: stands at the top.
        head: inches between the upper edge and the first panel's heading, for title and colour bar.
        heading: inches above each panel for its own title.
    """
    from matplotlib.figure import Figure

    title_width = sum(0.16 if _is_wide(character) else 0.09 for character in title)  # about, of an 11 point font
    width = max(6.0, title_width, *(grid.num_columns * grid.cell_width for grid in grids)) + 2 * _MARGIN
    height = head + sum(heading + grid.num_rows * CELL_HEIGHT for grid in grids) + _MARGIN
    figure = Figure(figsize=(width, height), dpi=120)
    figure.suptitle(
        title, x=_MARGIN / width, y=1 - _MARGIN / height, ha="left", va="top", fontsize=11, parse_math=False
    )
    axes, bottom = [], height - head
    for grid in grids:
        size = (grid.num_columns * grid.cell_width, grid.num_rows * CELL_HEIGHT)
        bottom -= heading + size[1]
        axes.append(figure.add_axes((_MARGIN / width, bottom / height, size[0] / width, size[1] / height)))
    return figure, axes


def add_colour_bar(figure: Figure, colours: Colormap, low: float, high: float, label: str, extend: str) -> None:
    """Put a colour bar below the figure's title."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width, height = figure.get_size_inches()
    # Its outer tick labels reach beyond it.
    axis = figure.add_axes(((_MARGIN + 0.1) / width, 1 - 0.58 / height, 2.4 / width, 0.12 / height))
    scale = ScalarMappable(Normalize(low, high), colours)
    bar = figure.colorbar(scale, cax=axis, orientation="horizontal", extend=extend, ticks=np.linspace(low, high, 5))
    bar.ax.tick_params(labelsize=8, length=2, pad=2)
    bar.outline.set_linewidth(0.5)
    figure.text((_MARGIN + 2.7) / width, 1 - 0.52 / height, label, fontsize=8, va="center")


def draw_grid(
    axis: Axes, text: str, grid: Grid, values: np.ndarray, colours: Colormap, low: float, high: float
) -> None:
    """Colour the cell of each character by its value and write the character into it, dark or light as is readable."""
    shares = np.clip((values - low) / (high - low), 0, 1)
    shades = colours(shares)  # (N, 4)
    picture = np.ones((grid.num_rows, grid.num_columns, 4))
    picture[grid.rows, grid.columns] = shades
    axis.imshow(picture, aspect="auto", interpolation="nearest")
    axis.set_axis_off()
    dark = _luminance(shades[:, :3]) > _EVEN_CONTRAST
    families, _ = choose_families(text, [_FONT])
    for glyph, character, row, column, is_dark in zip(_glyphs(text), text, grid.rows, grid.columns, dark, strict=True):
        axis.text(
            column,
            row,
            glyph,
            color="black" if is_dark else "white",
            alpha=1.0 if glyph == character else 0.45,
            family=_FONT if character.isascii() else families,
            fontsize=_FONT_SIZE,
            ha="center",
            va="center_baseline",
            parse_math=False,
        )


def _luminance(colours: np.ndarray) -> np.ndarray:
    """Return the relative luminance (N,) of sRGB colours (N, 3) (IEC 61966-2-1)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def without_glyph(text: str) -> list[str]:
    """Return the distinct characters of a text that a grid shows as boxes for want of a font."""
    return sorted(choose_families(text, [_FONT])[1])


def _glyphs(text: str) -> list[str]:
    """Return what to write for each character: itself, a mark for white space, a box where no font has a glyph."""
    _, lacking = choose_families(text, [_FONT])
    drawable = {c: c if c.isprintable() and c not in lacking else _NO_GLYPH for c in set(text)}
    return [_MARKS.get(character, drawable[character]) for character in text]
