"""Texts: read from files or from Python's own library, and cut into training, validation and test."""

from __future__ import annotations

import glob
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rnnlab.data.corpora import data_root
from rnnlab.data.files import read_text

SPLITS = ("90/10", "90/5/5", "char-rnn", "files", "files/test", "none")

# A module longer than this is a table more often than a text.
_LONGEST_MODULE = 60_000
# Modules that are of one machine, not of a version of Python.
_LOCAL_MODULES = ("_sysconfigdata", "sitecustomize", "usercustomize")


class Document(NamedTuple):
    """A text, and what stands before it.

    Attributes:
        text: what is learnt from or scored.
        context: the end of the text before it, empty where a text begins: read first, never scored.
    """

    text: str
    context: str = ""


def read_documents(path: str | Path, encoding: str = "utf-8") -> list[str]:
    """Return the texts of a file, of all files that a pattern as 'books/**/*.txt' matches, or of a known corpus.

    Files are sorted by name. Their lines end in '\\n', whatever they ended in.

    Raises:
        ValueError: no file, an empty one, or one that is not in this encoding.
    """
    is_pattern = glob.has_magic(str(path)) and not Path(path).exists()
    texts = []
    for name in _matches(str(path)) if is_pattern else [path]:
        file, text = read_text(name, "text file", encoding)
        if not text:
            raise ValueError(f"{file}: is empty")
        texts.append(text)
    return texts


def _matches(pattern: str) -> list[str]:
    """Return the files of a pattern in the order of their names: as given or, if there are none, below RNNLAB_DATA."""
    root = data_root()
    patterns = [pattern] if root is None or Path(pattern).is_absolute() else [pattern, str(root / pattern)]
    for candidate in patterns:
        files = [name for name in sorted(glob.glob(candidate, recursive=True)) if Path(name).is_file()]
        if files:
            return files
    raise ValueError(f"no file matches {' or '.join(patterns)}")


def stdlib_documents(max_chars: int) -> list[str]:
    """Return sources of this Python's standard library: top-level modules in the order of their names.

    Modules of more than 60,000 characters are left out; the first one that would exceed `max_chars` ends the selection.

    Raises:
        ValueError: the library is not there as source.
    """
    texts: list[str] = []
    total = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        _, text = read_text(path, "module")
        if not text or len(text) > _LONGEST_MODULE or path.name.startswith(_LOCAL_MODULES):
            continue
        total += len(text)
        if total > max_chars:
            break
        texts.append(text)
    if len(texts) < 10:
        raise ValueError(
            f"{sysconfig.get_path('stdlib')} holds {len(texts)} sources of at most {max_chars} characters together: "
            "too few to learn from; give a file by data=text data.path=FILE"
        )
    return texts


def split_documents(texts: Sequence[str], split: str, context: int = 0) -> dict[str, list[Document]]:
    """Cut texts into 'train', 'val' and, with '90/5/5', 'test'.

    Args:
        texts: documents in their order.
        split: '90/10' and '90/5/5' cut all characters, in their order, at these percentages; 'files' takes each tenth
            document for validation, 'files/test' the one before it for the test as well; 'char-rnn' is that of
            Karpathy's char-rnn with its defaults: 50 streams, cut in batches of 50 x 50 characters, of which the first
            95% are training and the others validation; what does not fill a batch is left out; 'none' makes all of it
            training.
        context: characters kept of what stands before a part that begins within a text.

    Raises:
        ValueError: the texts are too short for a part to hold a character.
    """
    if split in ("files", "files/test"):
        held_out = {"val": 9, "test": 8} if split == "files/test" else {"val": 9}
        parts = {"train": [Document(text) for index, text in enumerate(texts) if index % 10 not in held_out.values()]}
        parts |= {part: [Document(text) for text in texts[first::10]] for part, first in held_out.items()}
    elif split == "none":
        parts = {"train": list(map(Document, texts))}
    elif split == "char-rnn":
        parts = _char_rnn(texts, context)
    else:
        parts = _contiguous(texts, [int(share) for share in split.split("/")], context)
    for part, documents in parts.items():
        if not documents:
            raise ValueError(
                f"split={split} leaves no character for {part}: there are {len(texts)} documents of "
                f"{sum(map(len, texts))} characters"
            )
    return parts


def _contiguous(texts: Sequence[str], percent: Sequence[int], context: int) -> dict[str, list[Document]]:
    """Cut after these percentages of all characters; a document on a border is cut in two."""
    total = sum(map(len, texts))
    stops = [total * sum(percent[: k + 1]) // 100 for k in range(len(percent))]
    parts: dict[str, list[Document]] = {}
    for part, start, stop in zip(("train", "val", "test"), [0, *stops], stops, strict=False):
        parts[part] = []
        offset = 0
        for text in texts:
            first, last = max(start - offset, 0), min(stop - offset, len(text))
            if first < last:
                parts[part].append(Document(text[first:last], text[max(first - context, 0) : first]))
            offset += len(text)
    return parts


def _char_rnn(texts: Sequence[str], context: int, rows: int = 50, steps: int = 50) -> dict[str, list[Document]]:
    text = "".join(texts)
    num_batches = len(text) // (rows * steps)
    length, num_train = num_batches * steps, int(num_batches * 0.95) * steps
    streams = [text[row * length : (row + 1) * length] for row in range(rows)]
    if not 0 < num_train < length:
        return {"train": [], "val": []}
    return {
        "train": [Document(stream[:num_train]) for stream in streams],
        "val": [Document(stream[num_train:], stream[max(num_train - context, 0) : num_train]) for stream in streams],
    }
