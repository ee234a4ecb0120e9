"""Draw results.csv: `python experiments/003_cells/figure.py`. One dot a seed, cells in the order of their median."""

import csv
import statistics
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import matplotlib.ticker

HERE = Path(__file__).parent
PANELS = (
    ("cells/addition", "test/exact_match", "addition, 3 digits: exact match", "linear", True),
    ("cells/ten_step", "test/mse", "two sines, ten steps ahead: test MSE", "log", False),
)

NAMES = {
    "Elman": "Elman, tanh",
    "CIFG": "LSTM, coupled gates",
    "GatedGRU(reset_after=False": "GRU, reset before",
    "GatedGRU(reset_after=True": "GRU, reset after",
    "GatedLSTM(proj_size=0": "LSTM",
    "GatedLSTM(proj_size=16": "LSTM, projection to 16",
    "IndRNN": "IndRNN, relu",
    "LayerNormGRU": "layer-norm GRU",
    "LayerNormLSTM": "layer-norm LSTM",
    "LayerNormRNN": "layer-norm RNN",
    "MinGRU": "minGRU",
    "MinLSTM": "minLSTM",
    "PeepholeLSTM": "LSTM, peepholes",
    "StateSpace": "state space",
}


def main() -> None:
    with (HERE / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for axis, (experiment, metric, title, scale, is_best_high) in zip(axes, PANELS, strict=True):
        values: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if row["experiment"] == experiment:
                values[label(row["cell"])].append(float(row[metric]))
        names = sorted(values, key=lambda name: statistics.median(values[name]), reverse=not is_best_high)
        for position, name in enumerate(names):
            axis.plot(values[name], [position] * len(values[name]), "o", color="C0", alpha=0.6, markersize=5)
        axis.set_yticks(range(len(names)), names)
        axis.set(title=title, xscale=scale)
        axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        if scale == "log":
            ticks = (0.004, 0.006, 0.01, 0.02, 0.03)
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.grid(alpha=0.3)
    figure.suptitle("one dot a seed, ten epochs; best cell on top")
    (HERE / "figures").mkdir(exist_ok=True)
    figure.savefig(HERE / "figures" / "cells.png", dpi=110)


def label(cell: str) -> str:
    """Return the name that the table in README.md has."""
    name, _, options = cell.rstrip(")").partition("Cell")
    return NAMES.get(f"{name}{options}") or NAMES.get(name, name)


if __name__ == "__main__":
    main()
