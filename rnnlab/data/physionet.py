"""Records and annotations of PhysioNet's format, by the package wfdb (extra `ecg`)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rnnlab.data.files import find_file
from rnnlab.data.leads import Lead, choose_lead

PIECE = 15_000  # samples read at once
_CHECKSUM = 6  # its place among the words of a lead
_RATE = re.compile(r"(\d*\.?\d+|\d+\.)(/|$)")  # a counter's rate may stand behind it
_NOT_BEATS = set("+~|\"[]!x()ptu`'^s T*D=@")  # of PhysioNet's codes of annotations; all others mark a beat


def header_file(path: str | Path) -> Path:
    """Return the header of a record of PhysioNet's.

    Raises:
        ValueError: there is none.
    """
    name = Path(path)
    if name.is_file() and name.suffix not in (".hea", ".dat", ".atr"):
        raise ValueError(f"{name}: is no record: a table ends in .csv, PhysioNet's files in .hea, .dat and .atr")
    stem = name.with_suffix("") if name.suffix in (".hea", ".dat", ".atr") else name
    return find_file(f"{stem}.hea", "header of a record")


def physionet_lead(file: Path, lead: str | int | None, rate: float | None) -> Lead:
    """Return a lead of the record with this header, whose samples are there and sum up to what the header says.

    Args:
        file: the header.
        lead, rate: as of `rnnlab.data.records.find_lead`.

    Raises:
        ValueError: "file: what is wrong".
    """
    wfdb = library()
    try:
        header = _quiet(wfdb.rdheader, str(file.with_suffix("")))
    except Exception as error:  # whatever a header that is none leads to inside the package
        raise ValueError(f"{file}: is no header of a record: {_first_line(error)}") from None
    rate = _rate_of(file, rate)
    if not isinstance(header, wfdb.Record):
        raise ValueError(f"{file}: is the header of a record in segments, which has to be put together first")
    if not header.n_sig or not header.sig_name:
        raise ValueError(f"{file}: describes no signal")
    chosen = choose_lead(header.sig_name, lead, str(file))
    per_frame = header.samps_per_frame or [1] * header.n_sig
    if len(set(per_frame)) > 1:
        rates = ", ".join(f"{name} {rate * count:g}" for name, count in zip(header.sig_name, per_frame, strict=True))
        raise ValueError(f"{file}: leads of unequal length cannot be read together: samples a second are {rates}")
    num_samples = header.sig_len
    _check_samples(file, header, wfdb)
    name = f"{file.with_suffix('')}, lead {header.sig_name[chosen]}"

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, num_samples, PIECE):
            end = min(num_samples, start + PIECE)
            yield _read(wfdb, file, start, end, channels=[chosen]).p_signal[:, 0]

    annotations = file.with_suffix(".atr")
    files = [file, annotations, *(file.parent / one for one in set(header.file_name))]
    return Lead(name, rate, num_samples, pieces, (), annotations if annotations.is_file() else None, files)


def _rate_of(file: Path, rate: float | None) -> float:
    """Return the samples a second that a header gives, or those given where it gives none.

    Read here, since wfdb takes 250 where it reads nothing that it understands.

    Raises:
        ValueError: there is no such number, or another one than is given.
    """
    words = _lines_of(file)[0]
    if len(words) < 3:
        if rate is None:
            raise ValueError(f"{file}: does not say its sampling rate; data.record_rate=360 would")
        return rate
    told = _RATE.match(words[2])
    if told is None:
        raise ValueError(f"{file}: the sampling rate {words[2]!r} is no number above 0")
    if rate is not None and float(told[1]) != rate:
        raise ValueError(f"{file}: says {told[1]} samples a second, data.record_rate {rate:g}")
    return float(told[1])


def _lines_of(file: Path) -> list[list[str]]:
    """Return the words of the lines of a header, comments left out."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _check_samples(file: Path, header: Any, wfdb: Any) -> None:
    """Raise ValueError unless all samples are there, and sum up to what the header says (modulo 65,536)."""
    _, *lines = _lines_of(file)
    if len(lines) != header.n_sig:
        raise ValueError(f"{file}: promises {header.n_sig} leads, and describes {len(lines)}")
    for words, promised in zip(lines, header.checksum, strict=True):
        if len(words) > _CHECKSUM and promised is None:
            raise ValueError(f"{file}: not all of the line '{' '.join(words)}' can be read")
    for name in dict.fromkeys(header.file_name):
        if not (file.parent / name).is_file():
            raise ValueError(f"{file}: its signals are in {name}, which is not beside it")
    if not header.sig_len:
        raise ValueError(f"{file}: does not say how many samples there are")
    sums = np.zeros(header.n_sig, dtype=np.int64)
    for start in range(0, header.sig_len, PIECE):
        end = min(header.sig_len, start + PIECE)
        part = _read(wfdb, file, start, end, physical=False).d_signal
        if part.shape != (end - start, header.n_sig):
            raise ValueError(f"{file}: promises {header.sig_len} samples, and there are {start + len(part)}")
        sums += part.sum(axis=0)
    for name, total, promised in zip(header.sig_name, sums.tolist(), header.checksum, strict=True):
        if promised is not None and (total - promised) % 65_536:
            found = (total + 32_768) % 65_536 - 32_768
            raise ValueError(f"{file}: the samples of lead {name} have the checksum {found}, not {promised}")


