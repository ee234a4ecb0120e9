"""Where a file of data is looked for."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from rnnlab.data.corpora import FILES, data_root, fetch


def find_file(path: str | Path, kind: str = "file") -> Path:
    """Return `path` as given or, if relative and absent, under the folder that RNNLAB_DATA names.

    A file of a known corpus (`rnnlab.data.corpora`) that is in neither place is downloaded.

    Args:
        path: the file, or the name of one of a known corpus.
        kind: what is looked for, for the message: 'CSV file'.

    Raises:
        ValueError: there is no such file; the message lists where it was looked for.
    """
    root = data_root()
    candidates = [Path(path)]
    if root and not candidates[0].is_absolute():
        candidates.append(root / path)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if str(path) in FILES:
        return fetch(str(path))
    hint = "" if root else "; RNNLAB_DATA, where relative paths are looked for too, is not set"
    raise ValueError(f"no {kind} at {' or '.join(map(str, candidates))}{hint}")


def read_text(path: str | Path, kind: str) -> tuple[Path, str]:
    """Return where a UTF-8 file was found, and its text; a name that ends in '.gz' is unpacked.

    Raises:
        ValueError: the file is missing, cannot be unpacked, or is not UTF-8, with the line of the first such byte.
    """
    file = find_file(path, kind)
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        return file, content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}:{line}: is not UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None
