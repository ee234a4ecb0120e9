"""Times of a column of a table: how they are written is found out, or refused where two readings are possible."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.table_csv import CSVFile
from rnnlab.data.table_file import load
from rnnlab.data.table_parquet import ParquetFile

_CLOCK = r"(?:(?P<mark>[ T])\d\d?:\d\d(?P<second>:\d\d(?P<fraction>\.\d+)?)?(?P<half> ?[AaPp][Mm])?)?"
# What a date looks like, and the formats it may have, in the order in which they are tried.
_DATES = {
    r"\d{4}-\d\d-\d\d": ["%Y-%m-%d"],
    r"\d{4}-\d\d": ["%Y-%m"],
    r"\d{4}/\d\d?/\d\d?": ["%Y/%m/%d"],
    r"\d{4}\.\d\d?\.\d\d?": ["%Y.%m.%d"],
    r"\d{4}/\d\d?": ["%Y/%m"],
    r"\d\d?/\d{4}": ["%m/%Y"],
    r"\d\d?-\d{4}": ["%m-%Y"],
    r"\d\d?\.\d{4}": ["%m.%Y"],
    r"\d\d?/\d\d?/\d{4}": ["%d/%m/%Y", "%m/%d/%Y"],
    r"\d\d?-\d\d?-\d{4}": ["%d-%m-%Y", "%m-%d-%Y"],
    r"\d\d?\.\d\d?\.\d{4}": ["%d.%m.%Y"],
    r"\d\d?/\d\d?/\d\d": ["%d/%m/%y", "%m/%d/%y"],
    r"\d\d?-\d\d?-\d\d": ["%d-%m-%y", "%m-%d-%y"],
    r"\d\d?\.\d\d?\.\d\d": ["%d.%m.%y"],
    r"\d\d? [A-Za-z]{3} \d{4}": ["%d %b %Y"],
    r"\d\d?-[A-Za-z]{3}-\d{4}": ["%d-%b-%Y"],
    r"\d\d?-[A-Za-z]{3}-\d\d": ["%d-%b-%y"],
    r"\d\d? [A-Za-z]{4,} \d{4}": ["%d %B %Y"],
    r"[A-Za-z]{3} \d\d?,? \d{4}": ["%b %d, %Y", "%b %d %Y"],
    r"[A-Za-z]{4,} \d\d?,? \d{4}": ["%B %d, %Y", "%B %d %Y"],
    r"[A-Za-z]{3} \d{4}": ["%b %Y"],
    r"[A-Za-z]{3}-\d{4}": ["%b-%Y"],
    r"[A-Za-z]{3}-\d\d": ["%b-%y"],
    r"[A-Za-z]{4,} \d{4}": ["%B %Y"],
    r"\d{4}[- ]?[Qq][1-4]": ["%YQ%q"],
    r"\d{4}-?W\d\d": ["%G-W%V"],
}
_LAYOUTS = {re.compile(rf"(?P<date>{date}){_CLOCK}"): formats for date, formats in _DATES.items()}
# Digits alone that are a date: of this century or the last.
_COMPACT = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# Whole numbers that may count parts of a second since 1970: the least of each unit, of 1973.
_EPOCHS = {10**17: "ns", 10**14: "us", 10**11: "ms", 10**8: "s"}
_ZONE = r"^(?P<text>.*\d\d:\d\d(?::\d\d(?:\.\d+)?)?) ?(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)$"
_WHOLE = r"^-?(\d{1,18}|[1-8]\d{18})$"
_HOW = "date_format=%d/%m/%Y says how, for example"


class Times(NamedTuple):
    """Times of the rows of a table.

    Attributes:
        values: datetime64[ns] or int64 (rows,).
        date_format: how they are written, None of numbers and of columns that are times already.
        zone: what is written behind them.
        notes: what was found out.
    """

    values: np.ndarray
    date_format: str | None
    zone: str
    notes: list[str]


def read_times(table: CSVFile | ParquetFile, name: str, column: Any, date_format: str | None) -> Times:
    """Return the times of a column, as pyarrow read it.

    Raises:
        ValueError: a cell is missing or no time, the format is unknown or ambiguous, or one cell alone has a zone.
    """
    pa, pc = load("pyarrow"), load("pyarrow.compute")
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"{table.place(row, name)}: the time is missing")
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = "" if getattr(column.type, "tz", None) is None else "Z"
        is_other = zone and column.type.tz.upper() not in ("UTC", "Z", "+00:00")
        notes = [f"time zone: {column.type.tz}; times are those of UTC"] if is_other else []
        try:
            return Times(_nanoseconds(column.to_numpy()), None, zone, notes)
        except ValueError as error:
            raise ValueError(f"{table.file}, column {name!r}: {error}") from None
    if pa.types.is_integer(column.type):
        return _from_numbers(table, name, column.to_numpy().astype(np.int64), date_format)
    if not pa.types.is_string(column.type):
        raise ValueError(f"{table.file}, column {name!r}: expected times, got {column.type}")

    cells = pc.utf8_trim_whitespace(column)
    row = pc.index(cells, "").as_py()
    if row >= 0:
        raise ValueError(f"{table.place(row, name)}: the time is missing")
    if date_format in (None, "unix") and pc.all(pc.match_substring_regex(cells, _WHOLE)).as_py():
        return _from_numbers(table, name, cells.cast(pa.int64()).to_numpy(), date_format)
    if date_format == "unix":
        row = pc.index(pc.match_substring_regex(cells, _WHOLE), False).as_py()
        raise ValueError(f"{table.place(row, name)}: expected a whole number, got {cells[row].as_py()!r}")
    return _from_texts(table, name, cells, date_format)


def _from_numbers(table: CSVFile | ParquetFile, name: str, values: np.ndarray, date_format: str | None) -> Times:
    """Return times of whole numbers: dates without signs, counts since 1970, or just numbers."""
    if date_format not in (None, "unix"):
        pa = load("pyarrow")
        return _from_texts(table, name, pa.chunked_array([pa.array(values).cast(pa.string())]), date_format)
    least, greatest = int(values.min()), int(values.max())
    digits = len(str(least))
    if (
        date_format is None
        and digits in _COMPACT
        and 19 <= least // 10 ** (digits - 2)
        and greatest < 2100 * 10 ** (digits - 4)
    ):
        pa = load("pyarrow")
        texts = pa.chunked_array([pa.array(values).cast(pa.string())])
        found = _parse(texts, _COMPACT[digits])
        if not np.isnat(found).any():
            return Times(found, _COMPACT[digits], "", [f"dates of column {name!r}: {_COMPACT[digits]}"])
    unit = next((unit for start, unit in _EPOCHS.items() if least >= start), None)
    if date_format == "unix":
        unit = unit or "s"
    if unit is None:
        return Times(values, None, "", [])
    notes = [] if date_format else [f"dates of column {name!r}: unix, {unit} since 1970 in UTC"]
    return Times(values.astype(f"datetime64[{unit}]").astype("datetime64[ns]"), "unix", "Z", notes)


def _from_texts(table: CSVFile | ParquetFile, name: str, cells: Any, date_format: str | None) -> Times:
    pc = load("pyarrow.compute")
    has_zone = pc.match_substring_regex(cells, _ZONE)
    notes: list[str] = []
    texts, zone, zones = cells, "", []
    if pc.any(has_zone).as_py():
        row = pc.index(has_zone, False).as_py()
        if row >= 0:
            first = pc.index(has_zone, True).as_py()
            raise ValueError(
                f"{table.place(row, name)}: {cells[row].as_py()!r} has no time zone, and {cells[first].as_py()!r} has"
            )
        parts = pc.extract_regex(cells, _ZONE)
        texts, ends = pc.struct_field(parts, "text"), pc.struct_field(parts, "zone")
        zones = pc.unique(ends).to_pylist()
        zone = zones[0] if len(zones) == 1 else "Z"
    found, values = _find_format(table, name, cells, texts, (date_format or "").replace("%z", "").strip() or None)
    if len(zones) > 1:
        numbers = pc.index_in(ends, load("pyarrow").array(zones)).to_numpy()
        values = values - np.array([_offset(one.replace(":", "")) for one in zones], dtype="timedelta64[m]")[numbers]
        notes.append(f"time zones of column {name!r}: {', '.join(sorted(zones))}; times are those of UTC")
    if date_format is None:
        notes.insert(0, f"dates of column {name!r}: {found}{'%z' if zone else ''}")
    return Times(values, found, zone, notes)


def _offset(zone: str) -> int:
    """Return by how many minutes a zone as '+0130' is ahead of UTC."""
    if zone in ("Z", "UTC"):
        return 0
    return int(f"{zone[0]}1") * (60 * int(zone[1:3]) + int(zone[3:5] or 0))


def _find_format(
    table: CSVFile | ParquetFile, name: str, cells: Any, texts: Any, given: str | None
) -> tuple[str, np.ndarray]:
    """Return the format of dates, and the times; `cells` is what is shown of them."""
    first = texts[0].as_py()
    formats = [given] if given is not None else _candidates(first)
    if not formats:
        how = "time_column=null counts rows" if re.fullmatch(r"-?\d*[.,]\d+", first) else _HOW
        raise ValueError(f"{table.place(0, name)}: expected a time, got {cells[0].as_py()!r}; {how}")
    failed: list[int] = []
    for date_format in formats:
        try:
            values = _parse(texts, date_format)
        except ValueError as error:
            raise ValueError(f"{table.file}, column {name!r}, date_format={date_format}: {error}") from None
        bad = np.flatnonzero(np.isnat(values))
        if not len(bad):
            if given is None and date_format != formats[-1]:
                _refuse_ambiguous(table, name, cells, values, formats)
            return date_format, values
        failed.append(int(bad[0]))
    row = max(failed)
    shown = formats[failed.index(row)]
    how = "" if given is not None else f"; {_HOW}"
    raise ValueError(f"{table.place(row, name)}: expected a time as {shown}, got {cells[row].as_py()!r}{how}")


def _candidates(text: str) -> list[str]:
    """Return the formats that a time may have."""
    for layout, formats in _LAYOUTS.items():
        if (match := layout.fullmatch(text)) is not None:
            clock = ""
            if match["mark"]:
                hour = "%I" if match["half"] else "%H"
                clock = f"{match['mark']}{hour}:%M" + (":%S" if match["second"] else "")
                clock += ".%f" if match["fraction"] else ""
                half = match["half"] or ""
                clock += (" %p" if half.startswith(" ") else "%p") if half else ""
            found = [date + clock for date in formats]
            # Fractions that are zero may be left out, and so may midnight.
            return [*found, "ISO8601"] if formats == ["%Y-%m-%d"] else found
    return []


def _refuse_ambiguous(
    table: CSVFile | ParquetFile, name: str, cells: Any, values: np.ndarray, formats: list[str]
) -> None:
    """Refuse dates that may be read in the order of day and month or the other way round."""
    if len(formats) < 2 or "%d" not in formats[0] or formats[1] == "ISO8601" or "%b" in formats[0].lower():
        return
    days = values.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day, month = (days - months).astype(np.int64) + 1, months.astype(np.int64) % 12 + 1
    differ = np.flatnonzero(day != month)
    if len(differ) and (day <= 12).all():
        row = int(differ[0])
        raise ValueError(
            f"{table.place(row, name)}: {cells[row].as_py()!r} may be two dates, and no row decides; say "
            f"date_format={formats[0]} or date_format={formats[1]}"
        )


def _parse(texts: Any, date_format: str) -> np.ndarray:
    """Return times of text, datetime64[ns], NaT where a text has another format."""
    pd, pa, pc = load("pandas"), load("pyarrow"), load("pyarrow.compute")
    if "%q" in date_format:
        is_quarter = pc.match_substring_regex(texts, r"^\d{4}[- ]?[Qq][1-4]$")
        texts = pc.if_else(is_quarter, texts, "")
        texts = pc.replace_substring_regex(texts, "[- ]?[Qq]", "-Q")
        for quarter, month in enumerate(("01", "04", "07", "10"), start=1):
            texts = pc.replace_substring(texts, f"-Q{quarter}", f"-{month}")
        date_format = "%Y-%m"
    elif "%V" in date_format and "%u" not in date_format:
        texts = pc.replace_substring_regex(texts, "-?W", "-W")
        texts, date_format = pc.binary_join_element_wise(texts, "1", "-"), "%G-W%V-%u"
    elif date_format.startswith("%Y-%m-%d") or date_format == "ISO8601":
        try:  # ten times as fast, where all is well
            values = texts.cast(pa.timestamp("ns")).to_numpy()
            if "%H" in date_format or date_format == "ISO8601" or (values == values.astype("datetime64[D]")).all():
                return values
        except pa.ArrowInvalid:
            pass
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    parsed = [pd.to_datetime(chunk.to_pandas(), format=date_format, errors="coerce") for chunk in chunks]
    return np.concatenate([_nanoseconds(part.to_numpy()) for part in parsed])


def _nanoseconds(values: np.ndarray) -> np.ndarray:
    """Return times in ns; ValueError if they are beyond them."""
    result = values.astype("datetime64[ns]")
    if (result.astype(values.dtype) != values)[~np.isnat(values)].any():
        raise ValueError("expected times from 1678 to 2261")
    return result
