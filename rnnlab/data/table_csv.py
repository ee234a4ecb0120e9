"""Columns of a CSV file, read by pyarrow; every complaint names the line and the column.

Nothing here loops over rows, but for the place of a complaint: then the file is read once more.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rnnlab.data.table_file import TableFile, load
from rnnlab.data.table_form import TableForm
from rnnlab.data.table_format import (
    MISSING_CELLS,
    find_encoding,
    find_separator,
    find_signs,
    is_date,
    is_header,
    open_bytes,
    open_text,
    split_rows,
)

_SAMPLE = 1 << 18  # characters by which a format is found out
_SHOWN = 60  # characters of a cell in a message
_BOOLEANS = {"true": "1", "false": "0"}
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


class CSVFile(TableFile):
    """A table of text; see `TableForm` for what may be said of its format."""

    def __init__(self, file: Path, form: TableForm) -> None:
        self.file = file
        self.encoding, note, num_quotes = find_encoding(file, form.encoding)
        self.notes = [note] if note else []
        with open_text(file, self.encoding) as content:
            head = content.read(_SAMPLE)
            while head.count("\n") < 3 and (more := content.read(_SAMPLE)):  # thousands of columns
                head += more
            is_cut = bool(content.read(1))
        if "\0" in head:
            raise ValueError(f"{file}: holds zero bytes; encoding=utf-16-le or utf-16-be may say what it is")
        if not head.strip():
            raise ValueError(f"{file}: is empty")
        head = head[: head.rindex("\n") + 1] if is_cut and "\n" in head else head
        try:
            self.separator = form.separator or find_separator(head, form.decimal)
            rows = [[cell.strip() for cell in row] for row in split_rows(io.StringIO(head, newline=""), self.separator)]
        except csv.Error as error:
            raise ValueError(f"{file}: cannot be read as CSV: {error}") from None
        self.names = rows[0]
        if not any(self.names):
            raise ValueError(f"{file}:1: the first line should name the columns, it is blank")
        if not is_header(self.names):
            raise ValueError(f"{file}:1: the first line should name the columns, got {', '.join(self.names[:5])}")
        if num_quotes % 2:
            self._check_rows()  # a quotation that is not closed takes in all rows behind it
        width = len(self.names)
        if form.separator is None and width > 1:
            self.notes.append(f"separator: {'tab' if self.separator == chr(9) else repr(self.separator)}")
        whole = rows[1:-1] if is_cut else rows[1:]
        sample = [row for row in whole if len(row) == width]
        if not sample:
            self._check_rows()
            raise ValueError(f"{file}: has a header and no rows")
        self._sample = {name: [row[place] for row in sample] for place, name in enumerate(self.names) if name}
        others = {form.time_column, form.series_column}
        try:
            self.decimal, self.thousands = find_signs(
                {name: cells for name, cells in self._sample.items() if name not in others},
                form.decimal,
                form.thousands,
            )
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        if form.decimal is None:
            self.notes.append(f"decimal sign: {self.decimal!r}")
        if form.thousands is None and self.thousands:
            self.notes.append(f"sign between thousands: {self.thousands!r}")

    def is_number(self, name: str) -> bool:
        cells = [cell for cell in self._sample[name] if cell not in MISSING_CELLS]
        return all(self._looks_like_number(cell) for cell in cells)

    def is_time(self, name: str) -> bool:
        return not self.is_number(name) and all(map(is_date, self._sample[name]))

    def _looks_like_number(self, cell: str) -> bool:
        text = cell.rstrip("%").strip().replace(self.thousands or "\0", "").replace(self.decimal, ".")
        if text.lower() in _BOOLEANS:
            return True
        try:
            float(text)
        except ValueError:
            return False
        return "_" not in text

    def read(
        self, numbers: Sequence[str], texts: Sequence[str], times: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the columns of numbers (rows, len(numbers)), float64 and NaN where missing, and the others by name.

        Args:
            numbers: names of columns.
            texts: become pyarrow dictionary arrays, a missing cell ''.
            times: become pyarrow arrays of text, a missing cell ''.

        Raises:
            ValueError: a row has more or fewer cells than the header, a cell is no finite number.
        """
        pa = load("pyarrow")
        if not self.thousands:
            try:
                return self._read(numbers, pa.float64(), texts, times)
            except pa.ArrowInvalid:
                self._check_rows()  # a number that is written in another way may be the reason too
        self.percent: dict[str, bool] = {}
        try:
            return self._read(numbers, pa.string(), texts, times)
        except pa.ArrowInvalid as error:
            self._check_rows()
            raise ValueError(f"{self.file}: cannot be read as CSV: {error}") from None

    def _read(
        self, numbers: Sequence[str], kind: Any, texts: Sequence[str], times: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return what `read` does, where pyarrow reads numbers as of this kind: a block of rows at a time."""
        pa, pc = load("pyarrow"), load("pyarrow.compute")
        kinds = dict.fromkeys(numbers, kind) | dict.fromkeys(texts, pa.dictionary(pa.int32(), pa.string()))
        kinds |= dict.fromkeys(times, pa.string())
        values, num_rows = np.empty((0, len(numbers))), 0
        others: dict[str, list[Any]] = {name: [] for name in (*texts, *times)}
        with open_bytes(self.file) as content:
            for batch in self._batches(content, kinds):
                start, num_rows = num_rows, num_rows + batch.num_rows
                if num_rows > len(values):  # grows where it is, as malloc's large blocks do
                    values.resize((num_rows + num_rows // 8, len(numbers)), refcheck=False)
                for place, name in enumerate(kinds):
                    column = batch.column(place)
                    if name in texts:
                        others[name].append(column)
                    elif name in times:
                        others[name].append(pc.utf8_trim_whitespace(column))
                    else:
                        column = self._to_numbers(name, column, start) if kind != pa.float64() else column
                        block = values[start:num_rows, numbers.index(name)]
                        block[:] = column.to_numpy(zero_copy_only=False)
                        self._refuse_infinite(name, block, start)
        values.resize((num_rows, len(numbers)), refcheck=False)
        return values, {name: pa.chunked_array(parts) for name, parts in others.items()}

    def _batches(self, content: BinaryIO, kinds: dict[str, Any]) -> Any:
        """Return a reader of blocks of rows, with columns of these kinds."""
        pc = load("pyarrow.csv")
        places = {name: str(self.names.index(name)) for name in kinds}
        return pc.open_csv(
            content,
            pc.ReadOptions(
                use_threads=False,
                # By place, since names may be missing or twice.
                column_names=[str(place) for place in range(len(self.names))],
                skip_rows_after_names=1,
                encoding="utf8" if codecs.lookup(self.encoding).name.startswith("utf-8") else self.encoding,
            ),
            pc.ParseOptions(delimiter=self.separator, newlines_in_values=True, ignore_empty_lines=len(self.names) > 1),
            pc.ConvertOptions(
                column_types={place: kinds[name] for name, place in places.items()},
                include_columns=list(places.values()),
                decimal_point=self.decimal,
                null_values=list(MISSING_CELLS),
                strings_can_be_null=False,
            ),
        )

    def _to_numbers(self, name: str, cells: Any, start: int) -> Any:
        """Return the numbers that text stands for: signs between thousands, percent signs, 'true' and 'false'.

        Args:
            name: of the column.
            cells: a block of it.
            start: row of its first cell.
        """
        pa, pc = load("pyarrow"), load("pyarrow.compute")

        def refuse(is_wrong: Any, expected: str) -> None:
            self._refuse_where(is_wrong, name, start, expected)

        cells = pc.utf8_trim_whitespace(cells)
        cells = pc.if_else(pc.is_in(cells, pa.array(MISSING_CELLS)), pa.scalar(None, pa.string()), cells)
        if cells.null_count < len(cells):
            percent = pc.ends_with(cells, "%")
            if name not in self.percent:
                self.percent[name] = bool(pc.any(percent).as_py())
                if self.percent[name]:
                    self.notes.append(f"column {name!r}: percent signs are left out, 12% is 12")
            if self.percent[name]:
                refuse(pc.invert(percent), "expected a percent sign as in other rows")
                cells = pc.utf8_trim_whitespace(pc.utf8_rtrim(cells, "%"))
        cells = pc.utf8_ltrim(cells, "+")
        if self.thousands:
            mark, point = f"[{self.thousands}]", f"[{self.decimal}]"
            is_grouped = pc.match_substring_regex(cells, rf"^-?\d{{1,3}}({mark}\d{{3}})+({point}|$)")
            refuse(
                pc.and_not(pc.match_substring(cells, self.thousands), is_grouped),
                f"expected {self.thousands!r} between groups of three digits alone",
            )
            cells = pc.replace_substring(cells, self.thousands, "")
        if self.decimal == ",":
            refuse(pc.match_substring(cells, "."), "expected ',' as decimal sign")
            cells = pc.replace_substring(cells, ",", ".")
        for word, digit in _BOOLEANS.items():
            cells = pc.if_else(pc.equal(pc.utf8_lower(cells), word), digit, cells)
        refuse(pc.invert(pc.match_substring_regex(cells, _NUMBER)), "expected a finite number")
        return cells.cast(pa.float64())

    def _refuse_where(self, is_wrong: Any, name: str, start: int, expected: str) -> None:
        """Refuse the first cell of a block for which `is_wrong`; a missing one never is."""
        found = load("pyarrow.compute").index(is_wrong, True).as_py()
        if found < 0:
            return
        row = start + found
        cell = self.cell(row, name)
        other = "," if self.decimal == "." else "."
        hint = f"; decimal={other} or thousands={other} may say how it is meant" if other in cell else ""
        raise ValueError(
            f"{self.place(row, name)}: {expected}, got {cell!r}" + ("" if self.thousands == other else hint)
        )

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line and cells of each row, without the header; blank lines are rows of tables of one column alone."""
        with open_text(self.file, self.encoding) as content:
            reader, line = split_rows(content, self.separator, is_whole=True), 0
            try:
                next(reader)
                line = reader.line_num
                for row in reader:
                    line = reader.line_num
                    if row or len(self.names) == 1:
                        yield line, row or [""]
            except csv.Error as error:
                raise ValueError(f"{self.file}:{line + 1}: cannot be read as CSV: {error}") from None

    def _check_rows(self) -> None:
        width = len(self.names)
        for line, row in self._rows():
            if len(row) != width:
                raise ValueError(f"{self.file}:{line}: expected {width} cells as in the header, got {len(row)}")

    def _row(self, row: int) -> tuple[int, list[str]]:
        return next(found for place, found in enumerate(self._rows()) if place == row)

    def place(self, row: int, name: str) -> str:
        return f"{self.file}:{self._row(row)[0]}, column {name!r}"

    def cell(self, row: int, name: str) -> str:
        text = self._row(row)[1][self.names.index(name)].strip()
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
