"""Pre-trained word vectors from a text file, as GloVe and fastText publish them."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.files import find_file, open_lines

_SAMPLE = 100  # lines that show how long a vector is, where no header says so


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
        with open_lines(file) as lines:
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


def _read_lines(lines: Iterable[str], wanted: set[str], file: Path) -> tuple[int, dict[str, np.ndarray]]:
    """Return E and the first vector of each wanted word."""
    lines = iter(lines)
    first = [line.rstrip() for line in islice(lines, _SAMPLE)]
    is_header = re.fullmatch(r"\d+ \d+", first[0]) is not None if first else False
    size = int(first[0].split()[1]) if is_header else _usual_size(first)
    if size < 1:
        raise ValueError(f"{file}:1: expected a word and its numbers between spaces, or 'count size'")
    found: dict[str, np.ndarray] = {}
    first_words = {word.partition(" ")[0] for word in wanted}
    for number, line in enumerate(chain(first, lines), start=1):
        if line.partition(" ")[0] in first_words and not (is_header and number == 1):  # few are: the others stay uncut
            word, *cells = line.rstrip().rsplit(" ", size)  # a word may have spaces, as '. . .' in GloVe
            if word in wanted and word not in found:
                found[word] = _numbers(cells, size, f"{file}:{number}")
    return size, found


def _usual_size(lines: Sequence[str]) -> int:
    """Return how many numbers stand behind the words of most lines; a word may have spaces and be a number itself."""
    sizes = []
    for line in lines:
        _, *cells = line.split(" ")
        sizes.append(len(list(takewhile(_is_number, reversed(cells)))))
    return Counter(sizes).most_common(1)[0][0] if sizes else 1  # of equal counts, that of the first line


def _is_number(cell: str) -> bool:
    try:
        return float(cell) is not None
    except ValueError:
        return False


def _numbers(cells: Sequence[str], size: int, where: str) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            values = np.array(cells, dtype=np.float32)
    except ValueError:
        values = np.array([np.nan])
    if len(values) != size or not np.isfinite(values).all():
        raise ValueError(f"{where}: expected {size} finite numbers behind the word, got {' '.join(cells)[:60]!r}")
    return values
