"""Gather and draw the best validation metric at each sparsity, input and recurrent weights apart, a panel a task.

python experiments/013_pruning/figure.py pruning.csv pruning.png runs/013_pruning/*

Rows of `none` are of the run in which nothing is pruned: its best until the epoch at which the others end an amount.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from itertools import accumulate
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Row = tuple[str, str, str, float, str, float]  # task, weights, seed, sparsity, metric, its best


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def gather(run_dirs: list[Path]) -> list[Row]:
    """Return a row for each amount of each finished run."""
    names = {run_dir: run_dir.name.replace("-seed", "_").rsplit("_", 2) for run_dir in run_dirs}
    finished = [run_dir for run_dir in run_dirs if (run_dir / "metrics.json").exists()]
    rows: list[Row] = []
    ends: dict[str, tuple[str, list[tuple[float, int]]]] = {}  # of each task: metric, amounts and their last epochs
    for run_dir in (run_dir for run_dir in finished if (run_dir / "pruning.csv").exists()):
        task, which, seed = names[run_dir]
        levels = read(run_dir / "pruning.csv")
        (best,) = (key for key in levels[0] if key.endswith("_best"))
        metric = best.removesuffix("_best")
        amounts = [float(level["amount"]) for level in levels]
        ends[task] = metric, list(zip(amounts, accumulate(int(level["epochs"]) for level in levels), strict=True))
        rows += [
            (task, which, seed, amount, metric, float(level[best]))
            for amount, level in zip(amounts, levels, strict=True)
        ]
    for run_dir in (run_dir for run_dir in finished if not (run_dir / "pruning.csv").exists()):
        task, which, seed = names[run_dir]
        metric, last = ends[task]
        values = [float(row[metric]) for row in read(run_dir / "metrics.csv")]
        better = min if metric.endswith("loss") else max
        rows += [(task, which, seed, amount, metric, better(values[:end])) for amount, end in last]
    return rows


def draw(rows: list[Row], picture: Path) -> None:
    lines: dict[tuple[str, str], dict[tuple[str, str], list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    kinds = {(task, which) for task, which, *_ in rows}
    for task, which, seed, amount, metric, best in rows:
        if sum(task == other for other, _ in kinds) == 1:
            continue  # with nothing to compare it with
        lines[task, metric][which, seed].append((amount, best))
    figure, axes = plt.subplots(1, len(lines), figsize=(4.8 * len(lines), 3.8), layout="constrained", squeeze=False)
    labels = {"none": "nothing pruned, as many epochs"}
    for axis, ((task, metric), by_weights) in zip(axes[0], lines.items(), strict=True):
        colours: dict[str, str] = {}
        for (which, _), points in by_weights.items():
            label = None if which in colours else labels.get(which, which)
            colour = colours.setdefault(which, "0.5" if which == "none" else f"C{len(colours)}")
            style = "--" if which == "none" else "-"
            axis.plot(*zip(*points, strict=True), style, marker="o", markersize=4, color=colour, label=label)
        axis.set(title=task, xlabel="share of zeros in the pruned weights", ylabel=metric)
        axis.legend(frameon=False, fontsize=9)
    figure.savefig(picture, dpi=110)


def main(table: Path, picture: Path, run_dirs: list[Path]) -> None:
    rows = gather(run_dirs)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "weights", "seed", "sparsity", "metric", "best"])
        writer.writerows(rows)
    draw(rows, picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
