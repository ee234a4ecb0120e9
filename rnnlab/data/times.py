"""Time stamps, of which one thing alone matters: whether they are regular, strictly increasing in equal steps.

A column may be read in more than one way: 2/1/2020 is a day of February or of January, a month is a step as a day is,
midnight at +01:00 is a time of the clock and one of UTC. It is regular if it is so in one of these ways.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from rnnlab.data.csv_text import Column, read_number

_CLOCK = (
    r"(?:[T ](?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?(?: ?(?P<half>[AP]M))?"
    r" ?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?"
)
_YEAR_LAST = r"(?P=mark)(?P<year>\d{4}|\d\d)"
# What a date may look like, and what is told of it where one does not.
_LAYOUTS = {
    re.compile(rf"(?P<year>\d{{4}})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d){_CLOCK})?)?"): (
        "an ISO time stamp as '1949-01', '2016-07-01 13:00' or '2016-07-01T13:00:00.250Z'"
    ),
    re.compile(rf"(?P<year>\d{{4}})/(?P<month>\d\d?)/(?P<day>\d\d?){_CLOCK}", re.I): "a date as '2016/07/31'",
    re.compile(rf"(?P<year>\d{{4}})(?P<month>\d\d)(?:(?P<day>\d\d){_CLOCK})?"): "a date as '20160731'",
    re.compile(r"(?P<year>\d{4})[- ]?Q(?P<quarter>[1-4])", re.I): "a quarter as '2016Q3'",
    re.compile(rf"(?P<month>\d\d?)(?P<mark>[-/.])(?P<day>\d\d?){_YEAR_LAST}{_CLOCK}", re.I): "a date as '7/31/2016'",
    re.compile(rf"(?P<day>\d\d?)(?P<mark>[-/.])(?P<month>\d\d?){_YEAR_LAST}{_CLOCK}", re.I): "a date as '31.7.2016'",
}
_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?")
# Whole numbers that may count parts of a second since 1970: the least of each unit, all of 1973, and how many a second.
_EPOCHS = {10**17: 10**9, 10**14: 10**6, 10**11: 10**3, 10**8: 1}
_FIRST_DAY, _DAY, _LAST_EPOCH = datetime.date(1970, 1, 1), 86_400, 250_000_000_000  # of the year 9892
# A step of so many times the last digit behind the point may be rounded to it: 30 a second are 33, 33 and 34 ms apart.
_ROUNDED_STEP = 10


class _Stamp(NamedTuple):
    """A date, the time on the clock of its place, and the seconds by which that is ahead of UTC.

    The time is whole seconds since midnight and the digits behind their point.
    """

    date: datetime.date
    seconds: int
    fraction: str
    zone: int | None


class _Times(NamedTuple):
    """Times as multiples of a unit, and whether that is the worth of a digit behind the point."""

    values: list[int]
    is_fraction: bool


def check_regular_times(times: Column) -> None:
    """Refuse time stamps that are not strictly increasing in equal steps.

    Stamps are plain numbers, or dates: '1949-01', '2016-07-01 13:00', '2016-07-01T13:00:00.250+02:00', '2016/07/01',
    '20160701', '2016Q3', '7/31/2016', '31.7.2016'. Steps of whole months count as equal though months differ in days,
    from any day on, the last one too; also where numbers count seconds, or thousandths and so on, since 1970. The last
    digit behind a point may be rounded.

    Raises:
        ValueError: a stamp is missing, unreadable, repeated, out of order or follows a gap; the first such is named.
    """
    complaints: list[str | None] = []
    for reading in _readings(times) if times.cells else ():
        complaints.append(_complaint(times, reading))
        if complaints[-1] is None:
            return
    if complaints:
        raise ValueError(complaints[0])


def read_times(times: Column) -> np.ndarray | None:
    """Return regular stamps for a picture: datetime64[ms], or float64 where they are numbers; None if there are none.

    Dates are those on the clock of their place, to the millisecond; of UTC where zones differ.
    """
    if not times.cells:
        return None
    numbers, first = np.array([]), times.cells[0]
    if _DECIMAL.fullmatch(first) or not any(layout.fullmatch(first) for layout in _LAYOUTS):
        numbers = np.array([read_number(cell, times.place(index)) for index, cell in enumerate(times.cells)])
        rate = _per_second(numbers.min(), numbers.max())
        if rate is not None:
            return (numbers / rate * 1000).round().astype("datetime64[ms]")
        if _complaint(times, next(_number_readings(times))) is None:
            return numbers
    for layout in _LAYOUTS:
        stamps = [stamp for cell in times.cells if (stamp := _parse(layout, cell)) is not None]
        if len(stamps) == len(times.cells) and any(
            _complaint(times, reading) is None for reading in _date_readings(times, stamps)
        ):
            differ = len({stamp.zone for stamp in stamps}) > 1
            milliseconds = [
                1000 * (stamp.seconds - (stamp.zone or 0) * differ) + int(stamp.fraction.ljust(3, "0")[:3])
                for stamp in stamps
            ]
            dates = np.array([stamp.date for stamp in stamps], dtype="datetime64[ms]")
            return dates + np.array(milliseconds, dtype="timedelta64[ms]")
    return numbers if len(numbers) else None


def _per_second(least: float, greatest: float) -> int | None:
    """Return how many units of whole numbers a second since 1970 has, if they may count such."""
    rate = next((rate for start, rate in _EPOCHS.items() if least >= start), None)
    return rate if rate is not None and greatest < _LAST_EPOCH * rate else None


def _complaint(times: Column, reading: _Times) -> str | None:
    """Return what is irregular, or None."""
    values, is_fraction = reading
    steps = [after - before for before, after in zip(values, values[1:], strict=False)]
    for index, step in enumerate(steps, start=1):
        if step <= 0:
            problem = "lies before" if step else "repeats"
            return f"{times.place(index)}: {times.cells[index]!r} {problem} the time of the row above"
    counts = Counter(steps)
    usual = min(counts, key=lambda step: (-counts[step], step), default=0)
    allowed = max(usual // 10**6, int(is_fraction and usual >= _ROUNDED_STEP))
    for index, step in enumerate(steps, start=1):
        if abs(step - usual) > allowed:
            return (
                f"{times.place(index)}: irregular step from {times.cells[index - 1]!r} to {times.cells[index]!r}, "
                f"{Decimal(step) / usual:.6g} times the usual one"
            )
    return None


def _readings(times: Column) -> Iterator[_Times]:
    """Yield the ways in which all stamps can be read; ValueError if there is none."""
    first = times.cells[0]
    layouts = [layout for layout in _LAYOUTS if layout.fullmatch(first)]
    is_number = _DECIMAL.fullmatch(first) is not None or not layouts
    if is_number:
        yield from _number_readings(times)
    failures = []
    for layout in layouts:
        stamps = [_parse(layout, cell) for cell in times.cells]
        known = [stamp for stamp in stamps if stamp is not None]
        if len(known) == len(stamps):
            yield from _date_readings(times, known)
        else:
            failures.append((stamps.index(None), _LAYOUTS[layout]))
    if len(failures) == len(layouts) and not is_number:
        index, expected = max(failures, key=lambda failure: failure[0])  # the layout that fits the most stamps
        raise ValueError(f"{times.place(index)}: expected {expected}, got {times.cells[index]!r}")


def _number_readings(times: Column) -> Iterator[_Times]:
    texts = [
        cell if _DECIMAL.fullmatch(cell) else f"{Decimal(repr(read_number(cell, times.place(index)))):f}"
        for index, cell in enumerate(times.cells)
    ]
    parts = [text.partition(".") for text in texts]
    num_digits = max(len(fraction) for _, _, fraction in parts)
    # The sign is that of the whole, also where that is -0.
    yield _Times([int(whole + fraction.ljust(num_digits, "0")) for whole, _, fraction in parts], num_digits > 0)
    numbers = [int(whole) for whole, _, _ in parts]
    per_second = _per_second(min(numbers), max(numbers))
    if per_second is not None:
        days = [divmod(number, _DAY * per_second) for number in numbers]
        rests = [fraction.rstrip("0") for _, _, fraction in parts]
        yield from _months(
            [
                _Stamp(_FIRST_DAY + datetime.timedelta(day), time, rest, None)
                for (day, time), rest in zip(days, rests, strict=True)
            ]
        )


def _date_readings(times: Column, stamps: Sequence[_Stamp]) -> Iterator[_Times]:
    """Yield whole months, if they are; times of UTC; and, where zones differ, whole days on the clock, if they are."""
    for index, stamp in enumerate(stamps):
        if (stamp.zone is None) != (stamps[0].zone is None):
            raise ValueError(
                f"{times.place(index)}: {times.cells[index]!r} and {times.cells[0]!r}: one has a time zone"
            )
    yield from _months(stamps)
    days = [stamp.date.toordinal() for stamp in stamps]
    num_digits = max(len(stamp.fraction) for stamp in stamps)
    unit, zipped = 10**num_digits, zip(days, stamps, strict=True)
    seconds = [day * _DAY + stamp.seconds - (stamp.zone or 0) for day, stamp in zipped]
    if num_digits:
        fractions = [int(stamp.fraction.ljust(num_digits, "0")) for stamp in stamps]
        seconds = [unit * second + fraction for second, fraction in zip(seconds, fractions, strict=True)]
    yield _Times(seconds, num_digits > 0)
    if len({stamp.zone for stamp in stamps}) > 1 and len({stamp[1:3] for stamp in stamps}) == 1:
        yield _Times(days, is_fraction=False)


def _months(stamps: Sequence[_Stamp]) -> Iterator[_Times]:
    """Yield months, where stamps fall on one day of each, or on the last one of months that are too short for it."""
    day = max(stamp.date.day for stamp in stamps)
    months = [12 * stamp.date.year + stamp.date.month for stamp in stamps]
    fits = all(
        stamp.date.day == min(day, calendar.monthrange(stamp.date.year, stamp.date.month)[1])
        and stamp[1:3] == stamps[0][1:3]
        for stamp in stamps
    )
    if fits and len(months) > 1 and months[1] > months[0]:
        yield _Times(months, is_fraction=False)


def _parse(layout: re.Pattern[str], cell: str) -> _Stamp | None:
    """Return what a cell says in this layout, or None if it is in another one or no such time exists."""
    match = layout.fullmatch(cell)
    if match is None:
        return None
    given = match.groupdict()
    year = int(given["year"])
    if len(given["year"]) == 2:
        year += 1900 if year > 68 else 2000  # as in POSIX
    month = 3 * int(given["quarter"]) - 2 if given.get("quarter") else int(given.get("month") or 1)
    hour, minute = int(given.get("hour") or 0), int(given.get("minute") or 0)
    half = (given.get("half") or "").upper()
    if half and not 1 <= hour <= 12:
        return None
    try:
        date = datetime.date(year, month, int(given.get("day") or 1))
        time = datetime.time(hour % 12 + 12 * (half == "PM") if half else hour, minute, int(given.get("second") or 0))
    except ValueError:
        return None
    seconds = 3600 * time.hour + 60 * time.minute + time.second
    fraction = (given.get("fraction") or "").rstrip("0")
    zone = given.get("zone")
    if zone is None or zone == "Z":
        return _Stamp(date, seconds, fraction, None if zone is None else 0)
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    return _Stamp(date, seconds, fraction, (3600 * hours + 60 * minutes) * (-1 if zone[0] == "-" else 1))
