"""Records of a user's own, of PhysioNet's format by the package wfdb, or CSV; answers as a table or as `.atr`.

A record is read through once before it is answered, so that what is wrong with it is told and nothing is written; and
then again in pieces, so that memory does not grow with it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.files import find_file
from rnnlab.data.record_clocks import SLOWEST
from rnnlab.data.record_tables import CSVLead, choose_lead

PIECE = 15_000  # samples read at once
_FASTEST = 10_000.0
_CHECKSUM = 6  # its place among the words of a lead
_RATE = re.compile(r"(\d*\.?\d+|\d+\.)(/|$)")  # a counter's rate may stand behind it
_HEADER = ("r_s", "q_s", "s_s", "qrs_on_s", "qrs_off_s", "qrs_ms", "wide")
_NOT_BEATS = set("+~|\"[]!x()ptu`'^s T*D=@")  # of PhysioNet's codes of annotations; all others mark a beat


class Lead(NamedTuple):
    """One lead of a record.

    Attributes:
        name: of the lead, for messages.
        rate: samples a second.
        num_samples: how many there are.
        pieces: yields them from the start, mV or the file's own unit, float64 (N_i,).
        notes: what a user should be told of how it was read, a line each.
        annotations: the file NAME.atr beside the record; None where there is none.
        files: the record's, annotations among them.
    """

    name: str
    rate: float
    num_samples: int
    pieces: Callable[[], Iterator[np.ndarray]]
    notes: Sequence[str] = ()
    annotations: Path | None = None
    files: Sequence[Path] = ()


def find_lead(path: str | Path, lead: str | int | None, rate: float | None, encoding: str = "utf-8") -> Lead:
    """Find a record and read one of its leads through.

    Args:
        path: PhysioNet's name of a record, with or without the suffix of one of its files, or a table that ends in
            '.csv' or has no suffix; as given, or below the folder that RNNLAB_DATA names.
        lead: its name, or its number from 0 on; None for the first one.
        rate: samples a second of a record that does not say it.
        encoding: of a CSV file.

    Raises:
        ValueError: "file: what is wrong".
    """
    name = Path(path)
    if name.suffix.lower() == ".csv" or (not name.suffix and name.is_file()):
        table = CSVLead(find_file(path, "record"), lead, rate, encoding)
        return _checked(Lead(table.name, table.rate, table.num_samples, table.pieces, table.notes))
    return _checked(_physionet_lead(header_file(path), lead, rate))


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


def _checked(lead: Lead) -> Lead:
    """Return a lead that can be answered.

    Raises:
        ValueError: its rate is none, it is too short, it stands still or goes one way, or it lacks values.
    """
    if not SLOWEST <= lead.rate <= _FASTEST:
        raise ValueError(f"{lead.name}: {lead.rate:g} samples a second, from {SLOWEST:g} to {_FASTEST:g} can be read")
    place, last, rises, falls = 0, None, False, False
    for piece in lead.pieces():
        lost = np.flatnonzero(~np.isfinite(piece))
        if len(lost):
            number = place + int(lost[0])
            raise ValueError(f"{lead.name}: has no value at sample {number} ({number / lead.rate:.3f} s)")
        steps = np.diff(piece, prepend=piece[:1] if last is None else last)
        rises, falls = rises or bool((steps > 0).any()), falls or bool((steps < 0).any())
        place, last = place + len(piece), float(piece[-1])
    if lead.num_samples < lead.rate:
        raise ValueError(f"{lead.name}: has {lead.num_samples} samples, less than a second")
    if not rises and not falls:
        raise ValueError(f"{lead.name}: is a flat line, every sample is {last:g}")
    if not rises or not falls:
        raise ValueError(
            f"{lead.name}: never {'falls' if rises else 'rises'}, like a counter or a clock; "
            "data.lead=NAME is another lead"
        )
    return lead


def _physionet_lead(file: Path, lead: str | int | None, rate: float | None) -> Lead:
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
        path: as for `find_lead`.
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


def answer_table(points: Any, is_wide: Any) -> str:
    """Return a row a beat of R, Q, S, QRS on- and offset in seconds (K, 5), the duration, and whether it is wide."""
    rows = [",".join(_HEADER)]
    for row, wide in zip(np.asarray(points).tolist(), np.asarray(is_wide).tolist(), strict=True):
        duration = 1000 * (row[4] - row[3])
        rows.append(",".join([*(f"{time:.4f}" for time in row), f"{duration:.1f}", str(int(wide))]))
    return "\n".join(rows) + "\n"


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
