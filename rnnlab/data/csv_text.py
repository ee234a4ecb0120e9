"""Reading of CSV files that refuses rather than guesses: every complaint names the file, the line and the column."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data.files import read_text


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


def read_cells(path: str | Path, encoding: str = "utf-8") -> tuple[Path, list[tuple[int, list[str]]]]:
    """Return where a comma-separated file was found, and (line, stripped cells) of each of its rows.

    Raises:
        ValueError: as `read_text`, or the file is empty or has a blank line anywhere but at its end.
    """
    file, text = read_text(path, "CSV file", encoding)
    rows: list[tuple[int, list[str]]] = []
    blank_line = None
    try:
        reader = csv.reader(io.StringIO(text))
        for cells in reader:
            if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                blank_line = blank_line or reader.line_num
            elif blank_line is not None:
                raise ValueError(f"{file}:{blank_line}: blank line between rows")
            else:
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise ValueError(f"{file}: cannot be read as CSV: {error}") from None
    if not rows:
        raise ValueError(f"{file}: is empty")
    return file, rows


def read_columns(path: str | Path, names: Sequence[str], encoding: str = "utf-8") -> list[Column]:
    """Return the named columns of a CSV file whose first row is its header.

    Raises:
        ValueError: as `read_cells`; or a column is missing, or a row has more or fewer cells than the header.
    """
    file, ((_, header), *rows) = read_cells(path, encoding)
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


def write_number(value: float | np.floating) -> str:
    """Return the shortest digits that read back to the same number of its own type."""
    has_point_within = value == 0 or 1e-4 <= abs(value) < 1e16  # as in Python's repr
    write = np.format_float_positional if has_point_within else np.format_float_scientific
    return write(value, trim="-")
