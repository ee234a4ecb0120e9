"""The parts of a treebank: CoNLL-U files for training, validation and test, or training that spares a tenth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rnnlab.data.corpora import dev_file
from rnnlab.data.files import read_as_it_is

Item = TypeVar("Item")


def treebank_paths(train: str | Path, val: str | Path | None, test: str | Path | None) -> dict[str, str | Path]:
    """Return the files that are given, with the development file of a known corpus as 'val' where none is.

    Raises:
        ValueError: there is none for training.
    """
    if train is None:
        raise ValueError("train must name a CoNLL-U file, got None")
    paths = {"train": train, "val": dev_file(str(train)) if val is None else val, "test": test}
    return {part: path for part, path in paths.items() if path is not None}


def read_treebank(
    paths: Mapping[str, str | Path],
    encoding: str,
    parse: Callable[[str, str], list[Item]],
    former: Mapping[str, Any],
) -> tuple[dict[str, list[Item]], dict[str, Any], list[str]]:
    """Return the sentences of each part, what a run remembers of where they are from, and what a user should be told.

    Without a file for validation, each tenth sentence of training is validation and not trained on.

    Args:
        paths: from `treebank_paths`.
        encoding: of the files, as Python names it.
        parse: from the text of a file and its name to its sentences.
        former: what was remembered when the run was trained; empty before.

    Raises:
        ValueError: a file cannot be read or parsed, or leaves nothing for validation.
    """
    parts: dict[str, list[Item]] = {}
    hashes, notes = {}, []
    for part, path in paths.items():
        file, text = read_as_it_is(path, "CoNLL-U file", encoding)
        parts[part] = parse(text, str(file))
        hashes[part] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    state: dict[str, Any] = {"sha256": hashes["train"]}
    # Who was not trained on a tenth is not to be taken to have been, whatever is validated on now.
    if former.get("spares_tenth", "val" not in parts and not former):
        spared = parts["train"][9::10]
        if not spared:
            raise ValueError(
                f"without val, each tenth sentence of {paths['train']} is validation, and it has "
                f"{len(parts['train'])}: give val=FILE"
            )
        del parts["train"][9::10]
        state["spares_tenth"] = True
        if "val" not in parts:
            parts["val"] = spared
            notes.append(
                f"val: no file is given, and it is {len(spared)} of the sentences of {paths['train']}, each tenth; the "
                f"other {len(parts['train'])} are train"
            )
    elif "val" not in parts:
        raise ValueError("the run was trained on all of its training file, and there is no val: give val=FILE")
    return parts, state, notes
