"""What a transcriber expects over time, as a picture; made as `plots` makes its own.

Letters: T steps, V classes, the blank being number 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnnlab.analysis.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLANK = "#8C8C8C"
_COLOURS = (PALETTE[0], *PALETTE[2:4])  # of neighbouring symbols
_LABELLED = 0.05  # the least probability of a symbol that is named


class Posterior(NamedTuple):
    """One sound and what was made of it.

    Attributes:
        probs: of each class in each step, (T, V).
        alignment: the best alignment of the right text or, without one, of the search's: the class of each step, (T,).
        frames: step of each symbol's spike on the best path.
        best_path, search: the texts of both.
        truth: the right text; None where it is not known.
        seconds: of a step.
    """

    probs: np.ndarray
    alignment: Sequence[int]
    frames: Sequence[int]
    best_path: str
    search: str
    truth: str | None
    seconds: float


def posteriors(sounds: Sequence[Posterior], symbols: Sequence[str], title: str = "Posteriors over time") -> Figure:
    """Draw a panel for each sound: how likely each class is over time, and below it the best alignment.

    The blank is grey, symbols have colours and their names at their peaks; a triangle is where the best path has one.
    Above stand the texts of best path and search, and the right one.

    Args:
        sounds: at least one.
        symbols: V names, the blank's first.
        title: says what the figure shows.

    Raises:
        ValueError: there is none, or parts of one that do not fit.
    """
    from matplotlib.figure import Figure

    if not sounds:
        raise ValueError("there is no sound to draw")
    for one in sounds:
        if one.probs.shape != (len(one.alignment), len(symbols)):
            raise ValueError(f"probs must be ({len(one.alignment)}, {len(symbols)}), got {one.probs.shape}")
    longest = max(len(one.alignment) for one in sounds)
    size = (min(16.0, max(7.0, 1.5 + 0.06 * longest)), 0.6 + 2.3 * len(sounds))
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(sounds), 1, squeeze=False).ravel()
    for axis, one in zip(axes, sounds, strict=True):
        _draw(axis, one, symbols)
    axes[-1].set_xlabel("time (s)")
    return figure


def _draw(axis: Axes, one: Posterior, symbols: Sequence[str]) -> None:
    times = (np.arange(len(one.probs)) + 0.5) * one.seconds
    axis.plot(times, one.probs[:, 0], color=_BLANK, linewidth=0.8, label="blank")
    for symbol in range(1, len(symbols)):
        values = one.probs[:, symbol]
        if values.max() < _LABELLED:
            continue
        colour = _COLOURS[symbol % len(_COLOURS)]
        axis.plot(times, values, color=colour, linewidth=1.2)
        for peak in _peaks(values):
            axis.annotate(
                _visible(symbols[symbol]),
                (times[peak], values[peak]),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=colour,
            )
    axis.plot(times[list(one.frames)], [-0.04] * len(one.frames), "^", color="black", markersize=3, label="best path")
    for first, last, symbol in _stretches(one.alignment):
        left, width = first * one.seconds, (last - first) * one.seconds
        axis.add_patch(_box(left, width, _COLOURS[symbol % len(_COLOURS)]))
        axis.text(left + width / 2, -0.2, _visible(symbols[symbol]), ha="center", va="center", fontsize=6)
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set(xlim=(0, len(one.probs) * one.seconds), ylim=(-0.3, 1.15), ylabel="probability")
    axis.set_yticks([0, 0.5, 1])
    same = one.best_path == one.search
    texts = f"best path and search: {one.search}" if same else f"best path: {one.best_path}\nsearch: {one.search}"
    if one.truth is not None and {one.best_path, one.search} != {one.truth}:
        texts += f"\nright: {one.truth}"
    colour = "black" if one.truth in (None, one.search) else "#D55E00"
    axis.set_title(texts, fontsize=8, loc="left", color=colour, family="monospace", parse_math=False)


def _box(left: float, width: float, colour: str):
    from matplotlib.patches import Rectangle

    return Rectangle((left, -0.26), width, 0.12, facecolor=colour, alpha=0.35, linewidth=0)


def _peaks(values: np.ndarray) -> list[int]:
    """Return the highest step of each stretch in which a symbol may be meant."""
    above = np.flatnonzero(values >= _LABELLED)
    return [int(part[values[part].argmax()]) for part in np.split(above, np.flatnonzero(np.diff(above) > 1) + 1)]


def _stretches(alignment: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return first step, step behind the last, and class of each stretch of one symbol."""
    classes = np.asarray(alignment)
    edges = np.flatnonzero(np.diff(classes)) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(classes)]
    return [(start, end, int(classes[start])) for start, end in zip(starts, ends, strict=True) if classes[start]]


def _visible(symbol: str) -> str:
    return "␣" if symbol == " " else symbol
