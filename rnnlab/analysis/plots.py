"""Pictures of runs: pure functions from numbers to matplotlib figures.

Figures are made without pyplot, so nothing is kept alive, no backend is chosen and no display is needed; matplotlib is
imported on first use. Letters: N series, T known steps, K forecast steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart under all common forms of colour blindness.
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C8C8C"
_SPLIT_COLOURS = {"train": _BLUE, "val": _ORANGE, "test": _GREEN}
_BASELINE_COLOURS = (_GREY, _GREEN, _PURPLE)

_LABELS = {
    "loss": "loss",
    "exact_match": "exact match (share of answers)",
    "char_accuracy": "character accuracy (padding counted)",
    "accuracy": "accuracy (share of tokens)",
    "accuracy_unseen": "accuracy on words not in training",
    "sentence_accuracy": "sentences without a wrong tag",
    "macro_f1": "F1, mean over tags",
    "mse": "mean squared error, all forecasts",
    "mse_last": "mean squared error, last step",
    "rmse": "RMSE (units of the series)",
    "mae": "MAE (units of the series)",
    "mape": "MAPE (%)",
}
# Shares that lie close together near 1: a logarithmic axis would only make them hard to read.
_SHARES = ("accuracy", "accuracy_unseen", "sentence_accuracy", "macro_f1")


def learning_curves(
    rows: Sequence[Mapping[str, Any]], baselines: Mapping[str, float] | None = None, title: str = "Learning curves"
) -> Figure:
    """Draw each metric over the epochs, one panel a metric, one line a split.

    Args:
        rows: one mapping an epoch with 'epoch' and '<split>/<metric>' entries; texts are read as numbers, empty or
            missing entries are left out, and so are metrics without a split in train, val, test.
        baselines: numbers to beat, drawn as dashed lines: 'hmm_accuracy' into the panel of 'accuracy', and names
            without an underscore into that of 'mse_last'. Others, as 'naive_test', belong to other splits or metrics.
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
    if metrics.get("mse") == metrics.get("mse_last"):
        metrics.pop("mse", None)
    names = [name for name in _LABELS if name in metrics]
    figure, axes = _grid(len(names), title, panel=(5.2, 3.8))
    for axis, name in zip(axes, names, strict=True):
        for split, (epochs, values) in metrics[name].items():
            axis.plot(epochs, values, color=_SPLIT_COLOURS[split], marker="o", markersize=3, label=split)
        for (label, value), colour in zip(_baselines_of(name, baselines or {}), _BASELINE_COLOURS, strict=False):
            axis.axhline(value, color=colour, linestyle="--", linewidth=1.2, label=f"{label} {value:.4g}")
        if name in ("exact_match", "char_accuracy"):
            axis.set_ylim(-0.02, 1.02)
        elif name not in _SHARES and all(value > 0 for _, values in metrics[name].values() for value in values):
            axis.set_yscale("log")
        axis.set_title(_LABELS[name], fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_ylabel(name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, fontsize=8)
    return figure


def _baselines_of(metric: str, baselines: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return (label, value) of the baselines that compare with the validation curve of a metric."""
    names = {key.removeprefix("baseline/"): value for key, value in baselines.items()}
    if metric == "mse_last":
        return [(name, value) for name, value in names.items() if "_" not in name]
    if not metric.startswith("accuracy"):
        return []
    ending = f"_{metric}"
    return [(name.removesuffix(ending), value) for name, value in names.items() if name.endswith(ending)]


def forecast(
    history: np.ndarray,
    truth: np.ndarray,
    forecast: np.ndarray,
    baseline: np.ndarray | None = None,
    title: str = "Forecasts of validation series",
) -> Figure:
    """Draw a few series with what followed and what was forecast, one panel a series.

    Args:
        history: known values (N, T).
        truth: what followed (N, K).
        forecast: the model's forecasts (N, K).
        baseline: another forecast to compare with (N, K), drawn in grey.
        title: says what the figure shows.

    Raises:
        ValueError: shapes do not fit together.
    """
    history, truth, forecast = np.asarray(history), np.asarray(truth), np.asarray(forecast)
    others = [] if baseline is None else [np.asarray(baseline)]
    if history.ndim != 2 or any(values.shape != truth.shape for values in (forecast, *others)):
        shapes = ", ".join(str(values.shape) for values in (history, truth, forecast, *others))
        raise ValueError(f"expected history (N, T) and truth, forecast, baseline (N, K), got shapes {shapes}")
    known = np.arange(history.shape[1])
    future = history.shape[1] + np.arange(truth.shape[1])
    figure, axes = _grid(len(history), title, panel=(4.2, 2.7))
    for index, axis in enumerate(axes):
        axis.plot(known, history[index], color=_BLUE, linewidth=1.2, label="known")
        axis.axvline(history.shape[1] - 0.5, color=_GREY, linewidth=0.8, linestyle=":")
        for values in others:
            axis.plot(future, values[index], "s", color=_GREY, markersize=4, label="naive")
        axis.plot(future, truth[index], "o", color=_BLUE, markersize=5, markerfacecolor="white", label="truth")
        axis.plot(future, forecast[index], "x", color=_ORANGE, markersize=6, markeredgewidth=1.8, label="forecast")
        error = float(np.mean((forecast[index] - truth[index]) ** 2))
        axis.set_title(f"series {index + 1}: MSE {error:.2g}", fontsize=9)
        axis.set_xlabel("time step")
        axis.set_ylabel("value")
    axes[0].legend(frameon=False, fontsize=8)
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
        baselines: other forecasts (N,) by name.
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
    top.plot(time, series, color=_BLUE, linewidth=1.2, label="series")
    top.axvline(time[first_target], color=_GREY, linewidth=0.8, linestyle=":")
    for (name, values), colour in zip((baselines or {}).items(), _BASELINE_COLOURS, strict=False):
        top.plot(
            span, values, color=colour, linewidth=1, linestyle="--", label=f"{name}, RMSE {_rmse(values, truth):.4g}"
        )
        bottom.plot(span, np.asarray(values) - truth, color=colour, linewidth=1, linestyle="--")
    top.plot(span, forecast, color=_ORANGE, linewidth=1.4, label=f"forecast, RMSE {_rmse(forecast, truth):.4g}")
    bottom.plot(span, forecast - truth, color=_ORANGE, linewidth=1.4)
    bottom.axhline(0, color=_GREY, linewidth=0.8)
    top.set_ylabel(unit)
    bottom.set_ylabel("error")
    bottom.set_xlabel("row" if times is None else "time")
    top.legend(frameon=False, fontsize=8)
    return figure


def _rmse(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.asarray(values) - truth) ** 2)))


def _grid(num_panels: int, title: str, panel: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with this many panels, at most three a row, each of a size in inches."""
    from matplotlib.figure import Figure

    columns = min(3, num_panels)
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
