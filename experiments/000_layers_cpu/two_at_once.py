"""What waiting threads cost: one run, and two at once, with threads that spin and threads that sleep.

`python experiments/000_layers_cpu/two_at_once.py [OUT.csv]`, three minutes. Each run trains the addition GRU on 6,000
questions; an epoch's seconds are the median of those after the first. Arms are taken in turn, twice.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = [
    *(sys.executable, "-m", "rnnlab", "train", "experiment=addition/gru", "logger=csv", "callbacks=none"),
    *("data.num_questions=6000", "data.num_test=500", "trainer.max_epochs=6", "+trainer.max_time=00:00:02:00"),
]
# As libgomp does by itself where nobody says anything, and as rnnlab has it unless somebody does.
WAITING = {"spin": {"GOMP_SPINCOUNT": "300000"}, "sleep": {}}


def start(folder: Path, waiting: str) -> subprocess.Popen[bytes]:
    rest = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    return subprocess.Popen([*COMMAND, f"run_dir={folder}"], env=rest | WAITING[waiting], stdout=subprocess.DEVNULL)


def seconds(folder: Path) -> float:
    """Return the median of an epoch's seconds in a run, the first, which compiles, left out."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        epochs = [float(row["time/epoch_s"]) for row in csv.DictReader(file) if row.get("time/epoch_s")]
    return statistics.median(epochs[1:] or epochs)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):
            for waiting in WAITING:
                for count in (1, 2):
                    runs = [Path(folder) / f"{turn}_{waiting}_{count}_{k}" for k in range(count)]
                    for process in [start(run, waiting) for run in runs]:
                        process.wait()
                    rows.append((waiting, count, *(f"{seconds(run):.3f}" for run in runs)))
                    print(*rows[-1], sep=",", flush=True)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("waiting threads", "runs at once", "s/epoch", "s/epoch of the other"), *rows])


if __name__ == "__main__":
    main()
