"""The file of a table, of whatever kind it is by what it holds."""

from __future__ import annotations

from pathlib import Path

from rnnlab.data.files import find_file
from rnnlab.data.table_csv import CSVFile
from rnnlab.data.table_form import TableForm
from rnnlab.data.table_parquet import ParquetFile


def open_table(path: str | Path, form: TableForm) -> CSVFile | ParquetFile:
    """Return the file, its header read."""
    file = find_file(path, "table")
    with file.open("rb") as content:
        magic = content.read(4)
    if magic == b"PAR1":
        return ParquetFile(file)
    if magic in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise ValueError(f"{file}: is a spreadsheet or a zip file: save it as CSV")
    return CSVFile(file, form)
