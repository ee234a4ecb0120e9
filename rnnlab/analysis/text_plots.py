"""Pictures of character language models: pure functions from numbers to matplotlib figures.

Figures are made as in `rnnlab.analysis.plots`, without pyplot. Letter: N characters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnlab.analysis.baselines import baselines_of
from rnnlab.analysis.text_grid import add_colour_bar, check_values, draw_grid, lay_out, make_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#6E6E6E"  # as in plots.py, the grey darker, for text

# From the left edge of a label to its height on the axis.
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
# A fixed scale, so that pictures compare; a character of 8 bits is one that the model gave a chance of 1 in 256.
MOST_BITS = 8.0


class _Label(NamedTuple):
    text: str
    y: float
    colour: str


class UnitPanel(NamedTuple):
    """What one panel of `unit_map` shows.

    Attributes:
        title: the unit's name and why it is shown.
        text: a passage, N characters.
        values: of the unit, as tanh(c) of an LSTM (N,).
    """

    title: str
    text: str
    values: np.ndarray


def learning_curve_bits(
    rows: Sequence[Mapping[str, Any]], baselines: Mapping[str, float] | None = None, title: str = "Learning curve"
) -> Figure:
    """Draw bits per character over the epochs, with the n-grams to beat as dashed lines, the best one black.

    Args:
        rows: one mapping an epoch with 'epoch', 'train/loss' in nats and 'val/bits'; texts are read as numbers, empty,
            missing and non-finite entries are left out.
        baselines: bits per character of n-grams under names as 'baseline/5gram/val/bits'; others are left out.
        title: says what the figure shows.

    Raises:
        ValueError: no row has either value.
    """
    from matplotlib.figure import Figure

    curves = {
        ("training", _BLUE): _points(rows, "train/loss", 1 / math.log(2)),
        ("validation", _ORANGE): _points(rows, "val/bits", 1.0),
    }
    curves = {key: points for key, points in curves.items() if points}
    if not curves:
        raise ValueError("no row holds a finite 'train/loss' or 'val/bits'")
    figure = Figure(figsize=(8.6, 4.8), dpi=120)
    figure.suptitle(title, fontsize=12)
    axis = figure.add_axes((0.075, 0.11, 0.68, 0.79))
    labels = []
    for (name, colour), points in curves.items():
        epochs, bits = zip(*points, strict=True)
        axis.plot(epochs, bits, color=colour, marker="o", markersize=3, linewidth=1.6)
        best = f", best {min(bits):.3f}" if name == "validation" and min(bits) < bits[-1] else ""
        labels.append(_Label(f"{name} {bits[-1]:.3f}{best}", bits[-1], colour))
    compared = baselines_of(baselines or {}, "val/bits")
    for name, value in reversed(compared.items()):
        colour, width = ("black", 1.2) if name == next(iter(compared)) else (_GREY, 1.0)  # the best one last
        axis.axhline(value, color=colour, linestyle="--", linewidth=width)
        shown = re.sub(r"^(\d+)gram", r"\1-gram", name).replace("_", " ")
        labels.append(_Label(f"{shown} {value:.3f}", value, colour))
    axis.set_xlabel("epoch")
    axis.set_ylabel("bits per character")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    _label_right(axis, labels)
    return figure


def _points(rows: Sequence[Mapping[str, Any]], key: str, factor: float) -> list[tuple[float, float]]:
    """Return (epoch, value) of the rows that have a finite one; epochs count from 1."""
    points = []
    for number, row in enumerate(rows):
        value = row.get(key)
        if value not in (None, "") and math.isfinite(float(value)):
            points.append((float(row.get("epoch", number)) + 1, float(value) * factor))
    return points


def _label_right(axis: Axes, labels: Sequence[_Label]) -> None:
    """Write labels beside the right edge at their heights, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    labels = sorted(labels, key=lambda label: label.y)
    wanted = [(label.y - low) / (high - low) for label in labels]  # as shares of the axis
    for label, share, place in zip(labels, wanted, spread(wanted, gap=0.045), strict=True):
        axis.annotate(
            label.text,
            xy=(1, share),
            xytext=(1.025, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=label.colour,
            fontsize=8,
            va="center",
            arrowprops={**_LEADER, "color": label.colour},
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return sorted places moved so far that neighbours are at least `gap` apart, each group around where it was."""
    groups: list[tuple[float, int]] = []  # centre and size
    for place in places:
        centre, size = place, 1
        while groups and centre - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            former, count = groups.pop()
            centre, size = (former * count + centre * size) / (count + size), count + size
        groups.append((centre, size))
    return [centre + gap * (index - (size - 1) / 2) for centre, size in groups for index in range(size)]


def surprise_map(text: str, nats: np.ndarray, title: str = "Surprise", width: int = 80) -> Figure:
    """Draw a passage with each character's cell coloured by how little the model expected it.

    White space is shown by marks. Colours end at `MOST_BITS`; whatever surprised more has the last one.

    Args:
        text: N characters.
        nats: -ln p of each character (N,).
        title: says what the figure shows.
        width: characters a line.

    Raises:
        ValueError: not 1 to 2000 characters, or not a finite value for each character.
    """
    from matplotlib import colormaps

    grid = lay_out(text, width)
    bits = check_values("nats", nats, (len(text),)) / math.log(2)
    figure, (axis,) = make_panels([grid], title, head=0.85, heading=0.0)
    colours = colormaps["YlOrRd"]
    draw_grid(axis, text, grid, bits, colours, 0.0, MOST_BITS)
    label = f"bits, -log2 p: {bits.mean():.2f} on average over {len(text):,} characters"
    add_colour_bar(figure, colours, 0.0, MOST_BITS, label, extend="max")
    return figure


def unit_map(panels: Sequence[UnitPanel], title: str = "Hidden units over text", width: int = 80) -> Figure:
    """Draw a passage for each hidden unit, characters coloured by the unit's value after reading them.

    Colours reach from -1, red, to +1, blue, as in Karpathy, Johnson and Fei-Fei (2015). The values of a unit that goes
    beyond are divided by the largest, and its title says so.

    Args:
        panels: one a unit; the passages may be the same or not.
        title: says what the figure shows.
        width: characters a line.

    Raises:
        ValueError: no panel, or in one not 1 to 2000 characters or not a finite value for each.
    """
    from matplotlib import colormaps

    if not panels:
        raise ValueError("unit_map needs at least one panel, got none")
    grids = [lay_out(panel.text, width) for panel in panels]
    figure, axes = make_panels(grids, title, head=0.8, heading=0.36)
    colours = colormaps["RdBu"]
    for axis, grid, (name, text, values) in zip(axes, grids, panels, strict=True):
        values = check_values("values", values, (len(text),))
        largest = max(1.0, float(np.abs(values).max()))
        draw_grid(axis, text, grid, values / largest, colours, -1.0, 1.0)
        scaled = f" (values divided by {largest:.3g})" if largest > 1 else ""
        axis.set_title(name + scaled, fontsize=9, loc="left", pad=4, parse_math=False)
    add_colour_bar(figure, colours, -1.0, 1.0, "the unit after reading the character", extend="neither")
    return figure
