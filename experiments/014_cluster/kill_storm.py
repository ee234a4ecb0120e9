"""A sweep of 12 tiny jobs on 2 workers, killed 20 times at random moments, its launcher or a job, and begun again.

`python experiments/014_cluster/kill_storm.py FOLDER > experiments/014_cluster/kill_storm.csv`; the same sweep
undisturbed goes first. A row a job: how often it was started, whether its weights, its best weights, its table and
its final numbers (times aside) are those of the undisturbed one; the exit code is 1 if any is not, or a job is lost
or was finished twice.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from rnnlab.sweeps.ledger import Story, read

WORDS = [
    *("-m", "logger=csv", "callbacks=none", "schedule=constant", "data.digits=2", "data.num_questions=400"),
    *("data.num_test=50", "data.batch_size=64", "rnn=lstm,gru", "rnn.hidden_size=8,16", "seed=0:3"),
    *("trainer.max_epochs=150", "trainer.accelerator=cpu", "max_jobs=2", "threads=1"),
]
KILLS = 20


def main(folder: Path, seed: int = 0) -> int:
    subprocess.run(command(folder / "calm"), check=True, stdout=subprocess.DEVNULL)
    storm(folder / "storm", random.Random(seed))
    story, rows = Story(folder / "storm"), []
    ends = [line["job"] for line in read(folder / "storm")[0] if line["state"] == "finished"]
    for job in story.jobs:
        calm, stormy = folder / "calm" / job, folder / "storm" / job
        rows.append(
            {
                "job": job,
                "started": story.attempts[job],
                "finished": ends.count(job),
                "last_equal": equal(calm, stormy, "last"),
                "best_equal": equal(calm, stormy, "best"),
                "table_equal": table(calm) == table(stormy),
                "metrics_equal": numbers(calm) == numbers(stormy),
            }
        )
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return int(any(row["finished"] != 1 or not all(list(row.values())[3:]) for row in rows) or len(rows) != 12)


def command(sweep_dir: Path) -> list[str]:
    return [sys.executable, "-m", "rnnlab", "train", *WORDS, f"sweep_dir={sweep_dir}"]


def storm(sweep_dir: Path, chance: random.Random) -> None:
    """Run the sweep, kill its launcher or one of its jobs 20 times, and begin it again until it is finished."""
    kills = 0
    while kills < KILLS:
        launcher = subprocess.Popen(command(sweep_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while launcher.poll() is None and kills < KILLS:
            if chance.random() < 0.2:  # at any moment, while all is being imported most likely
                victims = [launcher.pid]
            else:  # while jobs are at work
                while not (victims := running(sweep_dir)) and launcher.poll() is None:
                    time.sleep(0.05)
                victims = [launcher.pid] if chance.random() < 0.4 else victims
            time.sleep(chance.uniform(0.0, 3.0))
            victim = chance.choice(victims or [launcher.pid])
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended by itself
            kills += 1
            who = "launcher" if victim == launcher.pid else "job"
            print(f"kill {kills}: {who} {time.monotonic() - began:.1f} s after the start", file=sys.stderr)
        launcher.wait()
        if launcher.returncode == 0 and kills < KILLS:
            raise SystemExit(f"the sweep was over after {kills} kills: it is too short")
    while subprocess.run(command(sweep_dir), stdout=subprocess.DEVNULL).returncode:
        pass


def running(sweep_dir: Path) -> list[int]:
    """Return the processes of jobs that are at work."""
    told = [line["pid"] for line in Story(sweep_dir).jobs.values() if line["state"] in ("started", "epoch")]
    return [pid for pid in told if Path(f"/proc/{pid}").exists()]


def equal(calm: Path, stormy: Path, which: str) -> bool:
    first, second = (
        torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"] for run in (calm, stormy)
    )
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: cell for key, cell in row.items() if not key.startswith("time/")} for row in csv.DictReader(file)]


def numbers(run: Path) -> dict[str, float]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if not key.startswith(("time/", "memory/"))}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
