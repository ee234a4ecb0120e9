"""Pictures of runs: pure functions from numbers to matplotlib figures.

Figures are made without pyplot, so nothing is kept alive, no backend is chosen and no display is needed; matplotlib is
imported on first use. Letters: N series, T known steps, K forecast steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnlab.analysis.baselines import baselines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart under all common forms of colour blindness.
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C8C8C"
PALETTE = (_BLUE, _ORANGE, _GREEN, _PURPLE, "black")
_SPLIT_COLOURS = {"train": _BLUE, "val": _ORANGE, "test": _GREEN}
_BASELINE_COLOURS = ("black", _GREY, _PURPLE)  # the best one first

_LABELS = {
    "loss": "loss",
    "exact_match": "exact match (share of answers)",
    "unseen_accuracy": "exact match on sources not in training",
    "symbol_error": "symbol error rate",
    "per": "phone error rate",
    "wer": "word error rate",
    "cer": "character error rate",
    "ler": "label error rate",
    "char_accuracy": "character accuracy (padding counted)",
    "accuracy": "accuracy (share of tokens)",
    "accuracy_unseen": "accuracy on words not in training",
    "sentence_accuracy": "sentences without a wrong tag",
    "macro_f1": "F1, mean over tags",
    "mse": "mean squared error, all forecasts",
    "mse_last": "mean squared error, last step",
    "rmse": "RMSE (units of the series)",
    "mae": "mean absolute error",
    "mape": "MAPE (%)",
    "crps": "CRPS (deviations of the series)",
    "mase": "MASE (naive changes of the series)",
    "coverage_80": "share of values in intervals of 80%",
    "coverage_95": "share of values in intervals of 95%",
}
_FAR_APART = 3.0  # the greatest value over the least, from where an axis is logarithmic
# Shares that lie close together near 1: a logarithmic axis would only make them hard to read.
_SHARES = ("accuracy", "accuracy_unseen", "sentence_accuracy", "macro_f1", "coverage_80", "coverage_95")


def learning_curves(
    rows: Sequence[Mapping[str, Any]], baselines: Mapping[str, float] | None = None, title: str = "Learning curves"
) -> Figure:
    """Draw each metric over the epochs, one panel a metric, one line a split.

    Args:
        rows: one mapping an epoch with 'epoch' and '<split>/<metric>' entries; texts are read as numbers, empty or
            missing entries are left out, and so are metrics without a split in train, val, test.
        baselines: numbers to beat, drawn as dashed lines, the best one black: 'baseline/hmm/val/accuracy' into the
            panel of 'accuracy'. Those of other splits do not compare with these curves, other names are left out.
        title: says what the figure shows.

    Raises:
        ValueError: no row has a metric.
    """
    metrics: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for number, row in enumerate(rows):
        for key, value in row.items():
            split, _, metric = key.partition("/")
            if split in _SPLIT_COLOURS and metric in _LABELS and value not in (None, ""):
                epochs, values = metrics.setdefault(metric, {}).setdefault(split, ([], []))
                epochs.append(float(row.get("epoch", number)) + 1)
                values.append(float(value))
    if not metrics:
        raise ValueError("no row holds a metric like 'train/loss' or 'val/exact_match'")
    if list(metrics.get("loss", ())) == ["train"]:
        for same in [name for name in ("mse", "mse_last") if name in metrics][:1]:
            metrics[same] = {**metrics.pop("loss"), **metrics[same]}  # what is minimised is that error
    names = [name for name in _LABELS if name in metrics]
    figure, axes = panels(len(names), title, panel=(5.2, 3.8))
    for axis, name in zip(axes, names, strict=True):
        for split, (epochs, values) in metrics[name].items():
            axis.plot(epochs, values, color=_SPLIT_COLOURS[split], marker="o", markersize=3, label=split)
        compared = baselines_of(baselines or {}, f"val/{name}")
        for (label, value), colour in zip(compared.items(), _BASELINE_COLOURS, strict=False):
            axis.axhline(value, color=colour, linestyle="--", linewidth=1.2, label=f"{label} {value:.4g}")
        if name in ("exact_match", "char_accuracy"):
            axis.set_ylim(-0.02, 1.02)
        elif name not in _SHARES:
            _scale(axis, [*compared.values(), *(value for _, values in metrics[name].values() for value in values)])
        axis.set_title(_LABELS[name], fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_ylabel(name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, fontsize=8)
    return figure


def _scale(axis: Axes, values: Sequence[float]) -> None:
    """Make the axis of positive values that lie far apart logarithmic, with plain numbers beside it."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) < _FAR_APART * min(finite):
        return
    axis.set_yscale("log")
    ratio = max(finite) / min(finite)
    labelled = (1.0,) if ratio > 1000 else (1.0, 2.0, 5.0) if ratio > 10 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axis.yaxis.set_major_locator(LogLocator(subs=labelled))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def forecast(
    history: np.ndarray,
    truth: np.ndarray,
    forecast: np.ndarray,
    baseline: tuple[str, np.ndarray] | None = None,
    unit: str = "value",
    times: np.ndarray | None = None,
    title: str = "Forecasts of validation series",
) -> Figure:
    """Draw a few series with what followed and what was forecast, one panel a series.

    Args:
        history: known values (N, T).
        truth: what followed (N, K).
        forecast: the model's forecasts (N, K).
        baseline: name and values (N, K) of another forecast to compare with.
        unit: label of the value axis.
        times: of each value (N, T+K): numbers or datetime64; None counts steps.
        title: says what the figure shows.

    Raises:
        ValueError: shapes do not fit together.
    """
    history, truth, forecast = np.asarray(history), np.asarray(truth), np.asarray(forecast)
    name, other = ("", None) if baseline is None else (baseline[0], np.asarray(baseline[1]))
    compared = [forecast] if other is None else [forecast, other]
    if history.ndim != 2 or any(values.shape != truth.shape for values in compared):
        shapes = ", ".join(str(values.shape) for values in (history, truth, *compared))
        raise ValueError(f"expected history (N, T) and truth, forecast, baseline (N, K), got shapes {shapes}")
    num_known, num_steps = history.shape[1], history.shape[1] + truth.shape[1]
    time = np.tile(np.arange(num_steps), (len(history), 1)) if times is None else np.asarray(times)
    figure, axes = panels(len(history), title, panel=(4.2, 2.7))
    for index, axis in enumerate(axes):
        known, future = time[index, :num_known], time[index, num_known:]
        axis.plot(known, history[index], color=_BLUE, linewidth=1.2, label="known")
        axis.axvspan(known[-1], future[-1], color=_GREY, alpha=0.1, linewidth=0)
        if other is not None:
            style = {"color": "black", "linestyle": "--", "linewidth": 1, "marker": ".", "markersize": 4}
            axis.plot(future, other[index], **style, label=f"baseline {name}")
        axis.plot(future, truth[index], "o", color=_BLUE, markersize=5, markerfacecolor="white", label="truth")
        axis.plot(future, forecast[index], "x", color=_ORANGE, markersize=6, markeredgewidth=1.8, label="forecast")
        errors = [_short(float(np.mean((values[index] - truth[index]) ** 2))) for values in compared]
        against = f" ({name} {errors[1]})" if other is not None else ""
        axis.set_title(f"series {index + 1}: MSE {errors[0]}{against}", fontsize=9)
        axis.set_ylabel(unit)
        label_times(axis, times)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def level_forecast(
    series: np.ndarray,
    first_target: int,
    forecast: np.ndarray,
    baselines: Mapping[str, np.ndarray] | None = None,
    unit: str = "value",
    times: Sequence[Any] | None = None,
    title: str = "Forecasts of the test part",
) -> Figure:
    """Draw a series over time with one-step forecasts of its end, and their errors below.

    Args:
        series: all values in their own units (T,).
        first_target: index of the first value forecast.
        forecast: the model's forecasts, of consecutive values (N,).
        baselines: other forecasts (N,) by name, the first of which is drawn in black.
        unit: label of the value axis.
        times: what to write on the time axis for each value (T,): numbers or datetime64; None counts rows.
        title: says what the figure shows.

    Raises:
        ValueError: the forecasts do not lie within the series.
    """
    series, forecast = np.asarray(series), np.asarray(forecast)
    stop = first_target + len(forecast)
    if forecast.ndim != 1 or not 0 <= first_target < stop <= len(series):
        raise ValueError(
            f"forecasts of shape {forecast.shape} from index {first_target} do not lie within {len(series)} values"
        )
    time = np.arange(len(series)) if times is None else np.asarray(times)
    truth, span = series[first_target:stop], time[first_target:stop]
    figure, (top, bottom) = _stacked(title)
    # So much of what was known that the forecasts keep a fifth of the width.
    first = max(0, first_target - 4 * len(forecast))
    top.plot(time[first:], series[first:], color=_BLUE, linewidth=1.2, label="series")
    top.axvline(time[first_target], color=_GREY, linewidth=0.8, linestyle=":")
    for (name, values), colour in zip((baselines or {}).items(), _BASELINE_COLOURS, strict=False):
        label = f"baseline {name}, RMSE {_rmse(values, truth):.4g}"
        top.plot(span, values, color=colour, linewidth=1, linestyle="--", label=label)
        bottom.plot(span, np.asarray(values) - truth, color=colour, linewidth=1, linestyle="--")
    top.plot(span, forecast, color=_ORANGE, linewidth=1.4, label=f"forecast, RMSE {_rmse(forecast, truth):.4g}")
    bottom.plot(span, forecast - truth, color=_ORANGE, linewidth=1.4)
    bottom.axhline(0, color=_GREY, linewidth=0.8)
    top.set_ylabel(unit)
    bottom.set_ylabel("forecast - truth")
    label_times(bottom, times, counted="row", most=12)
    top.legend(frameon=False, fontsize=8)
    return figure


