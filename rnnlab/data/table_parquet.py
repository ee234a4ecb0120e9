"""Columns of a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab.data.table_file import TableFile, load


class ParquetFile(TableFile):
    """A table whose columns have types."""

    def __init__(self, file: Path) -> None:
        self.file, self.notes = file, []
        pa = load("pyarrow")
        try:
            self._parquet = load("pyarrow.parquet").ParquetFile(file)
        except pa.ArrowException as error:
            raise ValueError(f"{file}: cannot be read as Parquet: {error}") from None
        self._schema = self._parquet.schema_arrow
        self.names = list(self._schema.names)
        if not self._parquet.metadata.num_rows:
            raise ValueError(f"{file}: has no rows")

    def is_number(self, name: str) -> bool:
        types, kind = load("pyarrow").types, self._schema.field(name).type
        return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)

    def is_time(self, name: str) -> bool:
        types, kind = load("pyarrow").types, self._schema.field(name).type
        return types.is_timestamp(kind) or types.is_date(kind)

    def read(
        self, numbers: Sequence[str], texts: Sequence[str], times: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return columns as `rnnlab.data.table_csv.CSVFile.read`; times keep their type."""
        pa, pc = load("pyarrow"), load("pyarrow.compute")
        values, others = np.empty((self._parquet.metadata.num_rows, len(numbers))), {}
        for place, name in enumerate(numbers):
            column = self._column(name)
            if not self.is_number(name):
                raise ValueError(f"{self.file}, column {name!r}: expected numbers, got {column.type}")
            column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
            values[:, place] = column.cast(pa.float64()).to_numpy()
            self._refuse_infinite(name, values[:, place])
        for name in texts:
            others[name] = pc.fill_null(self._column(name).cast(pa.string()), "").dictionary_encode()
        for name in times:
            column = self._column(name)
            is_text = pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
            others[name] = column.cast(pa.string()) if is_text else column
        return values, others

    def _column(self, name: str) -> Any:
        """Return a column, its values as they are, though the file may number them."""
        column = self._parquet.read(columns=[name])[name]
        is_numbered = load("pyarrow").types.is_dictionary(column.type)
        return column.cast(column.type.value_type) if is_numbered else column

    def place(self, row: int, name: str) -> str:
        return f"{self.file}: row {row + 1}, column {name!r}"

    def cell(self, row: int, name: str) -> str:
        return str(self._column(name)[row].as_py())
