"""How a table of text is written: encoding, separator, decimal sign, sign between thousands. Found out, or refused."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

MISSING_CELLS = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None")
_SEPARATORS = (",", ";", "\t", "|", " ")
_BLOCK = 1 << 20
_GROUPED = re.compile(r"(?P<first>\d{1,3})(?P<mark>[.,'’ \u00a0\u202f])\d{3}(?P<more>(?:(?P=mark)\d{3})*)"
                      r"(?P<rest>(?P<decimal>[.,])\d*)?")  # fmt: skip
_FRACTION = re.compile(r"\d*(?P<decimal>[.,])\d*(?:[eE][+-]?\d+)?")
_VALUE = re.compile(r"[+-]?[\d.,'’ \u00a0\u202f]*\d[\d.,]*(?:[eE][+-]?\d+)?\s?%?")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}(\1\d{1,4})?([ T]\d.*)?|\d{4}[- ]?[QW]\d\d?|\d\d?:\d\d(:\d\d)?")


def open_bytes(file: Path) -> BinaryIO:
    """Open a file, unpacked if it begins as gzip does."""
    with file.open("rb") as content:
        is_packed = content.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(file, "rb") if is_packed else file.open("rb"))


def open_text(file: Path, encoding: str) -> TextIO:
    """Open the text of a file, plain or packed by gzip, with its own line ends, without byte order mark."""
    name = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return io.TextIOWrapper(open_bytes(file), encoding=name, newline="")


class Encoding(NamedTuple):
    """Attributes:
    name: as Python names it.
    note: what is to be told of it, None if it was given.
    num_quotes: how many double quotes the text has.
    """

    name: str
    note: str | None
    num_quotes: int


def find_encoding(file: Path, given: str | None) -> Encoding:
    """Return the encoding of a text.

    Raises:
        ValueError: the text is not in the given encoding, with the line of the first such byte; or cannot be unpacked.
    """
    try:
        with open_bytes(file) as content:
            head = content.read(4)
        name, note = given or "utf-8", None if given else "encoding: utf-8"
        if given is None and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            name, note = "utf-16", "encoding: utf-16, by its byte order mark"
        line, num_quotes = _decode(file, name)
        if line is not None and (given is not None or name == "utf-16"):
            raise ValueError(f"{file}:{line}: is not {name}; encoding=NAME says what it is, as latin-1 or cp1252")
        if line is not None:
            found = "cp1252" if _decode(file, "cp1252")[0] is None else "latin-1"
            name, note = found, f"encoding: {found}, since line {line} is not utf-8"
            _, num_quotes = _decode(file, found)
        return Encoding(name, note, num_quotes)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None


def _decode(file: Path, encoding: str) -> tuple[int | None, int]:
    """Return the line in which a text is no longer in this encoding, None if it is all along; and its double quotes."""
    decoder, line, num_quotes = codecs.getincrementaldecoder(encoding)(), 1, 0
    with open_bytes(file) as content:
        while True:
            block = content.read(_BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                start = error.start if isinstance(error, UnicodeDecodeError) else 0
                return line + block.count(b"\n", 0, start), num_quotes
            line, num_quotes = line + text.count("\n"), num_quotes + text.count('"')
            if not block:
                return None, num_quotes


def split_rows(lines: Iterable[str], separator: str, is_whole: bool = False) -> Any:
    """Return a reader of the rows of a text, with its `line_num`; cells are stripped by whoever takes them.

    The end of a text that is whole closes no quotation.
    """
    return csv.reader(lines, delimiter=separator, strict=is_whole)


def find_separator(text: str, decimal: str | None) -> str:
    """Return the sign that parts the most rows as it parts the header, and the most cells into numbers and dates."""
    best, best_score = None, (0.0, 0.0, 0)
    for separator in _SEPARATORS:
        try:
            rows = [row for row in split_rows(io.StringIO(text, newline=""), separator) if row]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        alike = [row for row in rows[1:] if len(row) == width]
        cells = [cell.strip() for row in alike for cell in row]
        values = sum(not cell or _looks_like_value(cell) for cell in cells)
        share = len(alike) / max(1, len(rows) - 1)
        score = (round(share, 1), values / max(1, len(cells)) - (separator == decimal), -_SEPARATORS.index(separator))
        if (len(rows) == 1 or share > 0) and (best is None or score > best_score):
            best, best_score = separator, score
    # A table of one column has no separator: one that it does not hold.
    return best or next((sign for sign in _SEPARATORS[:4] if sign not in text), "\x1f")


def is_date(cell: str) -> bool:
    """Return whether a cell looks like a date or a time of the day."""
    return _DATE.fullmatch(cell) is not None


def _looks_like_value(cell: str) -> bool:
    return _VALUE.fullmatch(cell) is not None or is_date(cell)


def is_header(cells: Sequence[str]) -> bool:
    """Return whether the first row of a table may hold names; whole numbers that count from 0 or 1 are names."""
    names = [cell for cell in cells if cell]
    counts = [[str(start + place) for place in range(len(names))] for start in (0, 1)]
    return not all(_looks_like_value(name) for name in names) or names in counts


def find_signs(columns: dict[str, list[str]], decimal: str | None, thousands: str | None) -> tuple[str, str]:
    """Return the decimal sign and the sign between thousands ('': none) of numbers.

    '1.234' alone is taken for a decimal number; '1,234' alone is refused, unless another cell or the caller decides.

    Args:
        columns: cells by name of the column; those that are no numbers say nothing.
        decimal, thousands: what was given.

    Raises:
        ValueError: cells contradict each other, or none decides.
    """
    decimals: dict[str, str] = {}
    groups: dict[str, str] = {}
    unclear: dict[str, str] = {}  # by sign, the first cell that shows it
    for name, cells in columns.items():
        for cell in cells:
            digits = cell.strip().rstrip("%").strip().lstrip("+-")
            shown = f"{cell.strip()!r} of column {name!r}"
            if (match := _GROUPED.fullmatch(digits)) is not None and match["decimal"] != match["mark"]:
                mark = match["mark"]
                if match["decimal"]:
                    decimals.setdefault(match["decimal"], shown)
                    groups.setdefault(mark, shown)
                elif match["more"] or mark not in ".,":
                    groups.setdefault(mark, shown)
                else:
                    (decimals if match["first"] == "0" else unclear).setdefault(mark, shown)
            elif (match := _FRACTION.fullmatch(digits)) is not None and any(map(str.isdigit, digits)):
                decimals.setdefault(match["decimal"], shown)
    if decimal is None:
        options = set(decimals) - {thousands}
        if len(options) > 1:
            raise ValueError(f"decimal sign: {decimals['.']} and {decimals[',']}; decimal=. or decimal=, says which")
        if options:
            (decimal,) = options
        elif thousands in (".", ","):
            decimal = "," if thousands == "." else "."
        elif thousands is None and set(groups) & {".", ","}:
            decimal = "," if "." in groups else "."
        elif "," in unclear:
            raise ValueError(
                f"{unclear[',']} may be a decimal number or thousands: decimal=, or thousands=, says which"
            )
        else:
            decimal = "."
    if thousands is None:
        marks = (set(groups) | set(unclear)) - {decimal}
        if len(marks) > 1:
            raise ValueError(f"thousands: {' and '.join((groups | unclear)[mark] for mark in sorted(marks))}")
        thousands = marks.pop() if marks else ""
        if decimal in groups:
            raise ValueError(
                f"{groups[decimal]} has {decimal!r} between thousands, and it is the decimal sign"
                + (f" of {decimals[decimal]}" if decimal in decimals else "")
            )
    return decimal, thousands
