"""What a sweep of 100 trivial jobs costs over the jobs' own time, on 2 cores.

`python experiments/014_cluster/overhead.py FOLDER > experiments/014_cluster/overhead.csv`. The sweep, from its
command to its end: start of the launcher, imports, ledger, a process for each job. Beside it the jobs' own seconds as
they tell the ledger, from composing the configuration to the final numbers, shared out to 2 workers; and a lower
bound that no sweep of processes reaches: two processes that have imported everything and composed the configuration
train 50 of the jobs each, one after the other, so that what is done once in a process (compiled loops are loaded,
Hydra looks for its plugins) is done twice and not a hundred times. Rounds in turns.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

from rnnlab.sweeps.ledger import read

ROUNDS, JOBS = 2, 100
WORDS = [
    *("logger=csv", "callbacks=none", "data.digits=3", "data.num_questions=5000", "data.num_test=500"),
    *("data.batch_size=128", "rnn.hidden_size=32", "trainer.max_epochs=6", "trainer.accelerator=cpu", "threads=1"),
]
WARM = """
import sys, time
from rnnlab.cli import fit
from rnnlab.cli.compose import compose
folder, first, *words = sys.argv[1:]
config, _ = compose(words)
start = time.perf_counter()
for seed in range(int(first), int(first) + {count}):
    run_dir = f"{{folder}}/{{seed}}"
    data = {{**config["data"], "seed": seed}}
    fit.train({{**config, "seed": seed, "data": data, "paths": {{**config["paths"], "run_dir": run_dir}}}}, words)
print("seconds", time.perf_counter() - start, file=sys.stderr)
"""


def main(folder: Path) -> None:
    rows = []
    for number in range(ROUNDS):
        warm = warm_time(folder / f"warm{number}")
        sweep_dir = folder / f"sweep{number}"
        command = [sys.executable, "-m", "rnnlab", "train", "-m", *WORDS, f"seed=0:{JOBS}", "max_jobs=2"]
        start = time.perf_counter()
        subprocess.run([*command, f"sweep_dir={sweep_dir}"], check=True, stdout=subprocess.DEVNULL)
        swept = time.perf_counter() - start
        jobs = sum(line["seconds"] for line in read(sweep_dir)[0] if line["state"] == "finished") / 2
        row = {
            "round": number,
            "jobs": JOBS,
            "sweep_s": f"{swept:.1f}",
            "jobs_s": f"{jobs:.1f}",
            "warm_s": f"{warm:.1f}",
        }
        over = {"over_jobs": f"{swept / jobs - 1:.3f}", "over_warm": f"{swept / warm - 1:.3f}"}
        rows.append({**row, **over})
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def warm_time(folder: Path) -> float:
    """Return the seconds of the slower of two processes that train half of the jobs each."""
    code, count = WARM.format(count=JOBS // 2), JOBS // 2
    arguments = [[sys.executable, "-c", code, str(folder), str(first), *WORDS] for first in (0, count)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(words, **streams) for words in arguments]
    outputs = [process.communicate()[1] for process in both]
    return max(float(output.rpartition("seconds ")[2]) for output in outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
