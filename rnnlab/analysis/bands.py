"""Pictures of forecasts that are distributions: bands beside what came, and how often it lay below each quantile.

Letters: N windows, W steps shown of what was known, K steps to forecast, Q levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnnlab.analysis.plots import PALETTE, label_times, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, *_ = PALETTE


def bands(
    history: np.ndarray,
    truth: np.ndarray,
    forecast: np.ndarray,
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]],
    times: np.ndarray,
    names: Sequence[str],
    title: str,
) -> Figure:
    """Draw windows of series with what followed, what was forecast, and intervals about it, one panel a window.

    Args:
        history: known values (N, W), NaN where missing.
        truth: what followed (N, K), NaN where missing.
        forecast: means (N, K).
        intervals: lower and upper ends (N, K) by name, the widest last.
        times: of each value (N, W + K): numbers or datetime64.
        names: of the N windows.
        title: says what the figure shows.
    """
    figure, axes = panels(len(history), title, panel=(4.2, 2.7))
    num_known = history.shape[1]
    for index, axis in enumerate(axes):
        known, future = times[index, :num_known], times[index, num_known:]
        for place, (name, (low, high)) in reversed(list(enumerate(intervals.items()))):
            shade = {"color": _ORANGE, "alpha": 0.3 - 0.15 * place, "linewidth": 0}
            if len(future) > 1:
                axis.fill_between(future, low[index], high[index], label=name, **shade)
            else:
                axis.vlines(
                    future, low[index], high[index], label=name, color=_ORANGE, linewidth=6 - 3 * place, alpha=0.4
                )
        axis.plot(known, history[index], color=_BLUE, linewidth=1.2, label="known")
        marks = "o" if len(future) <= 40 else "-"
        axis.plot(future, truth[index], marks, color=_BLUE, markersize=3, markerfacecolor="white", label="truth")
        style = {"marker": "x", "markersize": 5} if len(future) <= 40 else {}
        axis.plot(future, forecast[index], color=_ORANGE, linewidth=1.2, label="forecast", **style)
        axis.set_title(names[index], fontsize=9)
        label_times(axis, times)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def calibration(levels: Sequence[float], shares: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw how often the truth lay below each quantile against how often it should, and the same of central intervals.

    Args:
        levels: Q shares, increasing, the same on both sides of 1/2.
        shares: of true values at most each quantile, (Q,), by what they are of: the first step, the last one, all.
        title: says what the figure shows.
    """
    figure, (left, right) = panels(2, title, panel=(4.4, 4.2))
    for axis in (left, right):
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
        axis.set_aspect("equal")
    half = len(levels) // 2
    nominal = np.asarray(levels)
    for (name, share), colour in zip(shares.items(), PALETTE, strict=False):
        style = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.2}
        left.plot(nominal, share, label=name, **style)
        right.plot((nominal[::-1] - nominal)[:half], (share[::-1] - share)[:half], label=name, **style)
    left.set_title("truth at most the quantile", fontsize=10)
    right.set_title("truth in the central interval", fontsize=10)
    for axis in (left, right):
        axis.set_xlabel("nominal share")
        axis.set_ylabel("observed share")
    left.legend(frameon=False, fontsize=8)
    return figure
