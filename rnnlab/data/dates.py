"""Dates as people write them, each in many ways, and their ISO form: "3rd of May 2019" is 2019-05-03.

Years are those of a century at most, so that two digits tell which one is meant: '19 is 2019 where years begin at 1950.
What could be read as two days is never used: 3/5/2019 is left out, as May 3 or March 5, and 13/5/2019 and 5/5/2019 are
not. A weekday decides nothing here, for nobody looks it up to read a date.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnlab.baselines import copy
from rnnlab.data.checks import check_integer
from rnnlab.data.pair_rows import Pair
from rnnlab.data.pairs import PairData
from rnnlab.data.splits import part_of

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    "twentieth",
)
# Fields: Y 2019, y 19; M 05, m 5, month August, mon Aug, roman VIII; D 03, d 3, nth 3rd, third; weekday Friday, wd Fri.
FORMATS = (
    *("{Y}-{M}-{D}", "{Y}/{M}/{D}", "{Y}.{M}.{D}", "{Y}{M}{D}", "{Y} {mon} {d}", "{Y}, {month} {d}"),
    *("{D}.{M}.{Y}", "{d}.{m}.{Y}", "{d}.{m}.{y}", "{D}-{M}-{Y}", "{d}/{m}/{Y}", "{wd}, {d}/{m}/{Y}"),
    *("{M}/{D}/{Y}", "{m}/{d}/{y}", "{wd} {M}/{D}/{y}", "{D}{mon}{Y}", "{d}-{mon}-{y}", "{mon}-{D}-{Y}"),
    *("{d} {mon} {Y}", "{d} {month} {Y}", "{d}. {month} {Y}", "{d} {roman} {Y}", "{d}.{roman}.{Y}"),
    *("{wd} {d} {mon} {y}", "{weekday} {d} {month} {Y}", "{month} {d}, {Y}", "{mon}. {d}, {Y}", "{mon} {d} '{y}"),
    *("{month} {nth}, {Y}", "{weekday}, {month} {d}, {Y}", "{nth} {mon} '{y}", "{nth} of {month} {Y}"),
    *("the {nth} of {month}, {Y}", "{weekday}, the {nth} of {month} {Y}", "the {third} of {month} {Y}"),
    "{month} the {third}, {Y}",
)
# The orders in which three numbers are read, by what stands between them.
_ORDERS = {"/": ("ymd", "dmy", "mdy"), ".": ("ymd", "dmy"), "-": ("ymd", "dmy", "mdy")}
_NUMBERS = re.compile(r"\D*?(\d+)([/.-])(\d+)\2(\d+)")
_CASES = (str, str, str.lower, str.upper)  # every second date has its capitals where they belong


def fields(day: datetime.date) -> dict[str, Any]:
    """Return what the names in `FORMATS` stand for."""
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    return {
        **{"Y": day.year, "y": f"{day.year % 100:02}", "m": day.month, "M": f"{day.month:02}"},
        **{"d": day.day, "D": f"{day.day:02}", "month": month, "mon": month[:3], "roman": _ROMAN[day.month - 1]},
        **{"nth": f"{day.day}{_ending(day.day)}", "third": _ordinal(day.day), "weekday": weekday, "wd": weekday[:3]},
    }


def _ending(number: int) -> str:
    return "th" if 10 < number < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _ordinal(number: int) -> str:
    """Return 'first' of 1, up to 'thirty-first'."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    return "thirtieth" if number == 30 else f"{'twenty' if number < 30 else 'thirty'}-{_ORDINALS[number % 10 - 1]}"


def is_ambiguous(text: str, first_year: int) -> bool:
    """Return whether three numbers in a text can be read as two days or more; other dates cannot.

    Args:
        text: a date in one of `FORMATS`.
        first_year: of the hundred years that two digits stand for.

    Example:
        >>> is_ambiguous("Tue 05/03/19", 1950), is_ambiguous("Tue 05/13/19", 1950)
        (True, False)
    """
    match = _NUMBERS.fullmatch(text)
    return match is not None and len(_readings(match, first_year)) > 1


def _readings(match: re.Match[str], first_year: int) -> set[datetime.date]:
    """Return the days that three numbers can be."""
    found = set()
    for order in _ORDERS[match[2]]:
        numbers: Mapping[str, str] = dict(zip(order, match.group(1, 3, 4), strict=True))
        has_century = len(numbers["y"]) == 4
        if order == "ymd" and not has_century:  # no format begins with a year of two digits
            continue
        year = int(numbers["y"]) if has_century else first_year + (int(numbers["y"]) - first_year) % 100
        try:
            found.add(datetime.date(year, int(numbers["m"]), int(numbers["d"])))
        except ValueError:  # there is no such day
            continue
    return found


class DateData(PairData):
    """Dates as people write them (`FORMATS`, in three cases) and their ISO form, character by character.

    The days of train, validation and test differ, by a hash: 83, 2 and 15 percent of them. What is asked in validation
    and test are therefore days that training does not have in any form. No text comes twice.

    Args:
        num_train, num_val, num_test: dates of each part.
        first_year, last_year: of all days; a hundred years at most.
        corpus_seed: decides which days are written and how.
        max_tokens, eval_max_tokens, seed: see `PairData`.

    Raises:
        ValueError: an argument is out of range; in `setup`: there are not so many dates.
    """

    def __init__(
        self,
        num_train: int = 30_000,
        num_val: int = 1_500,
        num_test: int = 3_000,
        first_year: int = 1950,
        last_year: int = 2049,
        corpus_seed: int = 0,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 8_000,
        seed: int = 0,
    ) -> None:
        super().__init__(max_tokens=max_tokens, eval_max_tokens=eval_max_tokens, seed=seed)
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_dates = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        self.first_year = check_integer("first_year", first_year, 1000, 9899)
        self.last_year = check_integer("last_year", last_year, first_year, first_year + 99)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)

    def read_parts(self) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
        first = datetime.date(self.first_year, 1, 1)
        num_days = (datetime.date(self.last_year, 12, 31) - first).days + 1
        days: dict[str, list[datetime.date]] = {part: [] for part in self.num_dates}
        for day in (first + datetime.timedelta(days=number) for number in range(num_days)):
            days[part_of(day.isoformat(), test_percent=15, val_percent=2)].append(day)
        return {part: self._draw(part, days[part], stream) for stream, part in enumerate(days)}, {}

    def _draw(self, part: str, days: list[datetime.date], stream: int) -> list[Pair]:
        """Return dates of a part, each day in each format as likely, without repetition."""
        rng = np.random.default_rng([self.corpus_seed, stream])
        places = rng.permutation(len(days) * len(FORMATS))
        cases = rng.integers(len(_CASES), size=len(places))
        found: dict[str, datetime.date] = {}
        for place, case in zip(places.tolist(), cases.tolist(), strict=True):
            if len(found) == self.num_dates[part]:
                break
            day = days[place // len(FORMATS)]
            text = FORMATS[place % len(FORMATS)].format_map(fields(day))
            if not is_ambiguous(text, self.first_year):
                found[_CASES[case](text)] = day
        if len(found) < self.num_dates[part]:
            raise ValueError(
                f"num_{part} must be at most {len(found)}, the dates of {part} from {self.first_year} to "
                f"{self.last_year}, got {self.num_dates[part]}"
            )
        return [Pair(tuple(text), (tuple(day.isoformat()),)) for text, day in found.items()]

    def baselines(self) -> dict[str, float]:
        """Return how often a date is in ISO form already: 'baseline/copy/<part>/exact_match'."""
        self.setup()
        return self.score_baseline("copy", copy)
