"""A picture of many runs: metrics by configuration, a point a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rnnlab.analysis.baselines import baselines_of
from rnnlab.analysis.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 40  # configurations that have room for their names
_MOST_CHARACTERS = 50  # of a name


class Spread(NamedTuple):
    """What one panel shows.

    Attributes:
        metric: its name, as 'test/exact_match'.
        names: of the configurations.
        values: of each, one a seed; what is not finite is left out.
        metrics: numbers that all these runs share, baselines among them.
    """

    metric: str
    names: Sequence[str]
    values: Sequence[Sequence[float]]
    metrics: Mapping[str, float]


def spread(panels: Sequence[Spread], keys: str) -> Figure:
    """Draw each value as a point, the mean of a configuration as a bar, and the best baseline as a dashed line.

    More configurations than have room for their names are drawn in the order of their means.

    Args:
        panels: one for each metric.
        keys: what the names are values of.
    """
    from matplotlib.figure import Figure

    heights = [1.3 + 0.28 * len(one.names) if len(one.names) <= _MOST_NAMED else 6.0 for one in panels]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    places = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, one in zip(places, panels, strict=True):
        _draw(axes, one)
    figure.suptitle(_cut(f"A point a run, a bar the mean, by {keys}" if keys else "A point a run, a bar the mean", 90))
    return figure


def _draw(axes: Axes, panel: Spread) -> None:
    finite = [[value for value in values if math.isfinite(value)] for values in panel.values]
    rows = [(name, some, sum(some) / len(some)) for name, some in zip(panel.names, finite, strict=True) if some]
    is_named = len(panel.names) <= _MOST_NAMED
    if not is_named:
        rows.sort(key=lambda row: row[2])
    points = [(value, place) for place, (_, some, _) in enumerate(rows) for value in some]
    x, y = zip(*points, strict=True) if points else ((), ())
    axes.plot([mean for _, _, mean in rows], range(len(rows)), "|", color="black", markersize=14 if is_named else 3)
    axes.plot(x, y, "o", color=PALETTE[0], markersize=5 if is_named else 1.5, alpha=0.6, markeredgewidth=0)
    for name, value in list(baselines_of(panel.metrics, panel.metric).items())[:1]:
        axes.axvline(value, color=PALETTE[1], linestyle="--", linewidth=1.2, label=f"baseline {name} {value:.4g}")
        axes.legend(frameon=False, fontsize=8)
    if is_named:
        axes.set_yticks(range(len(rows)), [_cut(name, _MOST_CHARACTERS) for name, _, _ in rows], fontsize=8)
    else:
        axes.set_ylabel(f"{len(rows):,} configurations, by their mean")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(panel.metric)
    axes.grid(axis="x", alpha=0.3)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
