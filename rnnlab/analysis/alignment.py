"""Attention as a picture: which symbols of a source each symbol of an answer looked at; made as `plots` makes its own.

Letters: S source symbols, U symbols of an answer, its end included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 2  # of panels
_CELL = 0.2  # inches for a symbol


class Alignment(NamedTuple):
    """One answer and where it looked.

    Attributes:
        source: S symbols.
        answer: U symbols.
        weights: (U, S), rows adding up to one.
        truth: the right answer, if this one is wrong; None if it is right.
    """

    source: Sequence[str]
    answer: Sequence[str]
    weights: np.ndarray
    truth: str | None = None


def attention_maps(alignments: Sequence[Alignment], title: str = "Attention") -> Figure:
    """Draw a panel for each answer: the source across, the answer down, the darker the more attention.

    Args:
        alignments: at least one.
        title: says what the figure shows.

    Raises:
        ValueError: there is none, or weights that do not fit their symbols.
    """
    from matplotlib.figure import Figure

    if not alignments:
        raise ValueError("there is no answer to draw")
    for source, answer, weights, _ in alignments:
        if weights.shape != (len(answer), len(source)):
            raise ValueError(f"weights must be ({len(answer)}, {len(source)}), got {weights.shape}")
    # Down the columns, so that a column of short sources is a narrow one.
    num_rows = min(_ROWS, len(alignments))
    columns = [alignments[first : first + num_rows] for first in range(0, len(alignments), num_rows)]
    rows = [[column[row] for column in columns if row < len(column)] for row in range(num_rows)]
    widths = [max(10, *(len(one.source) for one in column)) for column in columns]
    heights = [max(6, *(len(one.answer) for one in row)) for row in rows]
    size = (1.5 + 0.7 * len(columns) + _CELL * sum(widths), 0.7 + 0.8 * num_rows + _CELL * sum(heights))
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    figure.suptitle(title, fontsize=11)
    ratios = {"width_ratios": widths, "height_ratios": heights}
    axes = figure.subplots(num_rows, len(columns), squeeze=False, **ratios).T.ravel()
    for axis, (source, answer, weights, truth) in zip(axes, alignments, strict=False):
        image = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axis.set_xticks(range(len(source)), [_visible(symbol) for symbol in source], fontsize=8)
        axis.set_yticks(range(len(answer)), [_visible(symbol) for symbol in answer], fontsize=8)
        axis.set_anchor("NW")
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        if truth is not None:
            axis.set_xlabel(f"wrong; right: {truth}", fontsize=8, color="#D55E00")
    for axis in axes[len(alignments) :]:
        axis.set_axis_off()
    figure.colorbar(image, ax=axes.tolist(), label="share of attention", shrink=0.6)
    return figure


def _visible(symbol: str) -> str:
    return "␣" if symbol == " " else symbol


def score_by_length(
    curves: Mapping[str, Mapping[int, tuple[float, float]]], title: str = "Exact match by length of the source"
) -> Figure:
    """Draw the share of right answers against the length of the source, a line for each model.

    Each point has the standard error of a share, sqrt(p (1 - p) / n), and lengths with fewer than five sources are left
    out, unless there are no others.

    Args:
        curves: for each model, by length in symbols, how many answers were right and how many there were.
        title: says what the figure shows.

    Raises:
        ValueError: there is nothing to draw.
    """
    from matplotlib.figure import Figure

    from rnnlab.analysis.plots import PALETTE

    if not any(curves.values()):
        raise ValueError("there is no source to draw")
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=120)
    axis = figure.subplots()
    for (name, counts), colour in zip(curves.items(), PALETTE * len(curves), strict=False):
        kept = {length: pair for length, pair in counts.items() if pair[1] >= 5} or dict(counts)
        lengths = np.array(sorted(kept))
        right, total = np.array([kept[length] for length in lengths.tolist()]).T
        share = right / total
        error = np.sqrt(share * (1 - share) / total)
        axis.errorbar(lengths, share, error, color=colour, marker="o", markersize=3, linewidth=1.4, label=name)
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("length of the source (symbols)")
    axis.set_ylabel("exact match (share of answers)")
    axis.set_title(title, fontsize=11)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=9)
    return figure
