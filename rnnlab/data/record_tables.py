"""A lead of a record in CSV: a column of numbers, and one of seconds or a sampling rate."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from rnnlab.data.checks import check_encoding
from rnnlab.data.csv_text import read_number

# Names of a column of seconds, in any case.
_TIMES = ("time", "time_s", "time (s)", "time [s]", "elapsed time", "t", "t_s", "seconds", "s")
_PIECE = 15_000
_LONGEST = 1.7  # intervals between two rows, where times are rounded; twice as long, and a sample is missing
SLOWEST = 50.0  # samples a second, of any record


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
        name, rate, num_samples, notes: as of `rnnlab.data.records.Lead`.
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
            found.append(self._number(line, cells, self._column, self.column_name))
            if len(found) == _PIECE:
                yield np.array(found)
                found = []
        if found:
            yield np.array(found)

    def _read_through(self, header: list[str], rate: float | None) -> tuple[int, float]:
        """Return how many samples there are, and how many a second."""
        count = 0
        for line, cells in self._rows(skip=1):
            if len(cells) != len(header) or not all(cells):
                there = sum(map(bool, cells))
                raise ValueError(
                    f"{self.file}:{line}: {there} values in {len(header)} columns: leads of unequal length"
                )
            count += 1
        if self._time is not None:
            return count, self._rate_of_clock(self._time, header[self._time], count, rate)
        if rate is None:
            raise ValueError(
                f"{self.file}: the sampling rate is not known, no column among {','.join(header)} is called "
                f"{_TIMES[0]!r}; data.record_rate=250 would say it"
            )
        return count, rate

    def _rate_of_clock(self, place: int, name: str, count: int, rate: float | None) -> float:
        """Return the rate that a column of times tells, once it is known to be even to half an interval."""
        if count < 2:
            raise ValueError(f"{self.file}: has {count} samples, and two make a sampling rate")
        start = last = longest = 0.0
        after, exponent = 0, 0
        for number, (line, cells) in enumerate(self._rows(skip=1)):
            now = self._number(line, cells, place, name)
            exponent = min(exponent, int(Decimal(cells[place]).as_tuple().exponent))
            start = start if number else now
            if number and now <= last:
                raise ValueError(f"{self.file}:{line}: the time {now:.10g} does not come after {last:.10g}")
            if number and now - last > 1.000001 * longest:
                longest, after = now - last, line
            last = now
        step = (last - start) / (count - 1)
        digit = 10.0**exponent if exponent else 0.0  # the last one behind the point may be rounded
        if longest > max(_LONGEST * step, step + 1.000001 * digit):
            raise ValueError(
                f"{self.file}:{after}: column {name!r} goes up by {longest:.6g}, by {step:.6g} in the mean"
            )
        worst, line = max(
            (abs(self._number(line, cells, place, name) - start - number * step), line)
            for number, (line, cells) in enumerate(self._rows(skip=1))
        )
        if worst > max(0.5 * step, 1.000001 * digit):
            raise ValueError(
                f"{self.file}:{line}: column {name!r} is {worst:.3g} off even steps from its first row to its last"
            )
        return self._told_rate(name, start, step, count, digit, rate)

    def _told_rate(self, name: str, start: float, step: float, count: int, digit: float, rate: float | None) -> float:
        """Return the roundest number of samples a second that times allow, as they are written."""
        if step * SLOWEST > 1.001:
            if rate is None:
                raise ValueError(
                    f"{self.file}: column {name!r} goes up by {step:g} from row to row, and seconds would by at most "
                    f"{1 / SLOWEST:g}; data.record_rate=250 would say how many samples a second there are"
                )
            return rate
        span = step * (count - 1)
        slack = max(digit, 1e-9 * span)
        if rate is not None and abs((count - 1) / rate - span) > slack:
            raise ValueError(
                f"{self.file}: column {name!r} tells {1 / step:.8g} samples a second, data.record_rate {rate:g}"
            )
        if start:
            self.notes.append(f"{self.file}: seconds are counted from the first row, where {name!r} is {start:.10g}")
        rounded = (round(1 / step, digits) for digits in range(7))
        return next((one for one in rounded if one and abs((count - 1) / one - span) <= slack), 1 / step)

    def _number(self, line: int, cells: list[str], place: int, name: str) -> float:
        return read_number(cells[place], f"{self.file}:{line}, column {name!r}")

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
