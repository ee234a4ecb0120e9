"""The picture of a search: what its trials reached, and what decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Trial(Protocol):
    """A trial that is over."""

    @property
    def number(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def value(self) -> float | None: ...


def draw_search(trials: Sequence[Trial], importances: Mapping[str, float], metric: str, mode: str) -> Figure:
    """Draw each trial's number in the order of the search with the best so far, and how much each setting decided.

    Args:
        trials: those that are over; pruned ones are drawn at the last number they reported, if they have one.
        importances: shares of 1 by setting; empty where too few trials tell.
        metric: what the numbers are.
        mode: 'min' or 'max', which way is better.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    history, shares = figure.subplots(1, 2, width_ratios=[3, 2])
    complete, pruned = (
        [(trial.number, trial.value) for trial in trials if trial.state == state and trial.value is not None]
        for state in ("complete", "pruned")
    )
    numbers = np.array([value for _, value in complete])
    best = np.maximum.accumulate(numbers) if mode == "max" else np.minimum.accumulate(numbers)
    order = [number for number, _ in complete]
    history.plot(order, numbers, "o", color="tab:blue", markersize=4, label="complete")
    if pruned:
        history.plot(*zip(*pruned, strict=True), "x", color="tab:gray", label="pruned")
    history.step(order, best, where="post", color="black", label="best so far")
    values = [value for _, value in (*complete, *pruned)]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        history.set_yscale("log")
    history.set(xlabel="trial", ylabel=metric)
    history.legend(frameon=False)
    names = sorted(importances, key=importances.__getitem__)
    shares.barh(names, [importances[name] for name in names], color="tab:blue")
    shares.set(xlabel="share in what made the best quarter", xlim=(0, 1))
    if not importances:
        shares.text(0.5, 0.5, "too few trials tell", ha="center", va="center", transform=shares.transAxes)
        shares.set_yticks([])
    return figure
