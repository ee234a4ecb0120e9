"""How gradients flow back through recurrent layers over the epochs, as a picture; made as `plots` makes its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnlab.analysis.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOOR = 1e-12  # of norms, the least that is told apart


def gradient_flow(rows: Sequence[Any], title: str) -> Figure:
    """Draw a row of panels for each layer and direction.

    From the left: the norm of dL/dh_t, steps before the last one upwards, epochs to the right, in colours by powers of
    ten; the share of the squared gradient that goes back element by element, likewise; gates that are closed (below
    0.05) or open (above 0.95); time constants of what is kept, the median and the middle eighty percent of the units;
    spectral radius and largest singular value of R. Of one epoch alone, the first two are curves over the steps.

    Args:
        rows: with `epoch`, `layer`, `kind`, `name`, `back` and `value`, as `rnnlab.callbacks.gradient_flow.Number`.
        title: says what the figure shows.

    Raises:
        ValueError: there is no layer.
    """
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys(row.layer for row in rows if row.layer))
    if not layers:
        raise ValueError("no layer was recorded")
    figure = Figure(figsize=(19, 0.6 + 3.1 * len(layers)), layout="constrained", dpi=110)
    rates = {row.epoch: row.value for row in rows if row.kind == "clip_rate"}
    clipped = f"; clipped updates {100 * np.mean(list(rates.values())):.0f}%" if rates else ""
    figure.suptitle(f"{title}{clipped}", fontsize=11)
    axes = figure.subplots(len(layers), 5, squeeze=False)
    for line, layer in zip(axes, layers, strict=True):
        own = [row for row in rows if row.layer == layer]
        state = next(row.name for row in own if row.kind == "state")
        _heat(line[0], own, "state", state, f"{layer}\n|dL/d{state}|, log10", logarithmic=True)
        _heat(line[1], own, "direct", "", "share that goes back element by element", logarithmic=False)
        _lines(line[2], own, {"open": "-", "closed": "--"}, "share of activations", "gates open (-) and closed (--)")
        _constants(line[3], own)
        kinds = {"spectral_radius": "-", "largest_singular_value": "--"}
        _lines(line[4], own, kinds, "", "R: spectral radius (-), largest singular (--)")
    return figure


def _heat(axis: Axes, rows: Iterable[Any], kind: str, name: str, title: str, logarithmic: bool) -> None:
    found = [row for row in rows if row.kind == kind and row.name == name]
    if not found:
        _finish(axis, title, "", has_lines=False)
        return
    epochs = sorted({row.epoch for row in found})
    values = np.full((1 + max(row.back for row in found), len(epochs)), np.nan)
    for row in found:
        values[row.back, epochs.index(row.epoch)] = row.value
    if len(epochs) == 1:
        axis.plot(np.maximum(values, _FLOOR) if logarithmic else values, color=PALETTE[0], linewidth=1.3)
        axis.set(title=title.replace(", log10", ""), xlabel="steps before the last")
        axis.set_yscale("log") if logarithmic else axis.set_ylim(-0.03, 1.03)
        axis.title.set_fontsize(9)
        axis.xaxis.get_major_locator().set_params(integer=True)
        return
    if logarithmic:
        values = np.log10(np.maximum(values, _FLOOR))
    span = {} if logarithmic else {"vmin": 0, "vmax": 1}
    place = (epochs[0] + 0.5, epochs[-1] + 1.5, -0.5, len(values) - 0.5)
    image = axis.imshow(values, aspect="auto", origin="lower", extent=place, cmap="viridis", **span)
    axis.figure.colorbar(image, ax=axis)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("epoch")
    axis.set_ylabel("steps before the last")
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _lines(axis: Axes, rows: Sequence[Any], kinds: dict[str, str], label: str, title: str) -> None:
    names = list(dict.fromkeys(row.name for row in rows if row.kind in kinds))
    for name, colour in zip(names, PALETTE, strict=False):
        for kind, style in kinds.items():
            found = [(row.epoch + 1, row.value) for row in rows if (row.kind, row.name) == (kind, name)]
            text = name if style == "-" else None
            dot = {"marker": "o", "fillstyle": "full" if style == "-" else "none"} if len(found) == 1 else {}
            axis.plot(*zip(*found, strict=True), style, color=colour, label=text, linewidth=1.3, **dot)
    _finish(axis, title, label, bool(names))


def _constants(axis: Axes, rows: Sequence[Any]) -> None:
    found = {
        name: [(row.epoch + 1, row.value) for row in rows if (row.kind, row.name) == ("time_constant", name)]
        for name in ("0.1", "0.5", "0.9")
    }
    if found["0.5"]:
        epochs, median = zip(*found["0.5"], strict=True)
        low, high = ([value for _, value in found[name]] for name in ("0.1", "0.9"))
        axis.plot(epochs, median, color=PALETTE[0], label="median", marker="o" if len(epochs) == 1 else None)
        if len(epochs) == 1:
            axis.vlines(epochs, low, high, color=PALETTE[0], alpha=0.4, label="10 to 90% of units")
        else:
            axis.fill_between(epochs, low, high, color=PALETTE[0], alpha=0.2, linewidth=0, label="10 to 90% of units")
        axis.set_ylim(bottom=0)
    _finish(axis, "time constants of the states", "steps", bool(found["0.5"]))


def _finish(axis: Axes, title: str, label: str, has_lines: bool) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    if has_lines:
        axis.legend(frameon=False, fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    else:
        axis.text(0.5, 0.5, "none in this cell", ha="center", va="center", transform=axis.transAxes, fontsize=9)
