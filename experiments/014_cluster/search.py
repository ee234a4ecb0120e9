"""Write the trials of searches as one table: python experiments/014_cluster/search.py OUT.csv SWEEP_DIR..."""

import csv
import sys
from pathlib import Path

import yaml

from rnnlab.sweeps import study


def main(out: Path, sweep_dirs: list[Path]) -> None:
    rows = []
    for sweep_dir in sweep_dirs:
        search = yaml.safe_load((sweep_dir / "sweep.yaml").read_text(encoding="utf-8"))["search"]
        for trial in study.tried(study.open_study(sweep_dir, search)):
            chosen = dict(word.split("=", 1) for word in trial.words)
            of_trial = {"seed": search["seed"], "trial": trial.number, "state": trial.state}
            rows.append({**of_trial, search["metric"]: trial.value, **chosen})
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
