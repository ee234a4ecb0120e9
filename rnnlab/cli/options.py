"""Words of the verbs that work on an existing run."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnlab.cli.errors import UsageError, nearest


def take(
    words: list[str], required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[dict[str, str], list[str]]:
    """Split `key=value` words into the options named and the rest.

    Returns:
        The options given, by name, and all other words in their order.

    Raises:
        UsageError: a required option is missing, or a word is no assignment.
    """
    options: dict[str, str] = {}
    rest = []
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            raise UsageError(f"expected key=value, got '{word}'")
        if key in required + optional:
            options[key] = value
        else:
            rest.append(word)
    missing = [f"{name}=..." for name in required if name not in options]
    if missing:
        given = [word.partition("=")[0] for word in rest]
        hint = nearest(given[0], required) if given else ""
        raise UsageError(f"missing {' and '.join(missing)}{hint}")
    return options, rest


def count(name: str, text: str, least: int = 1, most: int | None = None) -> int:
    """Return the number that `name=TEXT` stands for.

    Raises:
        UsageError: it is no integer from `least` to `most`.
    """
    if not (text.isascii() and text.isdecimal() and least <= int(text) and (most is None or int(text) <= most)):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} must be an integer {allowed}, got '{text}'")
    return int(text)


def label_number(name: str | None, labels: Sequence[str], condition: str | None, needed: bool) -> int | None:
    """Return the number of the label that `label=NAME` asks for, None if there is nothing to ask.

    Args:
        name: what was given; None if nothing was.
        labels: of the run's data; empty if they have none.
        condition: how the run's model is told labels; None if it is not.
        needed: whether a model that is told labels can do without.

    Raises:
        UsageError: no such label, one is missing, or the model knows of none.
    """
    if name is None and not (needed and condition):
        return None
    if not labels or condition is None:
        why = "its texts have none" if not labels else "model.condition=null"
        raise UsageError(f"label={name} is for character models that are told labels, and this run's is not: {why}")
    known = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    if name is None:
        raise UsageError(f"missing label=...: this model writes texts of one of the labels {known}")
    if name not in labels:
        raise UsageError(f"label={name} is none of the labels {known}{nearest(name, labels)}")
    return list(labels).index(name)


def flag(name: str, text: str) -> bool:
    """Return whether `name=TEXT` says yes.

    Raises:
        UsageError: it is neither true nor false.
    """
    if text not in ("true", "false"):
        raise UsageError(f"{name} must be true or false, got '{text}'")
    return text == "true"


def results_dir(run_dir: Path) -> Path:
    """Return where results about a run go: its own directory, or `NAME_results` here if that cannot be written.

    Raises:
        UsageError: the working directory cannot be written either.
    """
    if os.access(run_dir, os.W_OK):
        return run_dir
    folder = Path.cwd() / f"{run_dir.resolve().name}_results"
    if not os.access(folder if folder.exists() else Path.cwd(), os.W_OK):
        raise UsageError(f"neither run_dir={run_dir} nor the working directory can be written")
    print(f"rnnlab: {run_dir} cannot be written, results go to {folder}", file=sys.stderr)
    return folder


def free_path(folder: Path, stem: str, which: Mapping[str, Any]) -> Path:
    """Return the JSON file of a result, or the first that is not there: STEM.json, STEM_2.json, ...

    Args:
        folder: where results go.
        stem: of their names.
        which: what the file says of how it was made; a file that says the same is replaced.
    """
    for number in itertools.count(1):
        path = folder / (f"{stem}.json" if number == 1 else f"{stem}_{number}.json")
        if not path.exists():
            return path
        try:
            former = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(former, dict) and all(former.get(key) == value for key, value in which.items()):
            return path
    raise AssertionError("counting does not end")


def check_output(name: str) -> Path:
    """Return the path that `output=NAME` stands for, before any work is done for it.

    Raises:
        UsageError: no file can be written there.
    """
    path = Path(name)
    if not path.parent.is_dir():
        raise UsageError(f"output={path}: the folder {path.parent} does not exist")
    if path.suffix == ".gz":
        raise UsageError(f"output={path}: what is written is plain text, leave out .gz")
    if path.is_dir():
        raise UsageError(f"output={path} is a folder, a file is needed")
    if path.exists() and not path.is_file():
        raise UsageError(f"output={path} is no file that could be replaced; output=- is stdout")
    return path


def check_folder(option: str, name: str, files: Iterable[str]) -> Path:
    """Return the folder that `OPTION=NAME` stands for, there or not, before any work is done for it.

    Args:
        option: how it is called.
        name: of the folder.
        files: names of what is to be written there.

    Raises:
        UsageError: the folder cannot be made or written, or one of the files is a folder.
    """
    path = Path(name)
    there = next(part for part in (path, *path.absolute().parents) if part.exists() or part.is_symlink())
    if not name or not there.is_dir():
        raise UsageError(f"{option}={name}: {there if name else 'nothing'} is no folder, one to write to is needed")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option}={name}: the folder {there} cannot be written")
    for file in files:
        if (path / file).is_dir():
            raise UsageError(f"{option}={name}: {path / file} is a folder, and a file is to be written there")
    return path


def files_of_run(run_dir: Path, ckpt: str) -> list[Path]:
    """Return what is read of a run and must stay as it is."""
    return [run_dir / "config.yaml", run_dir / "checkpoints", *([] if ckpt in ("best", "last") else [Path(ckpt)])]


def check_apart(output: Path, read: Iterable[Path]) -> None:
    """Refuse an output that would replace a file which is read, or lies in a folder which is.

    Args:
        output: as `check_output` returned it.
        read: files and folders, by any name or link.

    Raises:
        UsageError: it is one of them.
    """
    for place in read:
        if place.is_dir() and place.resolve() in output.resolve().parents:
            raise UsageError(f"output={output} lies in the folder {place}, which is read: it needs another one")
        if output.exists() and place.is_file() and output.samefile(place):
            raise UsageError(f"output={output} would replace {place}, which is read: it needs another name")
