"""Files that are either the old version or the new one, never half of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a hidden file beside `path`, then rename it over `path`.

    A process killed in between leaves the former file, and a `.NAME.part` that the next write replaces.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def checksum_path(path: Path) -> Path:
    """Return where the SHA-256 of a file is kept: beside it, in the form that `sha256sum -c` reads."""
    return path.with_name(f"{path.name}.sha256")


def write_checked(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file as `write_atomically`, and its checksum beside it.

    The checksum is there first, with that of the former file below it: at every moment the file has one of the two.
    """
    sums = checksum_path(path)

    def write_and_sum(part: Path) -> None:
        write(part)
        former = sums.read_text() if sums.exists() else _sum(path.read_bytes(), path) if path.exists() else ""
        write_text(sums, _sum(part.read_bytes(), path) + former)

    write_atomically(path, write_and_sum)
    write_text(sums, sums.read_text().splitlines(keepends=True)[0])


def _sum(content: bytes, path: Path) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def read_checked(path: Path) -> tuple[bytes, bool]:
    """Return a file's content and whether it has the checksum beside it, if there is one."""
    is_intact = False
    for _ in range(3):  # another process may write a new one between our two looks
        content, sums = path.read_bytes(), checksum_path(path)
        is_intact = not sums.exists() or hashlib.sha256(content).hexdigest() in sums.read_text().split()
        if is_intact:
            break
    return content, is_intact


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def is_empty(directory: Path) -> bool:
    """Tell whether a directory is missing or holds nothing but leftovers of processes that were killed."""
    return not directory.exists() or all(
        entry.name.startswith(".") and entry.name.endswith((".part", ".lock")) for entry in directory.iterdir()
    )
