"""Questions that are Python objects, as the files that data modules read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np


def lines_file(questions: Any, folder: Path) -> Path:
    """Write questions as a file with a line for each, texts as they are, rows of numbers parted by commas.

    Raises:
        ValueError: they are something else, or a text is more than a line.
    """
    lines = [_line(question, number) for number, question in enumerate(_listed(questions), start=1)]
    path = folder / "questions"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def columns_file(columns: dict[str, Iterable[Any]], folder: Path) -> Path:
    """Write columns as a CSV file, each number with all its digits."""
    path = folder / "questions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def sound_files(questions: Any, folder: Path) -> Path:
    """Write sounds (wave (N,), samples a second) as WAV files of a folder, which is returned.

    Raises:
        ValueError: they are something else; or soundfile is missing.
    """
    try:
        import soundfile
    except ImportError as error:
        raise ValueError('sounds need soundfile and soxr: pip install "rnnlab[speech]"') from error
    for number, question in enumerate(questions, start=1):
        wave, rate = wave_and_rate(question)
        soundfile.write(folder / f"{number:06d}.wav", wave.astype(np.float32), rate, subtype="FLOAT")
    return folder


def wave_and_rate(question: Any) -> tuple[np.ndarray, int]:
    """Return a signal float64 (N,) and its samples a second.

    Raises:
        ValueError: the question is no pair of these.
    """
    try:
        signal, rate = question
        signal, rate = np.asarray(signal, dtype=np.float64), float(rate)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected (samples, samples a second), got {type(question).__name__}") from error
    if signal.ndim != 1 or not len(signal) or not np.isfinite(signal).all() or rate <= 0 or rate != int(rate):
        raise ValueError(f"expected samples (N,), all finite, and a whole rate, got {signal.shape} at {rate:g}")
    return signal, int(rate)


def _listed(questions: Any) -> Sequence[Any]:
    if isinstance(questions, str):
        return [questions]
    try:
        return list(questions)
    except TypeError as error:
        raise ValueError(f"expected texts, rows of numbers or a Path, got {type(questions).__name__}") from error


def _line(question: Any, number: int) -> str:
    if isinstance(question, str):
        if len(question.splitlines()) > 1:
            raise ValueError(f"question {number}: a question is one line, got {question[:60]!r}")
        return question
    cells = question.tolist() if hasattr(question, "tolist") else question
    if isinstance(cells, Sequence) and all(isinstance(cell, Real) for cell in cells):
        return ",".join(repr(float(cell)) for cell in cells)
    if (
        isinstance(cells, Sequence)
        and cells
        and all(isinstance(cell, str) and len(cell.split()) == 1 for cell in cells)
    ):
        return " ".join(cells)
    raise ValueError(f"question {number}: expected a text or a row of numbers, got {str(question)[:60]!r}")
