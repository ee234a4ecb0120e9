"""Texts and their labels: from folders, from a file, or from Python's own library."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import numpy as np

from rnnlab.data.corpora import data_root
from rnnlab.data.documents import read_documents
from rnnlab.data.files import read_text

# What a name of Python's library is a name of, and where it is written.
_NAMES = {
    "class": re.compile(r"^ *class (\w+)", re.MULTILINE),
    "constant": re.compile(r"^ *([A-Z][A-Z0-9_]+) *=", re.MULTILINE),
    "function": re.compile(r"^ *(?:async )?def (\w+)", re.MULTILINE),
}
_EXCEPTION = re.compile(r"\w+(Error|Exception|Warning)")
_NOT_OF_IT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


def read_labelled(path: str | Path, encoding: str = "utf-8") -> dict[str, list[str]]:
    """Return the texts of each label, labels and files in the order of their names, lines in theirs.

    Args:
        path: a folder, as given or below RNNLAB_DATA, with a folder for each label, whose files are its texts; or a
            file, plain or '.gz', with a line `label<TAB>text` for each text, which then ends in '\\n'. Hidden files,
            files beside the folders and empty lines at the end are left alone.
        encoding: of the files, as Python names it.

    Raises:
        ValueError: no such folder or file, a label without text, a text without label, or another encoding.
    """
    root = data_root()
    places = [Path(path)] if root is None or Path(path).is_absolute() else [Path(path), root / path]
    folder = next((place for place in places if place.is_dir()), None)
    return _read_lines(path, encoding) if folder is None else _read_folders(folder, encoding)


def _read_folders(folder: Path, encoding: str) -> dict[str, list[str]]:
    folders = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    if not folders:
        raise ValueError(f"{folder}: has no folder: one for each label, with its texts, is expected")
    texts: dict[str, list[str]] = {}
    for place in folders:
        files = sorted(file for file in place.rglob("*") if file.is_file() and not file.name.startswith("."))
        if not files:
            raise ValueError(f"{place}: the label {place.name!r} has no text: the folder holds no file")
        texts[place.name] = [text for file in files for text in read_documents(file, encoding)]
    return texts


def _read_lines(path: str | Path, encoding: str) -> dict[str, list[str]]:
    file, content = read_text(path, "folder or file of labelled texts", encoding)
    texts: dict[str, list[str]] = {}
    lines = content.rstrip("\n").split("\n")
    if lines == [""]:
        raise ValueError(f"{file}: is empty, lines of a label, a tab and a text are expected")
    for number, line in enumerate(lines, start=1):
        label, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"{file}:{number}: expected a label, a tab and a text, got no tab: {line[:60]!r}")
        label = label.strip()
        if not label or not text:
            raise ValueError(f"{file}:{number}: the {'text' if label else 'label'} is empty")
        texts.setdefault(label, []).append(f"{text}\n")
    return texts


def stdlib_names() -> dict[str, list[str]]:
    """Return names in this Python's standard library by what they name, each once and ended by '\\n'.

    They are in an order drawn once: a class whose name ends in Error, Exception or Warning is an exception.

    Raises:
        ValueError: the library is not there as source.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, set[str]] = {label: set() for label in _NAMES}
    for file in library.rglob("*.py"):
        if _NOT_OF_IT.isdisjoint(file.relative_to(library).parts):
            source = file.read_text("utf-8", errors="replace")
            for label, pattern in _NAMES.items():
                found[label].update(pattern.findall(source))
    found["exception"] = {name for name in found["class"] if _EXCEPTION.fullmatch(name)}
    found["class"] -= found["exception"]
    if min(map(len, found.values())) < 10:
        raise ValueError(f"{library} is not there as source; give texts of your own by data.path=FOLDER|FILE")
    rng = np.random.default_rng(0)
    return {label: [f"{name}\n" for name in rng.permutation(sorted(names))] for label, names in sorted(found.items())}
