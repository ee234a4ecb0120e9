"""Single spoken digits of the Free Spoken Digit Dataset, and strings of them.

The recordings are https://github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0): 8 kHz, files
DIGIT_SPEAKER_INDEX.wav, of which those with an index below 5 are the official test part.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data.files import find_file
from rnnlab.data.noise import in_noise, levelled
from rnnlab.data.sound_files import decode_sound

SAMPLE_RATE = 8_000
NUM_TEST = 5  # recordings of each digit by each speaker in the official test part, the first ones

_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")


class Digit(NamedTuple):
    """One recording.

    Attributes:
        value: 0 to 9.
        speaker: a name.
        index: which of the speaker's recordings of this digit.
        wave: float32 (N,).
    """

    value: int
    speaker: str
    index: int
    wave: np.ndarray


class DigitString(NamedTuple):
    """Digits of one speaker, one after the other.

    Attributes:
        values: the digits.
        wave: float32 (N,).
        borders: where each digit begins and ends, in seconds, (U, 2).
    """

    values: list[int]
    wave: np.ndarray
    borders: np.ndarray


def read_digits(path: str | Path) -> list[Digit]:
    """Read all recordings of a tar file, plain or compressed, or of a folder, sorted by name.

    Raises:
        ValueError: there is no such file or folder, it cannot be unpacked, or has no recording; a broken recording.
    """
    digits = []
    for name, content in _contents(path):
        match = _NAME.fullmatch(Path(name).name)
        if match:
            wave = decode_sound(content, name, SAMPLE_RATE).wave
            digits.append(Digit(int(match[1]), match[2], int(match[3]), wave))
    if not digits:
        raise ValueError(f"{path}: has no file DIGIT_SPEAKER_INDEX.wav")
    return sorted(digits, key=lambda digit: digit[:3])


def _contents(path: str | Path) -> Iterator[tuple[str, bytes]]:
    if Path(path).is_dir():
        for file in Path(path).rglob("*.wav"):
            yield str(file), file.read_bytes()
        return
    file = find_file(path, "tar file of recordings")
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                opened = archive.extractfile(member)
                if opened is not None:
                    yield f"{file}/{member.name}", opened.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{file}: cannot be unpacked: {error}") from error


def join_digits(digits: Sequence[Digit], snr: float, rng: np.random.Generator) -> DigitString:
    """Put recordings one after the other, with pauses of up to 0.3 s, each a little louder or softer, in white noise.

    Args:
        digits: at least one.
        snr: power of the digits over that of the noise, in dB.
        rng: random numbers.
    """
    pauses = rng.uniform(0.0, 0.3, size=len(digits) + 1)
    pieces: list[np.ndarray] = []
    borders = []
    for pause, digit in zip(pauses, digits, strict=False):
        pieces.append(np.zeros(round(pause * SAMPLE_RATE), dtype=np.float32))
        start = sum(map(len, pieces))
        pieces.append(levelled(digit.wave) * np.float32(10 ** (rng.uniform(-3, 3) / 20)))
        borders.append((start, start + len(digit.wave)))
    pieces.append(np.zeros(round(pauses[-1] * SAMPLE_RATE), dtype=np.float32))
    wave = in_noise(np.concatenate(pieces), snr, rng)
    return DigitString([digit.value for digit in digits], wave, np.array(borders) / SAMPLE_RATE)
