"""Sound files of any sample rate and width, by the libraries soundfile and soxr (extra `speech`)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SUFFIXES = (".wav", ".flac", ".ogg")


class Sound(NamedTuple):
    """A sound in one channel.

    Attributes:
        wave: float32 (N,), within +-1.
        notes: what was done to it that a user should know of.
    """

    wave: np.ndarray
    notes: list[str]


def read_sound(path: str | Path, sample_rate: int) -> Sound:
    """Read a file, mixed down to one channel and resampled.

    Args:
        path: a file of a kind that libsndfile reads: WAV of 8 to 32 bits or floating point, FLAC, Ogg.
        sample_rate: in Hz, what is wanted.

    Raises:
        ValueError: the file is missing, empty, cut short, or no sound; or the libraries are missing. One line, with the
            file.
    """
    file = Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
    return decode_sound(content, str(file), sample_rate)


def decode_sound(content: bytes, name: str, sample_rate: int) -> Sound:
    """Return the sound of a file's content; `name` is for messages, the rest as `read_sound`."""
    soundfile, soxr = _libraries()
    if not content:
        raise ValueError(f"{name}: is empty")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as opened:
            rate, promised = opened.samplerate, opened.frames
            wave = opened.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{name}: is no sound that can be read: {_reason(error)}") from error
    if len(wave) < promised or _is_cut(content):
        raise ValueError(f"{name}: is cut short: its head promises more than the {len(wave) / rate:.2f} s it has")
    if not len(wave):
        raise ValueError(f"{name}: has no samples")
    if not np.isfinite(wave).all():
        raise ValueError(f"{name}: has samples that are not finite")
    notes = []
    if wave.shape[1] > 1:
        notes.append(f"{name}: {wave.shape[1]} channels were mixed down to one")
    mono = wave.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    if not mono.any():
        notes.append(f"{name}: is silent")
    return Sound(np.ascontiguousarray(mono, dtype=np.float32), notes)


def find_sounds(path: str | Path) -> list[Path]:
    """Return a file itself, or the sound files of a folder and its folders, sorted by path.

    Raises:
        ValueError: there is neither, or the folder has no sound file.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"{place}: has no sound file ({', '.join(SUFFIXES)})")
        return files
    if not place.exists():
        raise ValueError(f"{place}: there is no such file or folder of sounds")
    return [place]


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise ValueError('sound files need soundfile and soxr: pip install "rnnlab[speech]"') from error
    return soundfile, soxr


def _reason(error: Exception) -> str:
    return str(error).split(": ", 1)[-1].strip().rstrip(".").lower()


def _is_cut(content: bytes) -> bool:
    """Return whether a WAV file ends before its samples do; libsndfile reads what there is without a word."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return False
    place = 12
    while place + 8 <= len(content):
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        if content[place : place + 4] == b"data":
            return length != 0xFFFFFFFF and place + 8 + length > len(content)  # that length is a stream's, unknown
        place += 8 + length + length % 2
    return False
