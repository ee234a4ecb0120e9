"""Pictures of waves that were written from vectors: a pure function from numbers to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnnlab.analysis.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def waves(
    written: np.ndarray,
    truth: np.ndarray,
    num_trained: int,
    errors: Mapping[str, np.ndarray],
    floor: float,
    labels: Sequence[str],
    title: str,
) -> Figure:
    """Draw a few waves, past the steps that were trained too, and below them the error of all by step.

    Args:
        written: what the model wrote (N, T').
        truth: the waves, noise among them (N, T').
        num_trained: the first steps, those of training.
        errors: mean squared error at each step (T',), by what made it; the first is the model's.
        floor: variance of the noise.
        labels: what each wave is, N.
        title: says what the figure shows.

    Raises:
        ValueError: shapes do not fit together.
    """
    from matplotlib.figure import Figure

    num_waves, num_steps = written.shape
    if truth.shape != written.shape or len(labels) != num_waves:
        raise ValueError(f"{num_waves} labels and waves {written.shape} are expected, got {len(labels)}, {truth.shape}")
    if any(values.shape != (num_steps,) for values in errors.values()):
        raise ValueError(f"an error for each of {num_steps} steps is expected")
    blue, orange = PALETTE[:2]
    figure = Figure(figsize=(10, 1.6 * num_waves + 3.4), layout="constrained", dpi=120)
    axes = figure.subplots(num_waves + 1, 1, sharex=True, height_ratios=(*[1] * num_waves, 1.8))
    steps = np.arange(num_steps)
    for axis, one, right, label in zip(axes, written, truth, labels, strict=False):
        axis.plot(steps, right, ".", color=blue, markersize=3, label="wave with noise")
        axis.plot(steps, one, color=orange, linewidth=1.3, label="written")
        axis.set_title(label, fontsize=9)
    axes[0].legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    below = axes[-1]
    for (name, values), colour in zip(errors.items(), (orange, *PALETTE[2:]), strict=False):
        below.plot(steps, values, color=colour, linewidth=1.4, label=name)
    below.axhline(floor, color=PALETTE[-1], linestyle="--", linewidth=1.2, label=f"noise floor {floor:.2g}")
    below.set_yscale("log")
    below.set_ylabel("mean squared error")
    below.set_xlabel("step")
    below.legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if num_steps > num_trained:
            axis.axvspan(num_trained - 0.5, num_steps - 1, color="#8C8C8C", alpha=0.1, linewidth=0)
    below.set_xlim(0, num_steps - 1)
    figure.suptitle(f"{title}; grey: past the {num_trained} steps of training", fontsize=12)
    return figure
