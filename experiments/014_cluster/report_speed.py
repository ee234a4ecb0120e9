"""How long `rnnlab report` takes of a large sweep: `python experiments/014_cluster/report_speed.py OUT.csv [JOBS]`.

Makes a sweep directory of JOBS jobs (10,000) with five lines each in the ledger, and a run directory with
configuration and final numbers for each; then times the whole command, start of Python included, with these files in
the system's cache: the table, table and picture, and the table of a run a line, which has to read every configuration.
Five times each; beside the time on the clock, what it took of its one core, which others may have shared.
"""

import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

SEEDS = 5
OVERRIDES = ("rnn", "optim.lr", "rnn.hidden_size", "seed")
BASE = {
    "data": {"_target_": "rnnlab.data.AdditionData", "digits": 3, "num_questions": 50_000, "num_test": 5_000},
    "model": {"_target_": "rnnlab.models.Adder", "_partial_": True},
    "rnn": {"_target_": "rnnlab.nn.LSTM", "_partial_": True, "hidden_size": 128, "num_layers": 1},
    "trainer": {"max_epochs": 30, "accelerator": "cpu", "devices": 1, "precision": "32-true"},
    "provenance": {"id": "00000000", "git_commit": None, "git_dirty": None, "versions": {"torch": "2.13.0"}},
    "name": "addition/lstm",
}


def make_sweep(folder: Path, num_jobs: int) -> None:
    """Write the ledger and the run directories of a sweep that is finished but for a few jobs."""
    lines = []
    who = {"time": "2026-01-01T00:00:00.000+00:00", "host": "node01", "pid": 4242}
    for number in range(num_jobs):
        configuration, seed = divmod(number, SEEDS)
        values = (("lstm", "gru")[configuration % 2], 10.0 ** -(2 + configuration % 3), configuration, seed)
        overrides = [f"{key}={value}" for key, value in zip(OVERRIDES, values, strict=True)]
        job = ",".join(overrides)
        states = [("queued", {"overrides": overrides}), ("started", {})]
        states += [("epoch", {"epoch": epoch, "epochs": 2}) for epoch in (1, 2)]
        is_broken = number % 1000 == 999
        states.append(("failed", {"error": "RuntimeError: broken", "code": 1}) if is_broken else ("finished", {}))
        lines += [json.dumps({**who, "job": job, "state": state, **more}) for state, more in states]
        run_dir = folder / job
        run_dir.mkdir()
        config = {**BASE, "seed": seed, "provenance": {**BASE["provenance"], "overrides": overrides}}
        (run_dir / "config.yaml").write_text(yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False))
        if not is_broken:
            metrics = {
                f"{part}/{name}": (number % 97) / 97 for part in ("val", "test") for name in ("loss", "exact_match")
            }
            numbers = {**metrics, "baseline/copy/test/exact_match": 0.01, "time/fit_s": 12.5, "epochs": 2}
            (run_dir / "metrics.json").write_text(json.dumps(numbers, indent=2))
    (folder / "ledger.jsonl").write_text("\n".join(lines) + "\n")


def cpu_of_children() -> float:
    """Return what finished child processes took of a core, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(target: Path, num_jobs: int) -> None:
    commands = {
        "table": ["picture=none"],
        "table and picture": [],
        "a row a run": ["rows=runs"],
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_sweep(Path(folder), num_jobs)
        for name, words in commands.items():
            seconds, cpu_seconds = [], []
            for _ in range(5):
                start, cpu_start = time.perf_counter(), cpu_of_children()
                command = [sys.executable, "-m", "rnnlab", "report", folder, "format=csv", *words]
                result = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds.append(time.perf_counter() - start)
                cpu_seconds.append(cpu_of_children() - cpu_start)
            rows.append(
                {
                    "what": name,
                    "jobs": num_jobs,
                    "ledger_lines": 5 * num_jobs,
                    "rows": result.stdout.count("\n") - 1,
                    "median_s": round(statistics.median(seconds), 2),
                    "max_s": round(max(seconds), 2),
                    "median_cpu_s": round(statistics.median(cpu_seconds), 2),
                }
            )
            print(rows[-1])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
