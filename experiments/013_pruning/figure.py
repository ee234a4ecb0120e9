"""Draw the best validation metric at each sparsity, input and recurrent weights apart, a panel a task.

python experiments/013_pruning/figure.py pruning.csv pruning.png runs/013_pruning/*
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(table: Path, picture: Path, run_dirs: list[Path]) -> None:
    rows: list[tuple[str, str, str, float, str, float]] = []
    for run_dir in run_dirs:
        if not (run_dir / "metrics.json").exists():
            continue
        name, _, seed = run_dir.name.rpartition("-seed")
        task, _, which = name.rpartition("_")
        with (run_dir / "pruning.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                (best,) = (key for key in row if key.endswith("_best"))
                rows.append((task, which, seed, float(row["amount"]), best.removesuffix("_best"), float(row[best])))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "weights", "seed", "sparsity", "metric", "best"])
        writer.writerows(rows)
    lines: dict[tuple[str, str], dict[tuple[str, str], list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for task, which, seed, amount, metric, best in rows:
        lines[task, metric][which, seed].append((amount, best))
    figure, axes = plt.subplots(1, len(lines), figsize=(4.4 * len(lines), 3.6), layout="constrained", squeeze=False)
    for axis, ((task, metric), by_weights) in zip(axes[0], lines.items(), strict=True):
        colours: dict[str, str] = {}
        for (which, _), points in by_weights.items():
            label = None if which in colours else which
            axis.plot(
                *zip(*points, strict=True), marker="o", color=colours.setdefault(which, f"C{len(colours)}"), label=label
            )
        axis.set(title=task, xlabel="share of zeros in the pruned weights", ylabel=metric)
        axis.legend(frameon=False, fontsize=9)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
