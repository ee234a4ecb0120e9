"""A lead of a record in CSV: a column of numbers, and one of seconds or a sampling rate."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rnnlab.data.checks import check_encoding
from rnnlab.data.csv_text import read_number
from rnnlab.data.leads import choose_lead
from rnnlab.data.record_clocks import Clock

# Names of a column of seconds, in any case.
_TIMES = ("time", "time_s", "time (s)", "time [s]", "elapsed time", "t", "t_s", "seconds", "s")
_PIECE = 15_000


class CSVLead:
    """One column of a CSV file whose first row is its header, read line by line.

    Args:
        file: the file.
        lead: the column's name, or its number among those that are not of time; None for the first one.
        rate: samples a second, where no column is of time, or that one counts something else than seconds.
        encoding: of the file.

    Raises:
        ValueError: the file is empty, no text in this encoding, or without such a column; a cell is no number; times
            are not even, or say another rate than `rate`; neither they nor `rate` are there ("file:line: what is
            wrong").

    Attributes:
        name, rate, num_samples, notes: as of `rnnlab.data.leads.Lead`.
    """

    def __init__(self, file: Path, lead: str | int | None, rate: float | None, encoding: str) -> None:
        is_utf8 = codecs.lookup(check_encoding(encoding)).name == "utf-8"
        self.file, self.encoding = file, "utf-8-sig" if is_utf8 else encoding
        line, header = next(self._rows(), (1, []))
        if not header:
            raise ValueError(f"{file}: is empty")
        if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
            raise ValueError(f"{file}:{line}: columns are parted by commas, and none is in {header[0]!r}")
        if all(map(_is_number, header)):
            raise ValueError(f"{file}:{line}: names of columns are needed in the first row, which has numbers alone")
        self._time = next((place for place, name in enumerate(header) if name.strip("'").lower() in _TIMES), None)
        leads = [place for place in range(len(header)) if place != self._time]
        if not leads:
            raise ValueError(f"{file}: has no lead beside {header[0]!r}")
        names = [header[place] for place in leads]
        self._column = leads[choose_lead(names, lead, str(file))]
        self.column_name = header[self._column]
        self.name = f"{file}, lead {self.column_name}"
        self.notes: list[str] = []
        self.num_samples, self.rate = self._read_through(header, rate)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the column from its start, float64 (N_i,)."""
        found: list[float] = []
        for line, cells in self._rows(skip=1):
            found.append(read_number(cells[self._column], f"{self.file}:{line}, column {self.column_name!r}"))
            if len(found) == _PIECE:
                yield np.array(found)
                found = []
        if found:
            yield np.array(found)

    def _read_through(self, header: list[str], rate: float | None) -> tuple[int, float]:
        """Return how many samples there are, and how many a second."""
        place, count = self._time, 0
        clock = None if place is None else Clock(self.file, header[place])
        for line, cells in self._rows(skip=1):
            if len(cells) != len(header) or not all(cells):
                there = sum(map(bool, cells))
                raise ValueError(
                    f"{self.file}:{line}: {there} values in {len(header)} columns: leads of unequal length"
                )
            if clock is not None:
                clock.add(line, cells[place])
            count += 1
        if clock is not None:
            clock.check_even((line, cells[place]) for line, cells in self._rows(skip=1))
            self.notes = clock.notes
            return count, clock.rate(rate)
        if rate is None:
            raise ValueError(
                f"{self.file}: the sampling rate is not known, no column among {','.join(header)} is called "
                f"{_TIMES[0]!r}; data.record_rate=250 would say it"
            )
        return count, rate

    def _rows(self, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, stripped cells) of the rows behind the first ones; blank lines may end the file."""
        blank_line = None
        try:
            with self.file.open(encoding=self.encoding, newline="") as text:
                reader = csv.reader(text)
                for cells in reader:
                    if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                        blank_line = blank_line or reader.line_num
                        continue
                    if blank_line is not None:
                        raise ValueError(f"{self.file}:{blank_line}: blank line between rows")
                    if skip:
                        skip -= 1
                        continue
                    yield reader.line_num, [cell.strip() for cell in cells]
        except UnicodeError as error:
            encoding = self.encoding.removesuffix("-sig")
            raise ValueError(f"{self.file}: is not {encoding}: {error}; encoding=NAME says what it is") from None
        except (csv.Error, OSError) as error:
            raise ValueError(f"{self.file}: cannot be read as CSV: {error}") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
