"""Label error of runs of ctc/digits and seq2seq/digits by the number of digits, more than there were in training too.

cd runs/008_ctc_speech && python ../../experiments/008_ctc_speech/longer.py longer.csv digits-seed0 attention-seed0

A run knows its training part, which other lengths would draw anew: the strings are those of a module of their own, of
the same test recordings.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from torchmetrics.functional.text import word_error_rate

from rnnlab.cli.build import load
from rnnlab.data import DigitsData

LENGTHS = ((1, 7), (8, 10), (11, 14), (15, 20), (8, 20))  # digits, least and most
NUM_STRINGS = 200


def main(table: Path, run_dirs: list[Path]) -> None:
    rows = []
    for run_dir in run_dirs:
        data, task, _ = load(run_dir, "best", [])
        for least, most in LENGTHS:
            size = {"num_train": 1, "num_val": 1, "num_test": NUM_STRINGS, "min_digits": least, "max_digits": most}
            other = DigitsData(path=data.path, leave_out=data.leave_out, **size)
            other.setup()
            found, truths = [], []
            for batch in other.test_dataloader():
                with torch.inference_mode():
                    found += [best[0].ids for best in task.predict_step(batch)]
                truths += other.references("test", batch.rows)
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