def label_times(axis: Axes, times: Any, counted: str = "time step", most: int = 7) -> None:
    """Name the time axis, and write at most so many dates, no longer than it takes to tell them apart."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axis.set_xlabel(counted if times is None else "time")
    if times is not None and np.issubdtype(np.asarray(times).dtype, np.datetime64):
        locator = AutoDateLocator(minticks=most // 2, maxticks=most)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _short(value: float) -> str:
    """Return two digits of a number, and all that stand before its point."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.2g}"


def _rmse(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.asarray(values) - truth) ** 2)))


def panels(num_panels: int, title: str, panel: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with this many panels, at most three a row and four in a square, each of a size in inches."""
    from matplotlib.figure import Figure

    columns = 2 if num_panels == 4 else min(3, num_panels)
    lines = math.ceil(num_panels / columns)
    figure = Figure(figsize=(panel[0] * columns, panel[1] * lines + 0.4), layout="constrained", dpi=120)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[num_panels:]:
        axis.remove()
    _dress(figure, axes[:num_panels], title)
    return figure, axes[:num_panels]


def _stacked(title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with a tall panel above a flat one, sharing the time axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained", dpi=120)
    axes = list(figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)))
    _dress(figure, axes, title)
    return figure, axes


def _dress(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    figure.suptitle(title, fontsize=12)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
