"""Time and memory of `read_table`: a million rows of eight columns, in each kind of file.

python experiments/010_forecasting/read_table.py read_table.csv

Memory is the most that a process takes while it reads, beyond what it takes with its modules loaded, as a multiple of
the float64 of the columns of numbers; each kind in a process of its own, one thread.
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

NUM_ROWS, NUM_COLUMNS = 1_000_000, 8
KINDS = ("csv", "csv.gz", "decimal comma", "thousands", "1000 series", "1000 series mixed", "parquet")
_BLOCK = 10_000


def write(kind: str, folder: Path) -> Path:
    """Write a random walk a column, hourly."""
    import pandas

    generator = np.random.default_rng(0)
    values = 2000 + generator.standard_normal((NUM_ROWS, NUM_COLUMNS)).cumsum(axis=0)
    columns = [f"c{number}" for number in range(NUM_COLUMNS)]
    frame = pandas.DataFrame(values, columns=columns)
    frame.insert(0, "date", pandas.date_range("1950-01-01", periods=NUM_ROWS, freq="h"))
    if "series" in kind:
        length = NUM_ROWS // 1000
        frame["date"] = np.tile(frame["date"].to_numpy()[:length], 1000)
        frame.insert(1, "id", np.repeat(np.arange(1000), length))
        if "mixed" in kind:
            frame = frame.sort_values("date", kind="stable")
    path = folder / ("table.parquet" if kind == "parquet" else "table.csv")
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "thousands":
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(";".join(frame.columns) + "\n")
            for start in range(0, NUM_ROWS, _BLOCK):
                block = frame.iloc[start : start + _BLOCK]
                for when, *row in zip(block["date"].astype(str), *(block[name] for name in columns), strict=True):
                    cells = (f"{value:,.6f}".translate({44: ".", 46: ","}) for value in row)
                    file.write(f"{when};{';'.join(cells)}\n")
    else:
        signs = {"sep": ";", "decimal": ","} if kind == "decimal comma" else {}
        frame.to_csv(path, index=False, compression="gzip" if kind == "csv.gz" else None, **signs)
    return path


def measure(path: str, has_series: bool) -> None:
    """Print seconds, and megabytes at most and in the end."""
    from rnnlab.data.table_file import load
    from rnnlab.data.tables import TableForm, read_table

    for module in ("pandas", "pyarrow.csv", "pyarrow.compute", "pyarrow.parquet"):
        load(module)
    before, start = taken(), time.perf_counter()
    panel = read_table(path, TableForm(time_column="date", series_column="id" if has_series else None))
    seconds = time.perf_counter() - start
    assert sum(one.target.size for one in panel.series) == NUM_ROWS * NUM_COLUMNS
    print(f"{seconds:.1f} {most_taken() - before:.0f} {taken() - before:.0f}")


def taken() -> float:
    """Return the megabytes that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def most_taken() -> float:
    """Return the megabytes that this process took at most; getrusage would count those of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(output: str) -> None:
    floats = NUM_ROWS * NUM_COLUMNS * 8 / 2**20
    with open(output, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "seconds", "peak_mb", "peak_per_floats", "end_mb"])
        for kind in KINDS:
            with TemporaryDirectory() as folder:
                path = write(kind, Path(folder))
                command = [sys.executable, __file__, "--measure", str(path), str("series" in kind)]
                result = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, most, end = result.stdout.split()
            writer.writerow([kind, seconds, most, f"{int(most) / floats:.2f}", end])
            file.flush()


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(sys.argv[2], sys.argv[3] == "True")
    else:
        main(sys.argv[1])
