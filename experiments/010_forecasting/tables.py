"""Write the tables of series that intervals and the global model are measured on.

python experiments/010_forecasting/tables.py FOLDER

sines.csv: 2,000 of the two-sine series of 60 steps, in long form. unlike.csv: 100 series of 300 days of one kind, of
levels from 1 to 10,000: a week of a shape that all share, by more or less, a slow swing, noise in proportion to the
level. alone/NNN.csv: each of the last ten of these by itself.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from rnnlab.data.sines import two_sines

NUM_SINES, NUM_SINE_STEPS = 2_000, 60
NUM_UNLIKE, NUM_DAYS, NUM_ALONE = 100, 300, 10


def unlike(seed: int) -> np.ndarray:
    """Return the series (100, 300), positive."""
    rng = np.random.default_rng(seed)
    days = np.arange(NUM_DAYS)
    week = np.array([0.1, 0.0, 0.05, 0.1, 0.3, 0.9, 0.6])
    level = 10 ** rng.uniform(0, 4, (NUM_UNLIKE, 1))
    share = rng.uniform(0.2, 1.0, (NUM_UNLIKE, 1))
    swing = 0.3 * np.sin(2 * np.pi * (days / rng.uniform(60, 200, (NUM_UNLIKE, 1)) + rng.random((NUM_UNLIKE, 1))))
    noise = 0.05 * rng.standard_normal((NUM_UNLIKE, NUM_DAYS))
    shift = rng.integers(0, 7, (NUM_UNLIKE, 1))
    return level * (1 + share * week[(days + shift) % 7] + swing) * np.exp(noise)


def write(path: Path, rows: np.ndarray, names: list[str], digits: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["series", "step", "value"])
        for name, values in zip(names, rows, strict=True):
            writer.writerows((name, step, format(value, digits)) for step, value in enumerate(values))


def main(folder: Path) -> None:
    (folder / "alone").mkdir(parents=True, exist_ok=True)
    sines = two_sines(NUM_SINES, NUM_SINE_STEPS, seed=42)
    write(folder / "sines.csv", sines, [str(number) for number in range(NUM_SINES)], ".6f")
    series = unlike(seed=0)
    names = [f"{number:03d}" for number in range(NUM_UNLIKE)]
    write(folder / "unlike.csv", series, names, ".6g")
    for number in range(NUM_UNLIKE - NUM_ALONE, NUM_UNLIKE):
        write(folder / "alone" / f"{names[number]}.csv", series[[number]], [names[number]], ".6g")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
