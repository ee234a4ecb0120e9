"""Draw one metric of several runs over epochs: `python experiments/compare.py METRIC OUT.png RUN_DIR...`.

Runs that are named NAME-seedN, as the run.sh of experiments name theirs, share a colour, so that seeds show the spread;
so do others of one experiment.
"""

import csv
import sys
from pathlib import Path

import matplotlib
import yaml

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(metric: str, target: Path, run_dirs: list[Path]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    colours: dict[str, str] = {}
    for run_dir in run_dirs:
        experiment = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["name"]
        name = run_dir.name.rpartition("-seed")[0] or experiment
        with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
            values = [float(row[metric]) for row in csv.DictReader(file)]
        label = None if name in colours else name
        colour = colours.setdefault(name, f"C{len(colours)}")
        axes.plot(range(1, len(values) + 1), values, color=colour, label=label, linewidth=1.4)
    if "mse" in metric or metric.endswith("er"):  # errors that fall by powers of ten
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel=metric, title=f"{metric} by epoch, one line a seed")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
