"""Which class is taken for which, as a picture; made as those of `rnnlab.analysis.plots` are. K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NUMBERED = 50  # classes that leave room for a number in each cell


def confusion_matrix(
    counts: np.ndarray, names: Sequence[str], title: str = "Confusion matrix of the validation part"
) -> Figure:
    """Draw how often each class was taken for each: in a cell the share of its row in per cent.

    Colour grows with the square root of the share, so that a per cent of errors can be seen. In an empty cell nothing
    was counted; beside the names stand the numbers of items. More than fifty classes are drawn in colour alone.

    Args:
        counts: integers >= 0 (K, K), a row for each true class, a column for each predicted one.
        names: of the classes, K.
        title: says what the figure shows.

    Raises:
        ValueError: counts and names do not fit together.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    num_classes = len(names)
    if counts.shape != (num_classes, num_classes) or not num_classes:
        raise ValueError(f"counts must be ({num_classes}, {num_classes}) for {num_classes} names, got {counts.shape}")
    totals = counts.sum(axis=1)
    shares = 100 * counts / np.maximum(totals, 1)[:, None]
    has_numbers = num_classes <= _MAX_NUMBERED
    cell, fontsize = (0.48, 8) if has_numbers else (0.14, 5)
    size = max(4.0, 1.5 + cell * num_classes)  # inches
    figure = Figure(figsize=(1.1 * size + 0.7, size), layout="constrained", dpi=120)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
    figure.colorbar(image, ax=axis, label="share of the true class (%)", shrink=0.7, ticks=(0, 1, 5, 20, 50, 100))
    for row, column in zip(*np.nonzero(counts), strict=True) if has_numbers else ():
        share = shares[row, column]
        colour = "white" if share > 35 else "black"
        axis.text(column, row, _per_cent(share), ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(num_classes), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=fontsize)
    labels = [f"{name}  {total:,}" for name, total in zip(names, totals, strict=True)]
    axis.set_yticks(range(num_classes), labels, fontsize=fontsize)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true, and how many there are")
    axis.set_xticks(np.arange(-0.5, num_classes), minor=True)
    axis.set_yticks(np.arange(-0.5, num_classes), minor=True)
    axis.grid(which="minor", color="#DDDDDD", linewidth=0.6)
    axis.tick_params(which="both", length=0)
    figure.suptitle(title, fontsize=12)
    return figure


def _per_cent(share: float) -> str:
    """Return a share in at most four characters: '100', '97.5', '0.04', '<.01'."""
    if share < 0.01:
        return "<.01"
    if share < 0.095:
        return f"{share:.2f}"
    return f"{share:.0f}" if share >= 99.95 else f"{share:.1f}"
