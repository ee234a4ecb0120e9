"""Electrocardiograms and what was found in them, as a picture; made as `plots` makes its own.

Letters: N samples, K beats, P points: R, Q, S, QRS on- and offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnnlab.analysis.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIGNAL, _TRUE, _WIDE = "#404040", "#8C8C8C", "#D55E00"
_MARKS = (("R", "v"), ("Q", "<"), ("S", ">"))


class Strip(NamedTuple):
    """A stretch of a record.

    Attributes:
        name: of the record, for the panel's title.
        signal: (N,).
        rate: samples a second.
        start: seconds from the record's start.
        points: what was found, seconds from the record's start, (K, P).
        is_wide: (K,).
        truth: what is right, (K', P), or R alone, (K', 1); None where it is not known.
    """

    name: str
    signal: np.ndarray
    rate: float
    start: float
    points: np.ndarray
    is_wide: np.ndarray
    truth: np.ndarray | None


def heart_beats(strips: Sequence[Strip], title: str = "Beats") -> Figure:
    """Draw a panel for each strip: the signal, R, Q and S as found, and QRS shaded with its duration in ms.

    A wide QRS is orange. Below the signal are grey lines where R truly is, and bars where QRS truly lasts.

    Args:
        strips: at least one.
        title: says what the figure shows.

    Raises:
        ValueError: there is none.
    """
    from matplotlib.figure import Figure

    if not strips:
        raise ValueError("there is no strip to draw")
    figure = Figure(figsize=(14, 0.8 + 2.4 * len(strips)), layout="constrained", dpi=120)
    truth = "; grey below: the truth" if any(strip.truth is not None for strip in strips) else ""
    figure.suptitle(f"{title}\nR \u25be, Q \u25c2, S \u25b8; QRS shaded, in ms, orange where wide{truth}", fontsize=10)
    for axis, strip in zip(figure.subplots(len(strips), 1, squeeze=False).ravel(), strips, strict=True):
        _draw(axis, strip)
    axis.set_xlabel("time (s)")
    return figure


def _draw(axis: Axes, strip: Strip) -> None:
    end = strip.start + len(strip.signal) / strip.rate
    axis.plot(strip.start + np.arange(len(strip.signal)) / strip.rate, strip.signal, color=_SIGNAL, linewidth=0.7)
    low, high = (float(value) for value in np.percentile(strip.signal, (0.1, 99.9)))
    height = max(high - low, 1e-6)
    floor = low - 0.2 * height
    is_shown = (strip.points[:, 0] >= strip.start) & (strip.points[:, 0] < end)
    for row, is_wide in zip(strip.points[is_shown], strip.is_wide[is_shown], strict=True):
        colour = _WIDE if is_wide else PALETTE[0]
        axis.axvspan(row[3], row[4], color=colour, alpha=0.2, linewidth=0)
        axis.text(row[0], high + 0.2 * height, f"{1000 * (row[4] - row[3]):.0f}", ha="center", fontsize=7, color=colour)
        for time, (_, mark) in zip(row, _MARKS, strict=False):
            place = min(len(strip.signal) - 1, max(0, round((time - strip.start) * strip.rate)))
            axis.plot(time, strip.signal[place], mark, color=colour, markersize=4.5, markeredgewidth=0)
    if strip.truth is not None:
        for row in strip.truth[(strip.truth[:, 0] >= strip.start) & (strip.truth[:, 0] < end)]:
            axis.plot([row[0]] * 2, [floor, floor + 0.12 * height], color=_TRUE, linewidth=1)
            if len(row) > 1:
                axis.plot(row[3:5], [floor, floor], color=_TRUE, linewidth=2.5)
    axis.set_title(strip.name, fontsize=8, loc="left", parse_math=False)
    axis.set(xlim=(strip.start, end), ylim=(floor - 0.1 * height, high + 0.4 * height), ylabel="mV")
