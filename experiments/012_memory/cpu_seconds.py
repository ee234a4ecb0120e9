"""What binary addition costs a core, whoever else is on it: processor seconds of training and of the whole command.

python experiments/012_memory/cpu_seconds.py cpu_seconds.csv; after a run of each layer that leaves compiled code.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from typing import Any

import lightning.pytorch as pl

from rnnlab.cli.main import main as rnnlab

LAYERS = {"rnn": [], "gru": [], "lstm": ["optim.lr=0.1"]}


def main(path: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file, tempfile.TemporaryDirectory() as folder:
        fit, seconds = pl.Trainer.fit, []

        def timed(*arguments: Any, **options: Any) -> None:
            start = time.process_time()
            fit(*arguments, **options)
            seconds.append(time.process_time() - start)

        pl.Trainer.fit = timed
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", "turn", "training_cpu_s", "command_cpu_s"])
        for turn in (1, 2):
            for layer, words in LAYERS.items():
                own = [f"rnn={layer}", *words, "logger=csv", f"run_dir={folder}/{layer}{turn}"]
                start = time.process_time()
                rnnlab(["train", "experiment=memory/binary_addition", *own])
                whole = time.process_time() - start
                writer.writerow([layer, turn, f"{seconds[-1]:.1f}", f"{whole:.1f}"])
                file.flush()


if __name__ == "__main__":
    main(sys.argv[1])
