"""Gather right words by length of runs on formal languages, as a table and a picture.

python experiments/012_memory/languages.py languages.csv languages.png runs/012_memory/languages_*
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib
import yaml

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = ("language", "layer", "seed", "longest", "right", "total")


def main(table: Path, picture: Path, run_dirs: list[Path]) -> None:
    rows = [row for run_dir in run_dirs if (run_dir / "metrics.json").exists() for row in rows_of(run_dir)]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    curves: dict[str, dict[tuple[str, int], list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for language, layer, seed, longest, right, total in rows:
        curves[language][layer, seed].append((longest, right / total))
    figure, axes = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 3.4), sharey=True, layout="constrained")
    for axis, (language, by_layer) in zip(figure.axes, curves.items(), strict=True):
        layers = list(dict.fromkeys(layer for layer, _ in by_layer))
        for (layer, seed), points in by_layer.items():
            style = {"marker": "o", "color": f"C{layers.index(layer)}", "label": None if seed else layer}
            axis.plot(*zip(*points, strict=True), linewidth=1.4, alpha=0.7, **style)
        axis.set(title=language, xlabel="steps, at most", xscale="log", ylim=(-0.03, 1.03))
        bounds = sorted({longest for points in by_layer.values() for longest, _ in points})
        axis.set_xticks(bounds, map(str, bounds))
        axis.minorticks_off()
    figure.axes[0].set_ylabel("words right at every step")
    figure.axes[-1].legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=110)


def rows_of(run_dir: Path) -> list[tuple[str, str, int, int, int, int]]:
    config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    language, layer = run_dir.name.rpartition("-seed")[0].removeprefix("languages_").split("_", 1)
    with (run_dir / "lengths.csv").open(newline="", encoding="utf-8") as file:
        return [
            (language, layer, config["seed"], int(row["length"]), int(row["right"]), int(row["total"]))
            for row in csv.DictReader(file)
        ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
