"""Where a run of ctc/digits hears digits, against where they are: spikes of the best path, spans of the best alignment.

python experiments/008_ctc_speech/borders.py runs/008_ctc_speech/digits-seed0
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.cli.build import load

SLACK = 0.03  # seconds, a step of the network
NUM_STRINGS = 1_000


def main(run_dir: Path) -> None:
    data, task, _ = load(run_dir, "best", [])
    data.setup()
    step = task.model.stack * data.frame_seconds
    spikes, middles, late = [], [], []
    for first in range(0, min(NUM_STRINGS, len(data.splits["test"])), 50):
        rows = list(range(first, min(first + 50, len(data.splits["test"]))))
        batch, borders = data.splits["test"][rows], [data.borders["test"][row] for row in rows]
        with torch.inference_mode():
            logits, steps = task.model(batch.features, batch.lengths)
            found = [best[0] for best in task.search(logits, steps, 1, 1)]
            spans = task.spans(logits, steps, data.references("test", rows))
        for row, (best, edges) in enumerate(zip(found, borders, strict=True)):
            if best.ids == data.references("test", [rows[row]])[0]:
                times = (np.array(best.frames) + 0.5) * step
                spikes += _inside(times, edges)
                late += (times - edges[:, 0]).tolist()
            centres = [(span.start + span.end) / 2 * data.frame_seconds for span in spans[row]]
            middles += _inside(np.array(centres), edges)
    print(f"spikes of right strings within their digit (30 ms slack): {np.mean(spikes):.4f} of {len(spikes)}")
    print(f"median time from a digit's start to its spike: {np.median(late):.3f} s")
    print(f"middles of aligned spans within their digit: {np.mean(middles):.4f} of {len(middles)}")


def _inside(times: Any, edges: Any) -> list[bool]:
    return ((times >= edges[:, 0] - SLACK) & (times <= edges[:, 1] + SLACK)).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
