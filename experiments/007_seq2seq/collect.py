"""Write results.csv and the picture of exact match by length from finished runs.

python experiments/007_seq2seq/collect.py RUN_DIR...
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import yaml

from rnnlab.analysis.alignment import score_by_length

HERE = Path(__file__).parent
METRICS = ("exact_match", "unseen_accuracy", "wer", "per", "symbol_error")


def main(run_dirs: list[Path]) -> None:
    rows, curves = [], {}
    for run_dir in run_dirs:
        config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
        metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
        row = {"run": config["name"], "precision": config["trainer"].get("precision", "32-true")}
        for split in ("val", "test"):
            row |= {f"{split}_{name}": metrics.get(f"{split}/{name}", "") for name in METRICS}
        row |= {"epochs": metrics["epochs"], "fit_s": metrics["time/fit_s"]}
        row["target_symbols_per_s"] = metrics.get("time/target symbols_per_s", "")
        rows.append(row)
        if config["name"].startswith("seq2seq/g2p"):
            with (run_dir / "lengths.csv").open(newline="", encoding="utf-8") as file:
                counts = {int(r["length"]): (float(r["right"]), float(r["total"])) for r in csv.DictReader(file)}
            epochs = config["trainer"]["max_epochs"]
            kind = "transformer" if "Transformer" in config["model"]["_target_"] else config["model"]["attention"]
            curves[f"{kind}, {epochs} epochs"] = counts
    with (HERE / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if curves:
        title = "Pronunciations that are right, by length of the word (CMUdict, test)"
        score_by_length(curves, title).savefig(HERE / "by_length.png", dpi=120)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
