"""Sound files of any sample rate, width and length, by the libraries soundfile and soxr (extra `speech`)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

SUFFIXES = (".wav", ".flac", ".ogg")
_BLOCK = 2**18  # samples of all channels read at once: memory does not grow with the file
_UNKNOWN = 0x7FFF_0000  # bytes
_LARGEST_PAGE = 27 + 255 + 255 * 255  # bytes, of Ogg


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
    notes: list[str] = []
    return Sound(np.concatenate(list(sound_blocks(path, sample_rate, notes))), notes)


def decode_sound(content: bytes, name: str, sample_rate: int) -> Sound:
    """Return the sound of a file's content; `name` is for messages, the rest as `read_sound`."""
    notes: list[str] = []
    return Sound(np.concatenate(list(_blocks(io.BytesIO(content), name, sample_rate, notes))), notes)


def sound_blocks(path: str | Path, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
    """Yield the wave of `read_sound` in blocks, float32 (N_i,): a file of any length in constant memory.

    What is wrong with the file is raised where it is met: it is whole if the last block came. `notes` then has those
    of the sound, too.
    """
    with _opened(Path(path)) as file:
        yield from _blocks(file, str(path), sample_rate, notes)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield file


def _blocks(file: BinaryIO, name: str, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
    soundfile, soxr = _libraries()
    if not file.seek(0, io.SEEK_END):
        raise ValueError(f"{name}: is empty")
    ending = _ogg_ending(file)
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as opened:
            is_cut = ending == "torn" or _promises_more(opened.extra_info)
            rate, channels, promised, count, is_silent = opened.samplerate, opened.channels, opened.frames, 0, True
            resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
            while len(block := opened.read(max(1, _BLOCK // channels), dtype="float32", always_2d=True)):
                if not np.isfinite(block).all():
                    raise ValueError(f"{name}: has samples that are not finite")
                mono = block.mean(axis=1)
                count, is_silent = count + len(mono), is_silent and not mono.any()
                yield mono if resampler is None else resampler.resample_chunk(mono)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{name}: is no sound that can be read: {_reason(error)}") from error
    if count < promised or is_cut:
        what = "its last page is torn, behind" if ending == "torn" else "its head promises more than"
        raise ValueError(f"{name}: is cut short: {what} the {count / rate:.2f} s it has")
    if not count:
        raise ValueError(f"{name}: has no samples")
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)
    if ending == "open":
        notes.append(f"{name}: may be cut short: its last page is not marked as the end")
    if channels > 1:
        notes.append(f"{name}: {channels} channels were mixed down to one")
    if is_silent:
        notes.append(f"{name}: is silent")


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


def _promises_more(log: str) -> bool:
    """Return whether the head of a file promises more than there is, by libsndfile's log: it reads on without a word.

    A size of 2 GiB and more is that of a stream, whose writer did not know it.
    """
    sizes = re.findall(r"\b(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", log)
    is_short = any(int(there) < int(promised) < _UNKNOWN for promised, there in sizes)
    return is_short or "does not match value from 'ds64' chunk" in log


def _ogg_ending(file: BinaryIO) -> str:
    """Return how the last page of an Ogg file ends (RFC 3533, section 6): 'torn', 'open' where no end is marked, or ''.

    libsndfile leaves out a torn page without a word.
    """
    file.seek(0)
    if file.read(4) != b"OggS":
        return ""
    file.seek(max(0, file.seek(0, io.SEEK_END) - 2 * _LARGEST_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26] or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return "torn"
    return "" if page[5] & 4 else "open"
