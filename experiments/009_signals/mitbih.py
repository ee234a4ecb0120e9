"""Record 100 of MIT-BIH, of which no network here has seen a sample: what runs and Pan-Tompkins find, and how fast.

python experiments/009_signals/mitbih.py mitbih_100.csv runs/009_signals/{delineation,convolution,onwards_longer}-seed*

Needs the extra ecg, and mitbih/100.{hea,dat,atr} below RNNLAB_DATA.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.baselines import match_beats, pan_tompkins
from rnnlab.cli.build import load
from rnnlab.data.ecg import TOLERANCE
from rnnlab.data.physionet import read_beats
from rnnlab.data.records import find_lead

RECORD = "mitbih/100"


def main(table: Path, run_dirs: list[Path]) -> None:
    torch.set_num_threads(1)
    true, _ = read_beats(RECORD)
    rows: list[dict[str, Any]] = []
    for lead in ("MLII", "V5"):
        opened = find_lead(RECORD, lead, None)
        start = time.process_time()
        found = pan_tompkins(np.concatenate(list(opened.pieces())), opened.rate)
        rows.append(_row("pan_tompkins", lead, found, true, time.process_time() - start))
        for run_dir in run_dirs:
            data, task, _ = load(run_dir, "best", [f"data.lead={lead}"])
            start = time.process_time()
            (stream,) = data.query_batches(data.read_queries(RECORD))
            with torch.inference_mode():
                points = task.predict_step(stream).points
            rows.append(_row(run_dir.name, lead, points[:, 0], true, time.process_time() - start))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(model: str, lead: str, found: np.ndarray, true: np.ndarray, seconds: float) -> dict[str, Any]:
    pairs = match_beats(found, true, TOLERANCE)
    errors = 1000 * (found[pairs[:, 0]] - true[pairs[:, 1]])
    row = {
        "model": model,
        "lead": lead,
        "missed": len(true) - len(pairs),
        "false": len(found) - len(pairs),
        "sensitivity": round(len(pairs) / len(true), 5),
        "precision": round(len(pairs) / len(found), 5),
        "error_ms": round(float(np.abs(errors).mean()), 2),
        "bias_ms": round(float(errors.mean()), 2),
        "cpu_s": round(seconds, 2),
    }
    print(*(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
