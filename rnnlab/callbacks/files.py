"""Files that are either the old version or the new one, never half of it."""

from __future__ import annotations

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


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def is_empty(directory: Path) -> bool:
    """Tell whether a directory is missing or holds nothing but leftovers of interrupted writes."""
    return not directory.exists() or all(
        entry.name.startswith(".") and entry.name.endswith(".part") for entry in directory.iterdir()
    )
