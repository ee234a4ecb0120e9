"""A lead of a record in CSV: a column of numbers, and one of seconds or a sampling rate."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rnnlab.data.csv_text import read_number

_TIMES = ("time", "time_s", "t", "t_s", "seconds", "s")  # names of a column of seconds, in any case
_PIECE = 15_000
_LONGEST = 1.7  # intervals between two rows, where times are rounded; twice as long, and a sample is missing


class CSVLead:
    """One column of a CSV file whose first row is its header, read line by line.

    Args:
        file: the file.
        lead: the column's name, or its number among those that are not of time; None for the first one.
        rate: samples a second, where no column is of time.
        encoding: of the file.

    Raises:
        ValueError: the file is empty, no text in this encoding, or without such a column; a cell is no number; times
            are not even, or neither they nor `rate` are there ("file:line: what is wrong").

    Attributes:
        name, rate, num_samples, notes: as of `rnnlab.data.records.Lead`.
    """

    notes = ()

    def __init__(self, file: Path, lead: str | int | None, rate: float | None, encoding: str) -> None:
        self.file, self.encoding = file, encoding
        header = next(self._rows(), (1, []))[1]
        if not header:
            raise ValueError(f"{file}: is empty")
        self._time = next((place for place, name in enumerate(header) if name.lower() in _TIMES), None)
        leads = [place for place in range(len(header)) if place != self._time]
        if not leads:
            raise ValueError(f"{file}: has no lead beside {header[0]!r}")
        names = [header[place] for place in leads]
        self._column = leads[choose_lead(names, lead, str(file))]
        self.column_name = header[self._column]
        self.name = f"{file}, lead {self.column_name}"
        self.num_samples, self.rate = self._read_through(header, rate)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the column from its start, float64 (N_i,)."""
        found: list[float] = []
        for line, cells in self._rows(skip=1):
            found.append(self._number(line, cells, self._column, self.column_name))
            if len(found) == _PIECE:
                yield np.array(found)
                found = []
        if found:
            yield np.array(found)

    def _read_through(self, header: list[str], rate: float | None) -> tuple[int, float]:
        """Return how many samples there are, and how many a second."""
        count, start, last, longest, after = 0, 0.0, 0.0, 0.0, 0
        for line, cells in self._rows(skip=1):
            if len(cells) != len(header) or not all(cells):
                there = sum(map(bool, cells))
                raise ValueError(
                    f"{self.file}:{line}: {there} values in {len(header)} columns: leads of unequal length"
                )
            if self._time is not None:
                now = self._number(line, cells, self._time, header[self._time])
                start = now if not count else start
                if count and not now > last:
                    raise ValueError(f"{self.file}:{line}: the time {now:g} does not come after {last:g}")
                if count and now - last > longest:
                    longest, after = now - last, line
                last = now
            count += 1
        if self._time is None:
            if rate is None:
                names = " or ".join(map(repr, _TIMES[:3]))
                raise ValueError(
                    f"{self.file}: the sampling rate is not known, no column is called {names}; data.record_rate=250 "
                    "would say it"
                )
            return count, rate
        if count < 2:
            raise ValueError(f"{self.file}: has {count} samples, and two make a sampling rate")
        step = (last - start) / (count - 1)
        if longest > _LONGEST * step:
            raise ValueError(f"{self.file}:{after}: {longest:g} s after the row before, and {step:g} s is usual")
        whole = round(1 / step)
        return count, float(whole) if whole and abs(1 / step - whole) < 1e-3 * whole else 1 / step

    def _number(self, line: int, cells: list[str], place: int, name: str) -> float:
        return read_number(cells[place], f"{self.file}:{line}, column {name!r}")

    def _rows(self, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, stripped cells) of the rows behind the first ones; blank lines are left out."""
        try:
            with self.file.open(
                encoding="utf-8-sig" if self.encoding == "utf-8" else self.encoding, newline=""
            ) as text:
                reader = csv.reader(text)
                for cells in reader:
                    if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                        continue
                    if skip:
                        skip -= 1
                        continue
                    yield reader.line_num, [cell.strip() for cell in cells]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.file}: is not {self.encoding}: {error.reason}; encoding=NAME says what it is"
            ) from None
        except (csv.Error, OSError) as error:
            raise ValueError(f"{self.file}: cannot be read as CSV: {error}") from None


def choose_lead(names: Sequence[str], lead: str | int | None, place: str) -> int:
    """Return the number of a lead.

    Args:
        names: of all leads.
        lead: a name or a number from 0 on; None for the first one.
        place: for the message.

    Raises:
        ValueError: there is none of that name or number.
    """
    if lead is None:
        return 0
    if isinstance(lead, int) and not isinstance(lead, bool) and 0 <= lead < len(names):
        return lead
    if isinstance(lead, str) and lead in names:
        return list(names).index(lead)
    raise ValueError(f"{place}: data.lead must be one of {', '.join(names)}, or a number from 0 on, got {lead!r}")