def _read(wfdb: Any, file: Path, start: int, end: int, **options: Any) -> Any:
    try:
        return _quiet(wfdb.rdrecord, str(file.with_suffix("")), sampfrom=start, sampto=end, **options)
    except Exception as error:  # likewise of a file of samples
        raise ValueError(f"{file}: samples {start} to {end} cannot be read: {_first_line(error)}") from None


def read_beats(path: str | Path, rate: float | None = None) -> tuple[np.ndarray, list[str]]:
    """Return time in seconds, (K,), and code of each beat among the annotations NAME.atr beside a record.

    Args:
        path: as for `rnnlab.data.records.find_lead`.
        rate: samples a second of a record that does not say it.

    Raises:
        ValueError: there are none, or they cannot be read.
    """
    wfdb, file = library(), header_file(path)
    find_file(file.with_suffix(".atr"), "annotations")
    try:
        notes = _quiet(wfdb.rdann, str(file.with_suffix("")), "atr")
        told = _quiet(wfdb.rdheader, str(file.with_suffix(""))).fs
    except Exception as error:
        raise ValueError(f"{file.with_suffix('.atr')}: cannot be read: {_first_line(error)}") from None
    rate = _rate_of(file, rate) if notes.fs == told else float(notes.fs)  # annotations may have a clock of their own
    kept = [row for row, code in enumerate(notes.symbol) if code not in _NOT_BEATS]
    return np.asarray(notes.sample, dtype=np.int64)[kept] / rate, [notes.symbol[row] for row in kept]


def annotation_file(points: Any, is_wide: Any, rate: float) -> bytes:
    """Return annotations of PhysioNet's format: '(' where QRS begins, 'N' at R, ')' where it ends.

    A wide QRS is an 'N' with the note 'wide' and its duration: what makes it wide is not known.
    """
    wfdb = library()
    marks: list[tuple[int, int, str, str]] = []
    for row, wide in zip(np.asarray(points).tolist(), np.asarray(is_wide).tolist(), strict=True):
        note = f"wide {1000 * (row[4] - row[3]):.0f} ms" if wide else ""
        for time, code, text in ((row[3], "(", ""), (row[0], "N", note), (row[4], ")", "")):
            marks.append((max(0, round(time * rate)), len(marks), code, text))
    marks.sort()
    with TemporaryDirectory() as folder:
        places, _, codes, texts = (list(column) for column in zip(*marks, strict=True)) if marks else ([], [], [], [])
        if not places:
            return bytes(2)  # the end of annotations, and none before
        _quiet(wfdb.wrann, "beats", "atr", np.array(places), codes, aux_note=texts, fs=rate, write_dir=folder)
        return (Path(folder) / "beats.atr").read_bytes()


def library() -> Any:
    """Return the package wfdb.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return _quiet(import_module, "wfdb")
    except ImportError as error:
        raise ValueError('records of PhysioNet need wfdb: pip install "rnnlab[ecg]"') from error


def _quiet(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what a call returns; that wfdb asks pandas for what it will drop is no matter of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments, **options)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
