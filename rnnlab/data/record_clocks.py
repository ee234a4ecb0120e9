"""The column of times of a record's table: whether it goes up evenly, and how many samples a second that makes."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from rnnlab.data.csv_text import read_number

SLOWEST = 50.0  # samples a second, of any record
_LONGEST = 1.7  # steps between two rows, where times are rounded; twice as long, and a sample is missing
_ROUNDING = 1.000001  # of float64


class Clock:
    """Times, added row by row.

    Args:
        file: the table.
        name: of the column.

    Attributes:
        start: the first time.
        notes: what a user should be told of it, a line each.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        self.start = 0.0
        self._last = self._longest = 0.0
        self._count = self._exponent = self._line_of_longest = 0

    def read(self, line: int, cell: str) -> float:
        """Return the time that a cell holds.

        Raises:
            ValueError: it is no finite number.
        """
        return read_number(cell, f"{self.file}:{line}, column {self.name!r}")

    def add(self, line: int, cell: str) -> None:
        """Take the next row's time.

        Raises:
            ValueError: it is no finite number, or does not come after the one before.
        """
        now = self.read(line, cell)
        if not self._count:
            self.start = now
        elif now <= self._last:
            raise ValueError(f"{self.file}:{line}: the time {now:.10g} does not come after {self._last:.10g}")
        elif now - self._last > _ROUNDING * self._longest:
            self._longest, self._line_of_longest = now - self._last, line
        self._last, self._count = now, self._count + 1
        self._exponent = min(self._exponent, int(Decimal(cell).as_tuple().exponent))

    @property
    def step(self) -> float:
        """Return the mean step from row to row."""
        return (self._last - self.start) / (self._count - 1)

    @property
    def _digit(self) -> float:
        """Return the worth of the last digit behind the point, which may be rounded; 0 for whole numbers."""
        return 10.0**self._exponent if self._exponent else 0.0

    def check_even(self, rows: Iterable[tuple[int, str]]) -> None:
        """Refuse a clock that jumps, or is more than half a step off an even one from its first row to its last.

        Args:
            rows: line and cell of all rows that were added.

        Raises:
            ValueError: it does; the row where it does most is named.
        """
        if self._count < 2:
            raise ValueError(f"{self.file}: has {self._count} samples, and two make a sampling rate")
        step, digit = self.step, _ROUNDING * self._digit
        if self._longest > max(_LONGEST * step, step + digit):
            told = f"column {self.name!r} goes up by {self._longest:.6g}, by {step:.6g} in the mean"
            raise ValueError(f"{self.file}:{self._line_of_longest}: {told}")
        worst, line = max(
            (abs(self.read(line, cell) - self.start - number * step), line) for number, (line, cell) in enumerate(rows)
        )
        if worst > max(0.5 * step, digit):
            told = f"column {self.name!r} is {worst:.3g} off even steps from its first row to its last"
            raise ValueError(f"{self.file}:{line}: {told}")

    def rate(self, given: float | None) -> float:
        """Return the roundest number of samples a second that times allow, as they are written.

        Args:
            given: by the user; has the last word where the column counts something else than seconds.

        Raises:
            ValueError: it contradicts the times, or they are no seconds and none is given.
        """
        if self.step * SLOWEST > 1.001:
            if given is None:
                raise ValueError(
                    f"{self.file}: column {self.name!r} goes up by {self.step:g} from row to row, and seconds would by "
                    f"at most {1 / SLOWEST:g}; data.record_rate=250 would say how many samples a second there are"
                )
            return given
        span, steps = self._last - self.start, self._count - 1
        slack = max(self._digit, 1e-9 * span)
        if given is not None and abs(steps / given - span) > slack:
            told = f"column {self.name!r} tells {steps / span:.8g} samples a second, data.record_rate {given:g}"
            raise ValueError(f"{self.file}: {told}")
        rounded = (round(steps / span, digits) for digits in range(7))
        return next((one for one in rounded if one and abs(steps / one - span) <= slack), steps / span)

    @property
    def notes(self) -> list[str]:
        if not self.start or self.step * SLOWEST > 1.001:
            return []
        return [f"{self.file}: seconds are counted from the first row, where {self.name!r} is {self.start:.10g}"]
