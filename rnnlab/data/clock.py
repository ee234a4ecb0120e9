"""Equally spaced times: their frequency, those that follow, what a calendar says of them, and their text.

Times are datetime64[ns] (T,), or whole numbers int64 (T,) of any unit. Steps are whole months, business days (Monday to
Friday) or a fixed length; a month later is the same day, or the last one of a month that is too short for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_LENGTHS = {  # of a fixed step, in ns
    "W": 7 * 86_400 * 10**9,
    "D": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "min": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_MONTHS = {"Y": 12, "Q": 3, "M": 1}
_WORDS = {
    **dict.fromkeys(("YS", "YE", "A", "year", "years"), "Y"),
    **dict.fromkeys(("QS", "QE", "quarter", "quarters"), "Q"),
    **dict.fromkeys(("MS", "ME", "month", "months"), "M"),
    **dict.fromkeys(("week", "weeks", "w"), "W"),
    **dict.fromkeys(("day", "days", "d"), "D"),
    **dict.fromkeys(("business day", "business days", "b"), "B"),
    **dict.fromkeys(("hour", "hours", "H"), "h"),
    **dict.fromkeys(("minute", "minutes", "T"), "min"),
    **dict.fromkeys(("second", "seconds", "S"), "s"),
}
_BLOCK = 1 << 16  # times at once, so that what is computed on the way takes no memory
_DAY = np.timedelta64(1, "D")


class Step(NamedTuple):
    """The time from a row to the next: so many months, business days ('B'), ns, or whole numbers ('')."""

    length: int
    unit: str

    def __str__(self) -> str:
        if self.unit == "":
            return str(self.length)
        units = {"M": _MONTHS, "ns": _LENGTHS, "B": {"B": 1}}[self.unit]
        name = next(name for name, length in units.items() if self.length % length == 0)
        number = self.length // units[name]
        return name if number == 1 else f"{number}{name}"


def parse_frequency(frequency: str) -> Step:
    """Return the step that a frequency as '15min', 'M' or 'business day' names; ValueError if none."""
    match = re.fullmatch(r"(\d*) ?([A-Za-z ]*?)(-[A-Z]{3})?", frequency)
    count = int(match[1] or 1) if match else 0
    if match is not None and count > 0:
        name = _WORDS.get(match[2], match[2])
        if name == "" and match[1]:
            return Step(count, "")
        if name in _MONTHS:
            return Step(count * _MONTHS[name], "M")
        if name in _LENGTHS:
            return Step(count * _LENGTHS[name], "ns")
        if name == "B" and count == 1:
            return Step(1, "B")
    raise ValueError(
        f"frequency must be one of {', '.join([*_MONTHS, 'B', *_LENGTHS])}, with a number before it as in '15min', or "
        f"a whole number, got {frequency!r}"
    )


def count_steps(before: np.ndarray, after: np.ndarray, step: Step) -> np.ndarray:
    """Return how many steps lie between times (N,), int64; -1 where that is no whole number of at least 1."""
    result = np.empty(len(before), dtype=np.int64)
    for start in range(0, len(before), _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = _count_steps(before[block], after[block], step)
    return result


def _count_steps(before: np.ndarray, after: np.ndarray, step: Step) -> np.ndarray:
    if step.unit == "":
        steps, rest = np.divmod(after - before, step.length)
        fits = rest == 0
    elif step.unit == "ns":
        steps, rest = np.divmod((after - before).astype(np.int64), step.length)
        fits = rest == 0
    else:
        days, next_days = before.astype("datetime64[D]"), after.astype("datetime64[D]")
        fits = before - days == after - next_days  # at the same time of the day
        if step.unit == "B":
            steps = np.busday_count(days, next_days)
            fits &= np.is_busday(days) & np.is_busday(next_days)
        else:
            day, next_day = _day_of_month(days), _day_of_month(next_days)
            fits &= (
                (day == next_day)
                | ((next_day < day) & _is_month_end(next_days))
                | ((day < next_day) & _is_month_end(days))
            )
            steps, rest = np.divmod(_months(next_days) - _months(days), step.length)
            fits &= rest == 0
    return np.where(fits & (steps > 0), steps, -1)


def infer_step(before: np.ndarray, after: np.ndarray) -> Step:
    """Return the step that leads from the most of the times `before` (N,) to those `after`, N > 0; all are later."""
    if before.dtype.kind == "i":
        return Step(_most_common(after - before), "")
    length = _most_common((after - before).astype(np.int64))
    months = _most_common(_months(after.astype("datetime64[D]")) - _months(before.astype("datetime64[D]")))
    candidates = [Step(months, "M")] if months > 0 else []
    candidates.append(Step(length, "ns"))
    if length == _LENGTHS["D"]:
        candidates.append(Step(1, "B"))
    return max(candidates, key=lambda step: np.count_nonzero(count_steps(before, after, step) == 1))


def following(times: np.ndarray, frequency: str, count: int) -> np.ndarray:
    """Return the `count` times that follow the last of `times` (T,), T > 0.

    Months keep the greatest day among the last of the times, and the last day of months where all are.
    """
    step = parse_frequency(frequency)
    last, ahead = times[-1], np.arange(1, count + 1)
    if step.unit == "":
        return last + step.length * ahead
    if step.unit == "ns":
        return last + (step.length * ahead).astype("timedelta64[ns]")
    days = times[-24:].astype("datetime64[D]")
    clock = last - days[-1]
    if step.unit == "B":
        return np.busday_offset(days[-1], ahead, roll="backward").astype("datetime64[ns]") + clock
    day = 31 if _is_month_end(days).all() else _day_of_month(days).max()
    months = days[-1].astype("datetime64[M]") + step.length * ahead
    ends = (months + 1).astype("datetime64[D]") - _DAY
    return np.minimum(months.astype("datetime64[D]") + (day - 1), ends).astype("datetime64[ns]") + clock


def calendar_names(features: Sequence[str]) -> list[str]:
    """Return the names of the columns of `calendar_features`."""
    return [f"{feature}_{wave}" for feature in features for wave in ("sin", "cos")]


def calendar_features(times: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """Return sine and cosine of the place in its period of each feature, float64 (T, 2 * len(features)).

    Args:
        times: datetime64[ns] (T,).
        features: 'minute' of the hour, 'hour' of the day, 'weekday' from Monday on, 'day' of the month, 'month',
            'year_day'; minutes and hours have their fractions.
    """
    result = np.empty((len(times), 2 * len(features)))
    for start in range(0, len(times), _BLOCK):
        block = slice(start, start + _BLOCK)
        for number, feature in enumerate(features):
            angle = 2 * np.pi * _place_in_period(times[block], feature)
            result[block, 2 * number], result[block, 2 * number + 1] = np.sin(angle), np.cos(angle)
    return result


def _place_in_period(times: np.ndarray, feature: str) -> np.ndarray:
    """Return numbers in [0, 1)."""
    days = times.astype("datetime64[D]")
    if feature == "minute":
        return (times - times.astype("datetime64[h]")) / np.timedelta64(1, "h")
    if feature == "hour":
        return (times - days) / _DAY
    if feature == "weekday":
        return (days.astype(np.int64) + 3) % 7 / 7  # 1970-01-01 was a Thursday
    if feature == "month":
        return _months(days) % 12 / 12
    period = days.astype("datetime64[M]" if feature == "day" else "datetime64[Y]")
    first, end = period.astype("datetime64[D]"), (period + 1).astype("datetime64[D]")
    return (days - first) / (end - first)


def write_time(time: np.datetime64 | np.integer | int, date_format: str | None = None, zone: str = "") -> str:
    """Return the text of a time: ISO, with the fields that the format has; without one, those that are not zero.

    Args:
        time: as in `PanelSeries.times`.
        date_format: of the file the times come from; an ISO one is kept as it is.
        zone: what is written behind a time of the day, as 'Z' or '+01:00'.
    """
    if not isinstance(time, np.datetime64):
        return str(int(time))
    text = str(time.astype("datetime64[ns]"))  # 2016-07-01T13:00:00.000000000
    date, clock, fraction = text[:10], text[11:19], text[20:].rstrip("0")
    fields = date_format or ""
    if "%q" in fields:
        return f"{date[:4]}Q{(int(date[5:7]) + 2) // 3}"
    if "%V" in fields:
        return time.astype("datetime64[D]").item().strftime("%G-W%V")
    is_known = date_format is not None and date_format not in ("unix", "ISO8601")
    if is_known and not re.search("%[mbBj]", fields):
        return date[:4]
    if is_known and not re.search("%[dj]", fields):
        return date[:7]
    if not fraction and (not re.search("%[HI]", fields) if is_known else clock == "00:00:00"):
        return date
    if is_known and "%S" not in fields and not fraction and clock.endswith(":00"):
        clock = clock[:5]
    return f"{date}{'T' if '%dT' in fields else ' '}{clock}{'.' + fraction if fraction else ''}{zone}"


def _most_common(values: np.ndarray) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _months(days: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[M]").astype(np.int64)


def _day_of_month(days: np.ndarray) -> np.ndarray:
    return (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1


def _is_month_end(days: np.ndarray) -> np.ndarray:
    return (days + _DAY).astype("datetime64[M]") != days.astype("datetime64[M]")
