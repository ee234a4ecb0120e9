"""How many of 512-bit sums that nobody had looked at are right: what trained runs make of other corpora.

python experiments/012_memory/fresh_sums.py fresh_sums.csv runs/012_memory/binary_addition_*
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch

from rnnlab.cli.build import load

CORPORA = (1, 2, 3)  # 0 is that of training, and of the tests that settings were chosen in view of


def main(table: Path, run_dirs: list[Path]) -> None:
    torch.set_num_threads(1)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", *(f"right_of_10000_corpus_{seed}" for seed in CORPORA)])
        for run_dir in run_dirs:
            row: list[str | int] = [run_dir.name]
            for seed in CORPORA:
                data, task, _ = load(run_dir, "best", [f"data.corpus_seed={seed}"])
                data.setup()
                with torch.inference_mode():
                    for batch in data.test_dataloader():
                        task.measure(batch, "test")
                row.append(round(10_000 * float(task.report("test")["sentence_accuracy"])))
            writer.writerow(row)
            print(*row, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
