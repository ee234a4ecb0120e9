"""What the user says of a table of series: which columns play which part, and how the file is written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rnnlab.data.checks import check_choice, check_encoding

MISSING = ("refuse", "hold", "linear", "mask")
CALENDAR = ("minute", "hour", "weekday", "day", "month", "year_day")


class TableForm(NamedTuple):
    """Columns and format of a table; what is None is found out where the table is read.

    `Panel.form` is this completed with what was found out about the meaning of the columns. Read a later table of the
    same kind with that one: its columns, categories and dates then mean what they meant in training.

    Attributes:
        targets: columns to forecast; None: all numbers that nothing else names.
        past_covariates: columns known of the past alone.
        known_covariates: columns known of the future too.
        static_columns: columns that are constant of a series: numbers as they are, text as one column of zeros and ones
            for each category; they become known covariates.
        series_column: tells series apart that lie in one table, in any order of rows among them; None: one series.
        time_column: when each row was; None: rows are counted.
        frequency: of the times, as 'h', '15min', 'D', 'B' (business days), 'W', 'M', 'Q' or 'Y'; a whole number where
            times are whole numbers.
        calendar: what else is known of a time, each as a sine and a cosine: 'minute' of the hour, 'hour' of the day,
            'weekday', 'day' of the month, 'month', 'year_day'.
        missing: what is done about missing values and missing rows. 'refuse': nothing; 'hold': the last value stands
            for them; 'linear': a line between their neighbours, of which the
            one behind may be of validation or test; 'mask': targets stay missing, covariates are held.
        separator: between cells, one character.
        decimal: sign before decimals, '.' or ','.
        thousands: sign between groups of three digits; '' for none.
        encoding: of the text, as Python names it.
        date_format: of the times, as '%d/%m/%Y %H:%M'; besides strftime's, '%q' is the quarter; 'unix': seconds, or
            thousandths and so on, since 1970.
        categories: of the static columns of text.
    """

    targets: Sequence[str] | None = None
    past_covariates: Sequence[str] = ()
    known_covariates: Sequence[str] = ()
    static_columns: Sequence[str] = ()
    series_column: str | None = None
    time_column: str | None = None
    frequency: str | None = None
    calendar: Sequence[str] = ()
    missing: str = "refuse"
    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    date_format: str | None = None
    categories: Mapping[str, Sequence[str]] | None = None

    @property
    def roles(self) -> dict[str, list[str]]:
        """Columns by what they are named as."""
        return {
            "targets": list(self.targets or ()),
            "past_covariates": list(self.past_covariates),
            "known_covariates": list(self.known_covariates),
            "static_columns": list(self.static_columns),
            "series_column": [] if self.series_column is None else [self.series_column],
            "time_column": [] if self.time_column is None else [self.time_column],
        }

    @property
    def used(self) -> list[str]:
        """All columns that are named."""
        return [column for columns in self.roles.values() for column in columns]


def check_form(form: TableForm) -> TableForm:
    """Return a form whose names are lists of text, or raise ValueError if it contradicts itself."""
    form = form._replace(
        past_covariates=_names(form.past_covariates),
        known_covariates=_names(form.known_covariates),
        static_columns=_names(form.static_columns),
        targets=None if form.targets is None else _names(form.targets),
        calendar=_names(form.calendar),
        frequency=None if form.frequency is None else str(form.frequency),
        separator={"tab": "\t", "\\t": "\t"}.get(form.separator or "", form.separator),
        series_column=None if form.series_column is None else str(form.series_column),
        time_column=None if form.time_column is None else str(form.time_column),
    )
    if form.targets == []:
        raise ValueError("targets must name a column, or be null: all numbers that nothing else names; got none")
    used: dict[str, str] = {}
    for role, columns in form.roles.items():
        for column in columns:
            if column in used:
                twice = "twice" if used[column] == role else f"in {used[column]} too"
                raise ValueError(f"column {column!r} of {role} is named {twice}")
            used[column] = role
    for feature in form.calendar:
        check_choice("calendar", feature, CALENDAR)
    if len(set(form.calendar)) < len(form.calendar):
        raise ValueError(f"calendar names a feature twice: {', '.join(form.calendar)}")
    if form.calendar and form.time_column is None:
        raise ValueError(f"calendar={', '.join(form.calendar)} needs a time_column")
    if form.frequency is not None and form.time_column is None:
        raise ValueError(f"frequency={form.frequency} is that of times, and there is no time_column")
    check_choice("missing", form.missing, MISSING)
    if form.separator is not None and len(form.separator) != 1:
        raise ValueError(f"separator must be one character, or tab, got {form.separator!r}")
    if form.decimal is not None:
        check_choice("decimal", form.decimal, (".", ","))
    if form.thousands is not None and (len(form.thousands) > 1 or form.thousands.isalnum()):
        raise ValueError(f"thousands must be one sign, or '' for none, got {form.thousands!r}")
    if form.thousands and form.thousands == form.decimal:
        raise ValueError(f"thousands and decimal must differ, got {form.thousands!r} for both")
    if form.encoding is not None:
        check_encoding(form.encoding)
    return form


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about a name that is none of `names`: those there are, and the nearest."""
    names = list(names)
    close = difflib.get_close_matches(name, names, 1) or [one for one in names if one.lower() == name.lower()]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"there are {shown}" + (f"; did you mean {close[0]!r}?" if close else "")


def _names(given: Sequence[str] | str | int | None) -> list[str]:
    """Return names as a list; one alone may stand for itself, and YAML takes 2016 for a number."""
    if given is None:
        return []
    return [str(given)] if isinstance(given, str | int) else [str(name) for name in given]
