"""How long Tab waits: `python experiments/014_cluster/completion_speed.py OUT.csv`.

Asks for words as a shell does, start of Python included, twenty times each; median and greatest on the clock, and the
median of what it took of its core, which others may have shared.
"""

import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

from report_speed import cpu_of_children

LINES = (
    "rnnlab tr",
    "rnnlab train experiment=forecasting/",
    "rnnlab train rnn=gru rnn.h",
    "rnnlab report experiments/",
)


def main(target: Path) -> None:
    rows = []
    for line in LINES:
        seconds, cpu_seconds = [], []
        for _ in range(20):
            start, cpu_start = time.perf_counter(), cpu_of_children()
            command = [sys.executable, "-m", "rnnlab", "completion", "answer", line]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(cpu_of_children() - cpu_start)
        times = [statistics.median(seconds), max(seconds), statistics.median(cpu_seconds)]
        names = ("median_s", "max_s", "median_cpu_s")
        rows.append(
            {"line": line, "words": answer.count("\n"), **dict(zip(names, (f"{x:.3f}" for x in times), strict=True))}
        )
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
