"""Files of labelled sequences: `.ts` of aeon and sktime, tables of the UCR archive, CSV in long form.

All are refused rather than guessed at, with file and line. Letters: T steps, I values a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data.csv_text import Column, read_cells, read_number
from rnnlab.data.files import read_text
from rnnlab.data.times import check_regular_times

SUFFIXES = {".ts": "aeon", ".tsv": "UCR", ".txt": "UCR", ".csv": "long form"}
_MISSING = ("", "?", "nan")  # classes of the UCR archive's tables
_FLAGS = ("@timestamps", "@missing", "@univariate", "@equallength", "@classlabel", "@targetlabel")


class Series(NamedTuple):
    """One sequence.

    Attributes:
        name: what a user calls it.
        values: float64 (T, I), T >= 1.
        label: its class; None where it is not known.
        place: "file:line", where it begins, if it is of a file.
    """

    name: str
    values: np.ndarray
    label: str | None
    place: str = ""


class SeriesTable(NamedTuple):
    """What a file holds.

    Attributes:
        path: where it was found.
        series: at least one, all with the same I.
        columns: names of the I values where the file names them.
    """

    path: Path
    series: list[Series]
    columns: list[str] | None


class LongForm(NamedTuple):
    """Names of the columns of a CSV file in long form; all others are values."""

    series: str = "id"
    time: str = "time"
    label: str = "label"


def read_series(path: str | Path, encoding: str = "utf-8", form: LongForm | None = None) -> SeriesTable:
    """Read sequences, of a layout by the file's suffix, '.gz' behind it aside.

    '.ts': a head of lines '@name value', then '@data' and a sequence a line, values between commas, dimensions and last
    the class between colons. '.tsv' and '.txt': a sequence a line, the class first, then its values, between tabs or,
    in a line without them, spaces; NaN at the end of a line fills it up and is left out. A class written as a whole
    number with a point, as 1.0000000e+00, is '1'; one that is '?', NaN or, before a tab, nothing is unknown. '.csv': a
    head of column names and a line a step, with sequence, time, class and all else as values; times of a sequence rise
    in equal steps, and its class does not change. Without a head line of that name ('@classLabel false' in '.ts'),
    classes are unknown.

    Args:
        path: as given, or below the folder that RNNLAB_DATA names.
        encoding: of the file, as Python names it.
        form: names of the columns of a '.csv'.

    Raises:
        ValueError: the file is missing, of another kind, or broken ("file:line: what is wrong").
    """
    name = Path(str(path).removesuffix(".gz"))
    layout = SUFFIXES.get(name.suffix.lower())
    if layout == "long form":
        return _read_long(path, encoding, form or LongForm())
    if layout is None:
        raise ValueError(f"{path}: sequences are read from {', '.join(SUFFIXES)}, not from {name.suffix or 'this'!r}")
    file, text = read_text(path, "file of sequences", encoding)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    series = list(_read_ts(file, lines) if layout == "aeon" else _read_ucr(file, lines))
    if not series:
        raise ValueError(f"{file}: has no sequence")
    return SeriesTable(file, series, None)


def _read_ucr(file: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Series]:
    for count, (number, line) in enumerate(lines, start=1):
        label, *cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        while cells and cells[-1].lower() == "nan":
            cells.pop()
        if not cells:
            raise ValueError(f"{file}:{number}: expected a class and values behind it, got {line[:60]!r}")
        place = f"{file}:{number}"
        yield Series(str(count), _values(cells, place)[:, None], _plain(label), place)


def _plain(label: str) -> str | None:
    """Return the label of a table of numbers, '1' for '1.0000000e+00', None for one that is missing."""
    if label.lower() in _MISSING:
        return None
    try:
        value = float(label)
    except ValueError:
        return label
    return str(int(value)) if math.isfinite(value) and value == int(value) and "_" not in label else label


class _Head(NamedTuple):
    """What the head of a `.ts` file says: names of classes, None where there are none, and whether I is 1 by it."""

    classes: list[str] | None
    is_univariate: bool


def _read_ts(file: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Series]:
    lines = [(number, line.strip()) for number, line in lines if not line.lstrip().startswith(("#", "%"))]
    start = next((place for place, (_, line) in enumerate(lines) if line.lower() == "@data"), None)
    if start is None:
        raise ValueError(f"{file}: has no line '@data'")
    head = _ts_head(file, lines[:start])
    width = 1 if head.is_univariate else None
    for count, (number, line) in enumerate(lines[start + 1 :], start=1):
        place = f"{file}:{number}"
        parts = [part.strip() for part in line.split(":")]
        label = None if head.classes is None else parts.pop()
        if head.classes is not None and label not in head.classes:
            raise ValueError(f"{place}: {label!r} is none of the classes of the head: {', '.join(head.classes)}")
        width = width or len(parts)
        if not parts or len(parts) != width:
            expected = "@univariate true" if head.is_univariate else f"{width or 1} dimensions"
            raise ValueError(f"{place}: expected {expected}, got {len(parts)} dimensions and the class behind them")
        columns = [_values([cell.strip() for cell in part.split(",")], place) for part in parts]
        if len({len(column) for column in columns}) > 1:
            sizes = ", ".join(str(len(column)) for column in columns)
            raise ValueError(f"{place}: dimensions must have as many values each, got {sizes}")
        yield Series(str(count), np.stack(columns, axis=1), label, place)


def _ts_head(file: Path, lines: Sequence[tuple[int, str]]) -> _Head:
    classes, is_univariate = None, False
    for number, line in lines:
        place = f"{file}:{number}"
        key, _, value = line.partition(" ")
        name, (first, *rest) = key.lower(), value.split() or [""]
        if not name.startswith("@"):
            raise ValueError(f"{place}: expected '@name value' before '@data', got {line[:60]!r}")
        if name in _FLAGS and first.lower() not in ("true", "false"):
            raise ValueError(f"{place}: {key} must be true or false, got {value.strip()!r}")
        is_true = first.lower() == "true"
        if name == "@timestamps" and is_true:
            raise ValueError(f"{place}: time stamps are not read; write sequences of equal steps without them")
        if name == "@targetlabel" and is_true:
            raise ValueError(f"{place}: targets are numbers, and classes are wanted: @classLabel true NAMES")
        if name == "@univariate":
            is_univariate = is_true
        if name == "@classlabel" and is_true:
            if not rest:
                raise ValueError(f"{place}: {key} true must be followed by the names of the classes")
            classes = rest
    return _Head(classes, is_univariate)


def _values(cells: Sequence[str], place: str) -> np.ndarray:
    """Return numbers (T,).

    Raises:
        ValueError: one is none, with its place among them.
    """
    try:
        values = np.array(cells, dtype=np.float64)
        if np.isfinite(values).all() and not any("_" in cell for cell in cells):
            return values
    except ValueError:
        pass
    return np.array([read_number(cell, f"{place}, value {index}") for index, cell in enumerate(cells, start=1)])


def _read_long(path: str | Path, encoding: str, form: LongForm) -> SeriesTable:
    file, ((_, header), *rows) = read_cells(path, encoding)
    for name in (form.series, form.time):
        if header.count(name) != 1:
            raise ValueError(f"{file}:1: needs one column {name!r}, the header has {', '.join(header)}")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{file}:1: has more than one column {twice!r}")
    columns = [name for name in header if name not in form]
    if not columns:
        raise ValueError(f"{file}:1: has no column of values beside {', '.join(header)}")
    if not rows:
        raise ValueError(f"{file}: has no row below its header")
    groups: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{file}:{line}: expected {len(header)} cells as in the header, got {len(cells)}")
        row = dict(zip(header, cells, strict=True))
        if not row[form.series]:
            raise ValueError(f"{file}:{line}, column {form.series!r}: the value is missing")
        for name in (form.series, form.label):  # which stand in lines of answers
            if set(row.get(name, "")) & set("\t\n\r"):
                raise ValueError(f"{file}:{line}, column {name!r}: {row[name]!r} has a tab or an end of line in it")
        groups.setdefault(row[form.series], []).append((line, row))
    return SeriesTable(file, [_of_rows(file, name, found, columns, form) for name, found in groups.items()], columns)


def _of_rows(
    file: Path, name: str, rows: list[tuple[int, dict[str, str]]], columns: list[str], form: LongForm
) -> Series:
    lines = [line for line, _ in rows]
    check_regular_times(Column(file, form.time, lines, [row[form.time] for _, row in rows]))
    label = rows[0][1].get(form.label)
    for line, row in rows:
        if row.get(form.label) == "":
            raise ValueError(f"{file}:{line}, column {form.label!r}: the value is missing")
        if row.get(form.label) != label:
            raise ValueError(f"{file}:{line}: series {name!r} is {row[form.label]!r}, and {label!r} in line {lines[0]}")
    values = [Column(file, column, lines, [row[column] for _, row in rows]).numbers() for column in columns]
    return Series(name, np.stack(values, axis=1), label, f"{file}:{lines[0]}")
