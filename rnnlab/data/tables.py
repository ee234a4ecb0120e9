"""A table of series, CSV or Parquet, as a `Panel`; needs the extra `forecast`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab.data.clock import (
    calendar_features,
    calendar_names,
    count_steps,
    following,
    infer_step,
    parse_frequency,
    write_time,
)
from rnnlab.data.gaps import count_rows, fill, first_missing
from rnnlab.data.panel import Panel, PanelSeries
from rnnlab.data.table_csv import CSVFile
from rnnlab.data.table_file import release
from rnnlab.data.table_files import open_table
from rnnlab.data.table_form import TableForm, check_form, nearest
from rnnlab.data.table_parquet import ParquetFile
from rnnlab.data.time_texts import read_times

_MANY = 100_000  # steps, by which a frequency is found out

__all__ = ["TableForm", "read_table"]


def read_table(path: str | Path, form: TableForm, ahead: int = 0) -> Panel:
    """Return the series of a table, sorted by name (whole numbers by size).

    Rows at the end of a series without any target are of the future: of them times and known covariates are kept.

    Args:
        path: CSV, plain or '.gz', or Parquet; a relative path is tried as given, then under RNNLAB_DATA.
        form: columns and format.
        ahead: how many rows there shall be at least behind the last target of each series. Those that the table lacks
            get their times and what the calendar says of them; other known covariates only with missing='hold'.

    Raises:
        ValueError: the form contradicts itself or the table, the format is ambiguous, times are missing, repeated, out
            of order or not equally spaced, or values are missing that the policy has none for; with line and column.
    """
    form = check_form(form)
    table = open_table(path, form)
    for role, columns in form.roles.items():
        table.check_names(columns, role)
    return _Reader(table, _with_targets(table, form)).read(ahead)


def _with_targets(table: CSVFile | ParquetFile, form: TableForm) -> TableForm:
    """Return the form with names of targets, and of the static columns of text; say which were found."""
    if form.targets is None:
        targets = table.number_columns(form.used)
        if not targets:
            left = [name for name in table.names if name and name not in form.used]
            raise ValueError(
                f"{table.file}: no column of numbers is left for targets; "
                + (f"{', '.join(left)} hold text" if left else "all columns are named as something else")
            )
        table.notes.append(f"targets: {_shown(targets)}")
        unused = [f"column {place} (no name)" for place, name in enumerate(table.names, start=1) if not name]
        unused += [f"{name} (text)" for name in table.names if name and name not in (*targets, *form.used)]
        if unused:
            table.notes.append(f"left out: {_shown(unused)}")
        form = form._replace(targets=targets)
    if form.time_column is None:
        for name in [name for name in table.names if name and name not in form.used and table.is_time(name)][:1]:
            table.notes.append(f"rows are counted; time_column={name} says that column {name!r} is their time")
    if form.categories is None:
        words = [name for name in form.static_columns if not table.is_number(name)]
        form = form._replace(categories={name: [] for name in words})
    return form


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


class _Reader:
    """One reading of a table: its columns in the order of the series, and the place of each row in the file."""

    def __init__(self, table: CSVFile | ParquetFile, form: TableForm) -> None:
        self.table, self.form = table, form
        self.words = {name: list(words) for name, words in (form.categories or {}).items()}
        self.targets = list(form.targets or ())
        self.numbers = [name for name in form.static_columns if name not in self.words]
        names = [*self.targets, *form.past_covariates, *form.known_covariates, *self.numbers]
        texts = [name for name in (form.series_column, *self.words) if name is not None]
        times = [] if form.time_column is None else [form.time_column]
        self.values, self.columns = table.read(names, texts, times)
        self.num_rows = len(self.values)
        self.counts: dict[str, int] = {}  # of what is to be told, over all series

    def read(self, ahead: int) -> Panel:
        names, codes = self._series()
        is_sorted = (codes[1:] >= codes[:-1]).all()
        self.order = None if is_sorted else np.argsort(codes, kind="stable")  # rows of the file, by series
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))])
        self.times, date_format, self.zone = self._times()
        self.form = self.form._replace(date_format=date_format or self.form.date_format)
        self.jumps = self._steps()
        self.codes = {name: self._word_codes(name) for name in self.words}
        if self.order is not None:
            for column in self.values.T:  # one by one, so that they are never there twice
                column[:] = column[self.order]
        borders = np.cumsum([len(self.targets), len(self.form.past_covariates), len(self.form.known_covariates)])
        self.target, self.past, self.known, self.static = np.split(self.values, borders, axis=1)
        ends = zip(names, self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)
        series = [self._one(name, start, stop, ahead) for name, start, stop in ends]
        for note, count in self.counts.items():
            self._tell(f"{note}: {count}")
        known_names = [*self.form.known_covariates, *self.numbers]
        known_names += [f"{name}={word}" for name, words in self.words.items() for word in words]
        known_names += calendar_names(self.form.calendar)
        for name in known_names:
            if known_names.count(name) > 1:
                raise ValueError(f"{self.table.file}: two known covariates would be named {name!r}")
        form = self.form._replace(targets=self.targets, categories=self.words)
        if isinstance(self.table, CSVFile):
            form = form._replace(decimal=self.table.decimal, thousands=self.table.thousands)
        past_names = list(self.form.past_covariates)
        return Panel(series, self.targets, past_names, known_names, self.table.notes, form, self.zone)

    def _tell(self, note: str) -> None:
        self.table.notes.append(note)

    def _row(self, position: int) -> int:
        """Return which row of the file is at a place in the order of the series."""
        return position if self.order is None else int(self.order[position])

    def _place(self, position: int, column: str) -> str:
        return self.table.place(self._row(position), column)

    # Series.

    def _series(self) -> tuple[list[str], np.ndarray]:
        """Return the names of the series, sorted, and the number of that of each row."""
        column = self.form.series_column
        if column is None:
            return [""], np.zeros(self.num_rows, dtype=np.int8)
        found, codes = _categories(self.columns.pop(column))
        if "" in found:
            row = int(np.argmax(codes == found.index("")))
            raise ValueError(f"{self.table.place(row, column)}: the name of the series is missing")
        is_whole = all(name.isdecimal() for name in found)
        order = sorted(range(len(found)), key=lambda code: (int(found[code]) if is_whole else 0, found[code]))
        ranks = np.empty(len(found), dtype=np.int64)
        ranks[order] = np.arange(len(found))
        return [found[code] for code in order], ranks[codes]

    # Times.

    def _times(self) -> tuple[np.ndarray, str | None, str]:
        """Return the times in the order of the series, how they are written, and their zone."""
        column = self.form.time_column
        if column is None:
            counts = np.arange(1, self.num_rows + 1)
            return counts - np.repeat(self.starts[:-1], np.diff(self.starts)), None, ""
        release()
        times = read_times(self.table, column, self.columns.pop(column), self.form.date_format)
        release()
        for note in times.notes:
            self._tell(note)
        if self.form.calendar and times.values.dtype.kind == "i":
            raise ValueError(
                f"{self.table.file}: calendar={', '.join(self.form.calendar)} needs dates, and column {column!r} holds "
                "whole numbers; date_format=%Y or date_format=unix may say what they are"
            )
        values = times.values if self.order is None else times.values[self.order]
        return values, times.date_format, times.zone

    def _steps(self) -> np.ndarray | None:
        """Return how many steps each row (rows,) is behind the one before it; None if all are 1 behind.

        Times that are not equally spaced are refused; missing rows are left to the policy, unless it refuses.
        """
        column = self.form.time_column
        if column is None:
            return None
        before, after = self.times[:-1], self.times[1:]
        is_pair = np.ones(len(before), dtype=bool)  # of one series
        is_pair[self.starts[1:-1] - 1] = False
        for position in 1 + np.flatnonzero((after <= before) & is_pair)[:1]:
            problem = "repeats" if self.times[position] == self.times[position - 1] else "lies before"
            hint = self._clock_hint(position)
            if not hint and self.form.series_column is None and problem == "repeats":
                hint = "; series_column=NAME says which column tells series apart, if there are several"
            raise ValueError(
                f"{self._place(position, column)}: {self._time(position)} {problem} the time of the row before"
                f"{self._whose(position)}{hint}"
            )
        if self.form.frequency is None:
            pairs = np.flatnonzero(is_pair)[:_MANY]
            if not len(pairs):
                raise ValueError(f"{self.table.file}: one row has no frequency; frequency=D, for example, gives it")
            frequency = str(infer_step(before[pairs], after[pairs]))
            self._tell(f"frequency: {frequency}")
            self.form = self.form._replace(frequency=frequency)
        step = parse_frequency(self.form.frequency or "")
        is_count = self.times.dtype.kind == "i"
        if is_count != (step.unit == ""):
            kind = "whole numbers" if is_count else "dates"
            raise ValueError(f"{self.table.file}: frequency={step} is not one of column {column!r}, which holds {kind}")
        steps = np.where(is_pair, count_steps(before, after, step), 1)
        allowed = steps == 1 if self.form.missing == "refuse" else steps >= 1
        for place in np.flatnonzero(~allowed)[:1]:
            position, missing = int(place) + 1, int(steps[place]) - 1
            between = f"{self._time(position - 1)} and {self._time(position)}{self._whose(position)}"
            if missing > 0:
                rows = "a row is" if missing == 1 else f"{missing} rows are"
                raise ValueError(
                    f"{self._place(position, column)}: {rows} missing between {between}, at frequency {step}; "
                    f"missing=hold, linear or mask fills them{self._clock_hint(position)}"
                )
            raise ValueError(
                f"{self._place(position, column)}: the step between {between} is no multiple of frequency {step}"
            )
        return None if (steps == 1).all() else np.concatenate([[1], steps])

    def _clock_hint(self, position: int) -> str:
        """Return the end of a message about a row on a Sunday night in spring or autumn, of times without a zone."""
        time = self.times[position]
        if self.zone or self.times.dtype.kind == "i" or time.astype("datetime64[D]").item().weekday() != 6:
            return ""
        is_night = time - time.astype("datetime64[D]") < np.timedelta64(4, "h")
        is_change = time.astype("datetime64[M]").item().month in (3, 4, 9, 10, 11)
        return "; if the clocks changed, times need their zone, as 02:00+01:00" if is_night and is_change else ""

    def _time(self, position: int) -> str:
        return repr(write_time(self.times[position], self.form.date_format))

    def _whose(self, position: int) -> str:
        column = self.form.series_column
        if column is None:
            return ""
        return f" of series {self.table.cell(self._row(position), column)!r}"

    # Values.

    def _word_codes(self, name: str) -> np.ndarray:
        """Return the category of each row in the order of the series, -1 where it is missing; learn them if new."""
        found, codes = _categories(self.columns.pop(name))
        words = self.words[name] = self.words[name] or sorted(word for word in found if word)
        known = {word: place for place, word in enumerate(words)}
        for place, word in enumerate(found):
            if word and word not in known:
                row = int(np.argmax(codes == place))
                raise ValueError(
                    f"{self.table.place(row, name)}: {word!r} is no category that is known; {nearest(word, words)}"
                )
        places = np.array([known.get(word, -1) for word in found])
        return places[codes if self.order is None else codes[self.order]]

    def _one(self, name: str, start: int, stop: int, ahead: int) -> PanelSeries:
        """Return the series of the rows from `start` to `stop`."""
        constant = self._constants(name, start, stop)
        times, places = self._all_times(start, stop)
        target, past, known = (_spread(values[start:stop], places) for values in (self.target, self.past, self.known))
        positions = places + start
        if len(positions) < len(times):
            positions = positions[np.searchsorted(places, np.arange(len(times)))]  # of a missing row: that behind it
        whose = f" of series {name!r}" if name else ""
        num_rows = count_rows(target)
        if not num_rows:
            raise ValueError(f"{self.table.file}: target {self.targets[0]!r}{whose} has no value")
        if self.form.time_column is None and not known.shape[1]:
            times = times[:num_rows]  # nothing is known of what follows, as of blank lines
        num_future = len(times) - num_rows
        self._count("rows missing in time, filled", places[-1] + 1 - (stop - start))
        self._count("rows at the end without targets, which are of the future", num_future)
        target = self._filled(target[:num_rows], self.targets, positions, self.form.missing, whose)
        known = known[: len(times)]
        policy = "hold" if self.form.missing == "mask" else self.form.missing
        past = self._filled(past[:num_rows], self.form.past_covariates, positions, policy, whose)
        known = self._filled(known, self.form.known_covariates, positions, policy, whose)
        if ahead > num_future:
            more = ahead - num_future
            if known.shape[1] and self.form.missing != "hold":
                raise ValueError(
                    f"{self.table.file}: forecasts of {ahead} steps need {', '.join(self.form.known_covariates)} of "
                    f"{ahead} rows behind the last target{whose}, got {num_future}; missing=hold repeats the last"
                )
            if known.shape[1]:
                self._count("rows ahead of the table, of which known covariates are held", more)
            times = np.concatenate([times, following(times, self.form.frequency or "1", more)])
            known = np.concatenate([known, np.repeat(known[-1:], more, axis=0)])
        middle = known.shape[1] + len(constant)
        columns = np.empty((len(times), middle + 2 * len(self.form.calendar)))
        columns[:, : known.shape[1]], columns[:, known.shape[1] : middle] = known, constant
        columns[:, middle:] = calendar_features(times, self.form.calendar)
        return PanelSeries(name, times, target, past, columns)

    def _count(self, note: str, count: int) -> None:
        if count:
            self.counts[note] = self.counts.get(note, 0) + count

    def _all_times(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the times of a series, those of missing rows too, and the places of the rows that are there."""
        times = self.times[start:stop]
        if self.jumps is None:
            return times, np.arange(stop - start)
        jumps = self.jumps[start:stop]
        places = np.cumsum(jumps) - 1
        result = np.empty(places[-1] + 1, dtype=times.dtype)
        result[places] = times
        for row in np.flatnonzero(jumps > 1):
            between = slice(places[row - 1] + 1, places[row])
            result[between] = following(times[:row], self.form.frequency or "", jumps[row] - 1)
        return result, places

    def _constants(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return what is constant of a series (num_static,): numbers, then zeros and ones of categories."""
        result = []
        for place, column in enumerate(self.numbers):
            result.append(self._constant(column, name, self.static[start:stop, place], np.nan, start))
        for column, words in self.words.items():
            code = self._constant(column, name, self.codes[column][start:stop], -1, start)
            result += [float(code == place) for place in range(len(words))]
        return np.array(result, dtype=np.float64)

    def _constant(self, column: str, name: str, values: np.ndarray, missing: float, start: int) -> float:
        is_known = ~np.isnan(values) if np.isnan(missing) else values != missing
        whose = f" of series {name!r}" if name else ""
        if not is_known.any():
            raise ValueError(f"{self.table.file}: static column {column!r}{whose} has no value")
        first = values[is_known.argmax()]
        for row in np.flatnonzero(is_known & (values != first))[:1]:
            before = self.table.cell(self._row(start + is_known.argmax()), column)
            got = self.table.cell(self._row(start + row), column)
            raise ValueError(
                f"{self._place(start + row, column)}: a static column is constant{whose}, got {got!r} after {before!r}"
            )
        return float(first)

    def _filled(
        self, values: np.ndarray, names: Sequence[str], positions: np.ndarray, policy: str, whose: str
    ) -> np.ndarray:
        """Return values (T, C) of columns of one series without gaps, but for those of policy 'mask'."""
        is_missing = np.isnan(values)
        if not is_missing.any():
            return values
        for place in np.flatnonzero(is_missing.all(axis=0))[:1]:
            raise ValueError(f"{self.table.file}: column {names[place]!r}{whose} has no value")
        result = fill(values, policy)
        told = {"hold": "held", "linear": "on a line", "mask": "masked"}.get(policy, "")
        for place, count in enumerate(is_missing.sum(axis=0).tolist()):
            self._count(f"missing values of column {names[place]!r}, {told}", count)
        missing = None if policy == "mask" else first_missing(result)
        if missing is not None:
            row, place = missing
            position = int(positions[row])
            cell = self.table.cell(self._row(position), names[place])
            reason = {
                "refuse": "; missing=hold, linear or mask says what stands for it",
                "hold": ", and there is none before it to hold",
                "linear": ", and a line needs one on both sides",
            }[policy]
            shown = f" ({cell!r})" if cell else ""
            raise ValueError(f"{self._place(position, names[place])}: the value is missing{shown}{reason}")
        return result


def _categories(column: Any) -> tuple[list[str], np.ndarray]:
    """Return the texts of a pyarrow dictionary column, stripped, and the number (rows,) of that of each row."""
    column = column.unify_dictionaries()
    texts = [text.strip() for text in column.chunk(0).dictionary.to_pylist()]
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    found = {text: place for place, text in enumerate(sorted(set(texts)))}
    return list(found), np.array([found[text] for text in texts])[codes]


def _spread(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return values (T, C) at their places among rows of NaN."""
    if len(values) == places[-1] + 1:
        return values
    result = np.full((places[-1] + 1, values.shape[1]), np.nan)
    result[places] = values
    return result
