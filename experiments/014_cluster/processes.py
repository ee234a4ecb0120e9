"""How much faster two processes train one run than one, and what more of them would give, estimated.

Usage: OMP_NUM_THREADS unset, python experiments/014_cluster/processes.py [OUT.csv], from the root of the clone.

Arms are `rnnlab train` with the same rows a step: one process with one thread, one with two, two with one each; they
take turns, and a time is the median of all epochs but each run's first. For more processes: a step is the computation
of one process, as one alone takes it for its share of rows, and the sum of gradients over W of them, whose time is that
of two (what their step takes beyond the computation) times 2 (W - 1) / W, as a ring sends. That is an estimate.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = {  # words, the key of the size of a batch, and its size in one of two processes
    "char_lm": (
        ["experiment=char_lm/stdlib", "data.max_chars=120_000", "data.ngram_order=0", "rnn.hidden_size=128"],
        *("data.batch_size", 16),
    ),
    "tagger": (
        [
            "experiment=pos_tagging/generated",
            "data.num_train=1_500",
            "data.num_val=50",
            "data.num_test=50",
            "rnn.hidden_size=128",
        ],
        *("data.max_tokens", 500),
    ),
}
ARMS = {"one, 1 thread": (1, 1, 2), "one, 2 threads": (1, 2, 2), "two, 1 thread each": (2, 1, 1), "share": (1, 1, 1)}
ROUNDS, EPOCHS = 2, 3


def epoch_times(words: list[str], run_dir: Path) -> tuple[list[float], int]:
    """Train, and return the seconds of each epoch but the first, and the steps of an epoch."""
    always = ["logger=csv", "callbacks=none", "test=false", "trainer.accelerator=cpu", f"trainer.max_epochs={EPOCHS}"]
    always += ["+trainer.limit_val_batches=1"]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "rnnlab", "train", f"run_dir={run_dir}", *always, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row["time/epoch_s"]) for row in rows[1:]], int(rows[0]["step"])


def main(out: Path) -> None:
    rows = []
    for task, (words, key, size) in TASKS.items():
        times: dict[str, list[float]] = {arm: [] for arm in ARMS}
        steps: dict[str, int] = {}
        loads = []
        with tempfile.TemporaryDirectory() as folder:
            for number in range(ROUNDS):
                for arm, (processes, threads, shares) in ARMS.items():
                    given = [f"trainer.devices={processes}", f"threads={threads}", f"{key}={size * shares}"]
                    loads.append(os.getloadavg()[0])
                    found, steps[arm] = epoch_times([*words, *given], Path(folder) / f"{arm}_{number}")
                    times[arm] += found
        load = round(statistics.mean(loads), 1)
        step_ms = {arm: 1000 * statistics.median(each) / steps[arm] for arm, each in times.items()}
        for arm in list(ARMS)[:3]:
            ratio = round(step_ms["one, 1 thread"] / step_ms[arm], 2)
            rows.append([task, "measured", arm, round(step_ms[arm], 2), ratio, load])
        alone, sums = step_ms["share"], max(0.0, step_ms["two, 1 thread each"] - step_ms["share"])
        for world in (2, 4, 8, 16):
            step = alone + sums * 2 * (world - 1) / world
            rows.append([task, "estimated", f"{world} processes", round(step, 2), round(alone / step, 2), load])
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "kind", "what", "step_ms", "speed_up_or_efficiency", "load_average"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".csv")))
