"""Label error of runs of ctc/digits and seq2seq/digits by the number of digits, more than there were in training too.

cd runs/008_ctc_speech && python ../../experiments/008_ctc_speech/longer.py longer.csv digits-seed0 attention-seed0

As `rnnlab evaluate run_dir=DIR data.min_digits=8 data.max_digits=20 data.num_test=200` measures, and how many digits
are written for each that was said.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from torchmetrics.functional.text import word_error_rate

from rnnlab.cli.build import load

LENGTHS = ((1, 7), (8, 10), (11, 14), (15, 20), (8, 20))  # digits, least and most
NUM_STRINGS = 200


def main(table: Path, run_dirs: list[Path]) -> None:
    rows = []
    for run_dir in run_dirs:
        for least, most in LENGTHS:
            sizes = [f"data.min_digits={least}", f"data.max_digits={most}", f"data.num_test={NUM_STRINGS}"]
            data, task, _ = load(run_dir, "best", [*sizes, "data.num_train=1", "data.num_val=1"])
            data.setup()
            found, truths = [], []
            for batch in data.test_dataloader():
                with torch.inference_mode():
                    found += [best[0].ids for best in task.predict_step(batch)]
                truths += data.references("test", batch.rows)
            texts = [[" ".join(map(str, ids)) for ids in side] for side in (found, truths)]
            heard = sum(map(len, found)) / sum(map(len, truths))
            rows.append([run_dir.name, least, most, round(float(word_error_rate(*texts)), 5), round(heard, 4)])
            print(*rows[-1], flush=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "min_digits", "max_digits", "test/ler", "digits_heard_per_digit"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
