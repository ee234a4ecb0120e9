"""Where a file of data is looked for, and how text is read, whatever is to be learnt from it."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from rnnlab.data.checks import check_encoding
from rnnlab.data.corpora import FILES, data_root, fetch


class FileMissing(ValueError):
    """A file is in none of the places where it was looked for."""


def places_of(path: str | Path | int) -> list[Path]:
    """Return where a file of this name may be: as given, then below the folder that RNNLAB_DATA names."""
    root, name = data_root(), Path(str(path))
    return [name] if root is None or name.is_absolute() else [name, root / name]


def find_file(path: str | Path | int, kind: str = "file") -> Path:
    """Return `path` as given or, if relative and absent, under the folder that RNNLAB_DATA names.

    A file of a known corpus (`rnnlab.data.corpora`) that is in neither place is downloaded.

    Args:
        path: the file, or the name of one of a known corpus; the command line reads a file called 2016 as a number.
        kind: what is looked for, for the message: 'CSV file'.

    Raises:
        FileMissing: there is no such file; the message lists where it was looked for.
    """
    path, candidates = str(path), places_of(path)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path in FILES:
        return fetch(path)
    hint = "" if data_root() else "; RNNLAB_DATA, where relative paths are looked for too, is not set"
    raise FileMissing(f"no {kind} at {' or '.join(map(str, candidates))}{hint}")


def sha256_of(path: str | Path, kind: str = "file") -> str:
    """Return what a file is known by, read in pieces; `find_file` says where it is looked for."""
    with find_file(path, kind).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | Path, kind: str, encoding: str = "utf-8") -> tuple[Path, str]:
    """Return where a text file was found, and its text: without byte order mark, every line end a '\\n'.

    A name that ends in '.gz' is unpacked.

    Args:
        path: as for `find_file`.
        kind: likewise.
        encoding: of the file, as Python names it.

    Raises:
        ValueError: the file is missing, cannot be unpacked, or is not in this encoding, with the line and place of the
            first such byte.
    """
    file, text = read_as_it_is(path, kind, encoding)
    return file, with_plain_line_ends(text)


def read_as_it_is(path: str | Path, kind: str, encoding: str = "utf-8") -> tuple[Path, str]:
    """Return the same as `read_text`, byte order mark and line ends kept: for what is to be written back unchanged."""
    file = find_file(path, kind)
    name = codecs.lookup(check_encoding(encoding)).name.upper()
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        return file, content.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        is_utf16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        hint = (
            "it begins like UTF-16: encoding=utf-16"
            if is_utf16
            else "encoding=NAME says what it is, as latin-1 or cp1252"
        )
        raise ValueError(f"{file}:{line}: is not {name}: {error.reason} at byte {error.start}; {hint}") from None
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None


def with_plain_line_ends(text: str) -> str:
    """Return a text without byte order mark, its lines ended by '\\n' alone: not '\\r\\n' nor '\\r'.

    Nothing else ends a line: U+2028, form feeds and the like, at which `str.splitlines` cuts, are characters.
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def open_lines(file: Path) -> TextIO:
    """Open a UTF-8 file, plain or '.gz', for its lines as `read_text` gives them; what is not UTF-8 becomes U+FFFD."""
    content = gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")
    return io.TextIOWrapper(cast("BinaryIO", content), encoding="utf-8-sig", errors="replace", newline=None)
