"""Where a run of ctc/digits hears digits, against where they are: spikes of the best path, spans of the best alignment.

python experiments/008_ctc_speech/borders.py borders.csv runs/008_ctc_speech/digits-seed0

Digits fill most of a string, and much is inside by chance: `evenly` puts the symbols of a string at equal distances.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.cli.build import load

SLACK = 0.03  # seconds, a step of the network
ROWS_AT_ONCE = 50


def main(table: Path, run_dir: Path) -> None:
    data, task, _ = load(run_dir, "best", [])
    data.setup()
    part, step = data.splits["test"], task.model.stack * data.frame_seconds
    inside: dict[str, list[bool]] = {"spikes of right strings": [], "middles of aligned spans": [], "evenly": []}
    late: list[float] = []
    for first in range(0, len(part), ROWS_AT_ONCE):
        rows = list(range(first, min(first + ROWS_AT_ONCE, len(part))))
        batch, truths = part[rows], data.references("test", rows)
        with torch.inference_mode():
            logits, steps = task.model(batch.features, batch.lengths)
            found = [best[0] for best in task.search(logits, steps, 1, 1)]
            spans = task.spans(logits, steps, truths)
        for row, number in enumerate(rows):
            edges, seconds = data.borders["test"][number], float(batch.lengths[row]) * data.frame_seconds
            if found[row].ids == truths[row]:
                times = (np.array(found[row].frames) + 0.5) * step
                inside["spikes of right strings"] += _inside(times, edges)
                late += (times - edges[:, 0]).tolist()
            middles = np.array([(span.start + span.end) / 2 for span in spans[row]]) * data.frame_seconds
            inside["middles of aligned spans"] += _inside(middles, edges)
            inside["evenly"] += _inside((np.arange(len(edges)) + 0.5) * seconds / len(edges), edges)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "share_within_their_digit", "count", "median_seconds_behind_its_start"])
        for what, some in inside.items():
            behind = round(float(np.median(late)), 4) if what.startswith("spikes") else ""
            writer.writerow([what, round(float(np.mean(some)), 5), len(some), behind])
    print(table.read_text(encoding="utf-8"), end="")


def _inside(times: Any, edges: Any) -> list[bool]:
    return ((times >= edges[:, 0] - SLACK) & (times <= edges[:, 1] + SLACK)).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
