"""Print the table of README.md: all cells and starts of cells.sh, the median of their seeds and how far they lie apart.

python experiments/012_memory/cells.py experiments/012_memory/results.csv
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

TASKS = {"short_adding": "test/mse_last", "short_copy": "test/loss", "mnist1d": "test/accuracy"}
STARTS = ("orthogonal", "identity", "chrono")
NAME = re.compile(rf"({'|'.join(TASKS)})_(.+?)(?:_({'|'.join(STARTS)}))?-seed\d+")


def main(results: Path) -> None:
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    cells: list[str] = []
    with results.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if match := NAME.fullmatch(row["run"]):
                task, cell, start = match[1], match[2], match[3] or STARTS[0]
                found[task, cell, start].append(float(row[TASKS[task]]))
                cells.append(cell)
    columns = [(task, start) for task in TASKS for start in STARTS]
    print("| cell |", " | ".join(f"{task}, {start}" for task, start in columns), "|")
    print("| --- |", " | ".join("---" for _ in columns), "|")
    for cell in dict.fromkeys(cells):
        print(f"| {cell} |", " | ".join(told(found[task, cell, start], task) for task, start in columns), "|")


def told(values: Sequence[float], task: str) -> str:
    """Return the median of some runs, and in brackets the least and the most of them."""
    if not values:
        return ""
    digits = 3 if task == "mnist1d" else 4
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least} to {most})"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
