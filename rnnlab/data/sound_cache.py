"""Synthetic sounds that are kept for the next run: arrays in a file named by a hash of all that decides them."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.data.corpora import cache_folder

Arrays = Mapping[str, np.ndarray]

# What makes sounds of settings: a change of it makes them anew.
_SOURCES = ("espeak", "espeak_worker", "features", "homophones", "noise", "speech", "utterances")


def kept(
    folder: str | Path | None, settings: Mapping[str, Any], make: Callable[[], Arrays], notes: list[str]
) -> Arrays:
    """Return the arrays that `make` gives, from a file if they were made before, else written to one.

    A file is whole or not there, whoever else writes it at the same time; one that is damaged is made anew. A folder
    that cannot be written is no error.

    Args:
        folder: where files are kept; 'auto' for rnnlab's folder in the user's cache, None for nowhere.
        settings: all that decides the arrays, as JSON has it; the code of rnnlab and versions of libraries are added.
        make: gives the arrays, none of which holds objects.
        notes: gets what a user should be told, a line each.
    """
    if folder is None:
        return make()
    place = cache_folder() / "sounds" if folder == "auto" else Path(folder)
    decided_by = json.dumps([settings, _source(), np.__version__, torch.__version__], sort_keys=True)
    file = place / f"{hashlib.sha256(decided_by.encode()).hexdigest()[:32]}.npz"
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
            return dict(found)  # each array is compared with its checksum
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        notes.append(f"{file}: is damaged, its sounds are made anew")
    arrays = make()
    try:
        _write(file, arrays)
    except OSError as error:
        notes.append(f"sounds cannot be kept in {place}: {error.strerror or error}; data.cache=DIR is another folder")
    return arrays


@cache
def _source() -> str:
    content = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in _SOURCES)
    return hashlib.sha256(content).hexdigest()


def _write(file: Path, arrays: Arrays) -> None:
    """Write a file under a name that no other process has, then rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.stem}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as opened:
            np.savez(opened, **arrays)
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
