"""Pre-trained word vectors from a text file, as GloVe and fastText publish them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.files import find_file


def read_vectors(path: str | Path, words: Sequence[str]) -> tuple[Tensor, int]:
    """Return the vectors of words, and how many of the words have one.

    A line is a word and E numbers between spaces; the first line may be 'count E' instead (fastText). A word that is
    not there as it is written is looked for in lower case; one that is not there either has zeros, and means what is
    learnt of it. Lines of words that are not asked for are neither kept nor checked.

    Args:
        path: UTF-8 text, plain or '.gz', as `rnnlab.data.files.find_file` takes it.
        words: N words.

    Returns:
        Vectors, float32 (N, E), and a count from 1 to N.

    Raises:
        ValueError: the file cannot be read, a line does not hold E finite numbers, or none of the words is there.
    """
    file = find_file(path, "file of word vectors")
    try:
        opened = gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")
        with opened as lines:
            size, found = _read_lines(lines, {*words, *map(str.lower, words)}, file)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None
    vectors = torch.zeros(len(words), size)
    count = 0
    for index, word in enumerate(words):
        vector = found.get(word, found.get(word.lower()))
        if vector is not None:
            vectors[index] = torch.from_numpy(vector)
            count += 1
    if not count:
        raise ValueError(f"{file}: has a vector for none of {len(words)} words; is it of another language?")
    return vectors, count


def _read_lines(lines: Iterable[bytes], wanted: set[str], file: Path) -> tuple[int, dict[str, np.ndarray]]:
    """Return E and the first vector of each wanted word."""
    size, found = 0, {}
    first_words = {word.encode("utf-8") for word in wanted}
    for number, line in enumerate(lines, start=1):
        if number == 1:
            cells = line.split()
            is_header = len(cells) == 2 and all(cell.isdigit() for cell in cells)
            size = int(cells[1]) if is_header else len(cells) - 1
            if size < 1:
                raise ValueError(f"{file}:1: expected a word and its numbers between spaces, or 'count size'")
            if is_header:
                continue
        if line.partition(b" ")[0] in first_words:  # few are; the others are not worth cutting up
            # A word that is not UTF-8 is none of ours, and nobody can mend a file of gigabytes for its sake.
            word, *cells = line.decode("utf-8", errors="replace").rstrip().rsplit(" ", size)
            if word in wanted and word not in found:  # some words of GloVe have spaces
                found[word] = _numbers(cells, size, f"{file}:{number}")
    return size, found


def _numbers(cells: Sequence[str], size: int, where: str) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            values = np.array(cells, dtype=np.float32)
    except ValueError:
        values = np.array([np.nan])
    if len(values) != size or not np.isfinite(values).all():
        raise ValueError(f"{where}: expected {size} finite numbers behind the word, got {' '.join(cells)[:60]!r}")
    return values
