"""Picture of a back-test: errors by step and by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnnlab.analysis.plots import PALETTE, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def backtest(
    by_step: Mapping[str, np.ndarray], by_fold: Mapping[str, np.ndarray], starts: Sequence[str], title: str
) -> Figure:
    """Draw the mean squared error of each method, the first the model's, at each step and from each origin.

    Args:
        by_step: (K,) by method.
        by_fold: (M,) by method.
        starts: when each fold begins, M texts.
        title: says what the figure shows.
    """
    figure, (left, right) = panels(2, title, panel=(5.2, 3.8))
    colours = (PALETTE[1], PALETTE[0], *PALETTE[2:])
    for place, name in enumerate(by_step):
        style = {"color": colours[place % len(colours)], "marker": "o", "markersize": 3}
        style |= {"linewidth": 1.8} if place == 0 else {"linewidth": 1, "linestyle": "--"}
        left.plot(np.arange(1, len(by_step[name]) + 1), by_step[name], label=name, **style)
        right.plot(np.arange(len(starts)), by_fold[name], label=name, **style)
    left.set_xlabel("step")
    left.xaxis.get_major_locator().set_params(integer=True)
    right.set_xlabel("first step of the fold")
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(6, len(starts))).round().astype(int))
    right.set_xticks(chosen, [starts[place] for place in chosen], rotation=30, ha="right", fontsize=8)
    for axis in (left, right):
        axis.set_ylabel("mean squared error, deviations")
        axis.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    return figure
