"""Draw right answers to test sources of each length, a line for each kind of model, seeds together.

python experiments/007_seq2seq/by_length.py by_length_dates.png runs/007_seq2seq/dates*
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import yaml

from rnnlab.analysis.alignment import score_by_length


def main(target: Path, run_dirs: list[Path]) -> None:
    curves: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    data = ""
    for run_dir in run_dirs:
        config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
        data = config["data"]["_target_"].rpartition(".")[2]
        counts = curves[name_of(config["model"])]
        with (run_dir / "lengths.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                right, total = counts.get(int(row["length"]), (0.0, 0.0))
                counts[int(row["length"])] = (right + float(row["right"]), total + float(row["total"]))
    score_by_length(curves, f"Exact match by length of the source ({data}, test)").savefig(target, dpi=120)


def name_of(model: dict[str, str]) -> str:
    if model["_target_"].endswith("TransformerSeq2Seq"):
        return "transformer"
    return "last state alone" if model["attention"] == "none" else f"attention {model['attention']}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
