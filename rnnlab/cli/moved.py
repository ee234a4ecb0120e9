"""Data of a run that lie elsewhere than where it was trained."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def refound(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose absolute paths of data that are not there lead below RNNLAB_DATA, where they do.

    What is found by the longest end of its path is told. Data know their content by a checksum and refuse another.
    """
    root, found = os.environ.get("RNNLAB_DATA"), dict(config["data"])
    for key, value in config["data"].items():
        if root and isinstance(value, str) and Path(value).is_absolute() and not Path(value).exists():
            parts = Path(value).parts[1:]
            places = (Path(root, *parts[start:]) for start in range(len(parts)))
            found[key] = next((str(place) for place in places if place.is_file()), value)
            if found[key] != value:
                print(f"rnnlab: data.{key}={value} is not there, {found[key]} is read in its place", file=sys.stderr)
    return {**config, "data": found}
