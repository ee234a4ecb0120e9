"""Draw by_length.png: right answers to words of each length, a line for each run.

python experiments/007_seq2seq/by_length.py runs/007_seq2seq/g2p*_e4-seed0
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import yaml

from rnnlab.analysis.alignment import score_by_length


def main(run_dirs: list[Path]) -> None:
    curves = {}
    for run_dir in run_dirs:
        config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
        with (run_dir / "lengths.csv").open(newline="", encoding="utf-8") as file:
            counts = {int(row["length"]): (float(row["right"]), float(row["total"])) for row in csv.DictReader(file)}
        curves[name_of(config["model"])] = counts
    title = "Pronunciations that are right, by length of the word (CMUdict, test)"
    score_by_length(curves, title).savefig(Path(__file__).parent / "by_length.png", dpi=120)


def name_of(model: dict[str, str]) -> str:
    if model["_target_"].endswith("TransformerSeq2Seq"):
        return "transformer"
    return "last state alone" if model["attention"] == "none" else f"attention {model['attention']}"


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
