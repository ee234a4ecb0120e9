"""What synthetic voices say, sentences of files, and how it is heard."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data.conllu_text import is_conllu
from rnnlab.data.espeak import SAMPLE_RATE, Speech, SpokenWord
from rnnlab.data.files import read_text
from rnnlab.data.noise import in_noise, levelled, played

LETTERS = f" '{string.ascii_lowercase}"

_MARKS = re.compile(r'[.,;:!?"()\s-]+')  # heard as pauses at most
_TEXT = re.compile(r"# text = (.*)")


class Heard(NamedTuple):
    """Something said, in noise.

    Attributes:
        text: in the symbols of the data.
        voice: by whom.
        wave: float32 (N,).
        said: as it was given to the voice.
        words: of `said`, those that `rnnlab.data.espeak.Speech` has; their times are those of `wave`.
    """

    text: str
    voice: str
    wave: np.ndarray
    said: str
    words: list[SpokenWord]


def plain(text: str) -> str:
    """Return what is to be written of a sentence: small letters, apostrophes, single spaces.

    Example:
        >>> plain("Well, don't -- stop!")
        "well don't stop"
    """
    return _MARKS.sub(" ", text.replace("\u2019", "'")).strip().lower()


def read_sentences(path: str | Path, encoding: str) -> tuple[list[str], list[str]]:
    """Return the sentences that are letters and marks alone, each once, and a note on the others.

    Args:
        path: as `rnnlab.data.files.find_file` takes it: a sentence a line, or CoNLL-U, of which "# text =" is read.
        encoding: of the file, as Python names it.

    Raises:
        ValueError: the file cannot be read, or has no such sentence.
    """
    file, content = read_text(path, "file of sentences", encoding)
    lines = content.split("\n")
    if is_conllu(content, file.name):
        lines = [match[1] for match in map(_TEXT.fullmatch, lines) if match]
    found = dict.fromkeys(" ".join(line.split()) for line in lines if line.strip())
    kept = [line for line in found if plain(line) and set(plain(line)) <= set(LETTERS)]
    if not kept:
        raise ValueError(f"{file}: has no sentence of letters alone")
    if len(kept) == len(found):
        return kept, []
    told = f"{len(found) - len(kept)} of {len(found)} sentences have figures or other characters, and are left out"
    return kept, [f"{file}: {told}"]


def warped(speech: Speech, factor: float) -> Speech:
    """Return speech played faster by a factor, all its frequencies higher by it."""
    words = [word._replace(start=word.start / factor, end=word.end / factor) for word in speech.words]
    return Speech(played(speech.wave, factor), words)


def echoed(speech: Speech, delay: float, gain: float) -> Speech:
    """Return speech with an echo that comes back again and again; what comes after the speech is cut off.

    Args:
        speech: what is said.
        delay: in seconds, above zero.
        gain: of each echo over the one before.
    """
    wave, step = speech.wave.copy(), max(1, round(delay * SAMPLE_RATE))
    for start in range(step, len(wave), step):
        piece = wave[start : start + step]
        piece += np.float32(gain) * wave[start - step : start - step + len(piece)]
    return Speech(wave, speech.words)


def surrounded(speech: Speech, snr: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return speech in white noise that begins and ends up to 0.3 s apart from it, and by how much, in seconds.

    Args:
        speech: what is said.
        snr: power of the speech over that of the noise, in dB.
        rng: random numbers.
    """
    before, behind = (round(pause * SAMPLE_RATE) for pause in rng.uniform(0.0, 0.3, size=2))
    return in_noise(np.pad(levelled(speech.wave), (before, behind)), snr, rng), before / SAMPLE_RATE
