"""Reading of CSV files that refuses rather than guesses: every complaint names the file, the line and the column."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data.files import find_file

_ISO_TIME = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?)?)?")


class Column(NamedTuple):
    """One column of a CSV file.

    Attributes:
        path: the file.
        name: name of the column in the header.
        lines: line of each cell in the file; the header is line 1.
        cells: text of each cell, stripped.
    """

    path: Path
    name: str
    lines: list[int]
    cells: list[str]

    def place(self, index: int) -> str:
        """Return where cell `index` is, for a message."""
        return f"{self.path}:{self.lines[index]}, column {self.name!r}"

    def numbers(self) -> np.ndarray:
        """Return the cells as float64 (T,); a missing, infinite or non-numeric one is a ValueError."""
        return np.array([read_number(cell, self.place(index)) for index, cell in enumerate(self.cells)])


def read_cells(path: str | Path) -> list[tuple[int, list[str]]]:
    """Return (line, stripped cells) of each row of a comma-separated UTF-8 file.

    Raises:
        ValueError: the file is missing, empty, not text, or has a blank line anywhere but at its end.
    """
    file = find_file(path, "CSV file")
    rows: list[tuple[int, list[str]]] = []
    blank_line = None
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle)
            for cells in reader:
                if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                    blank_line = blank_line or reader.line_num
                elif blank_line is not None:
                    raise ValueError(f"{file}:{blank_line}: blank line between rows")
                else:
                    rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: cannot be read as CSV: {error}") from None
    if not rows:
        raise ValueError(f"{file}: is empty")
    return rows


def read_columns(path: str | Path, names: Sequence[str]) -> list[Column]:
    """Return the named columns of a CSV file whose first row is its header.

    Raises:
        ValueError: as `read_cells`; or a column is missing, or a row has more or fewer cells than the header.
    """
    file = find_file(path, "CSV file")
    (_, header), *rows = read_cells(file)
    for name in names:
        if header.count(name) != 1:
            problem = "no column" if name not in header else "more than one column"
            raise ValueError(f"{file}: {problem} {name!r}; the header has {', '.join(header)}")
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{file}:{line}: expected {len(header)} cells as in the header, got {len(cells)}")
    lines = [line for line, _ in rows]
    return [Column(file, name, lines, [cells[header.index(name)] for _, cells in rows]) for name in names]


def read_number(cell: str, place: str) -> float:
    """Return the finite number a cell holds, or raise ValueError naming `place`."""
    if not cell:
        raise ValueError(f"{place}: the value is missing")
    try:
        value = math.nan if "_" in cell else float(cell)  # float() takes 1_000 for a number
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place}: expected a finite number, got {cell!r}")
    return value


def check_regular_times(times: Column) -> None:
    """Refuse time stamps that are not strictly increasing in equal steps.

    Stamps are plain numbers, or ISO dates and times without a time zone ("1949-01", "2016-07-01 13:00"). Steps of whole
    months count as equal though months differ in days.

    Raises:
        ValueError: a stamp is missing, unreadable, repeated, out of order or follows a gap; the first such is named.
    """
    stamps = _parse_times(times)
    steps = np.diff(stamps)
    for index in np.flatnonzero(steps <= 0)[:1] + 1:
        problem = "repeats" if stamps[index] == stamps[index - 1] else "lies before"
        raise ValueError(f"{times.place(index)}: {times.cells[index]!r} {problem} the time of the row above")
    if len(steps):
        values, counts = np.unique(steps, return_counts=True)
        usual = values[counts.argmax()]
        for index in np.flatnonzero(~np.isclose(steps, usual, rtol=1e-6, atol=0))[:1] + 1:
            raise ValueError(
                f"{times.place(index)}: irregular step from {times.cells[index - 1]!r} to {times.cells[index]!r}, "
                f"{steps[index - 1] / usual:.6g} times the usual one"
            )


def _parse_times(times: Column) -> np.ndarray:
    """Return the stamps as float64 (T,), in a unit in which a regular series has equal steps."""
    if not _ISO_TIME.fullmatch(times.cells[0]) or times.cells[0].isdigit():
        return times.numbers()
    stamps = []
    for index, cell in enumerate(times.cells):
        try:
            stamp = np.datetime64(cell) if _ISO_TIME.fullmatch(cell) else None
        except ValueError:
            stamp = None
        if stamp is None:
            expected = "an ISO time stamp without time zone, as '1949-01' or '2016-07-01 13:00'"
            raise ValueError(f"{times.place(index)}: expected {expected}, got {cell!r}")
        stamps.append(stamp)
    exact = np.array(stamps)
    months = exact.astype("datetime64[M]")
    since_month = exact - months
    is_monthly = len(exact) > 1 and (since_month == since_month[0]).all() and months[1] > months[0]
    return (months if is_monthly else exact).astype(np.int64).astype(np.float64)
