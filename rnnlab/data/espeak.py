"""Synthetic speech by espeak-ng, through its C library: waves, and where their words are.

What is said is a pure function of text, voice, rate and pitch (`rnnlab.data.espeak_worker` says how).
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, cast

import numpy as np

from rnnlab.data.checks import check_integer

SAMPLE_RATE = 22_050

# English as espeak-ng 1.51 speaks it; en-us-nyc says most words as en-us does.
ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
_TWINS = ("fast", "caleb")  # sound as no variant at all and as klatt do
_WORKER = Path(__file__).with_name("espeak_worker.py")
_LONGEST = 10_000  # characters: a request must fit into a pipe


class Utterance(NamedTuple):
    """What is to be said, and how.

    Attributes:
        text: of up to 10,000 characters.
        voice: a language, and perhaps a timbre behind a plus: 'en-us+f2'.
        rate: words a minute, 80 to 450.
        pitch: 0 to 99.
        spread: of the pitch, 0 to 99; 0 is monotonous.
    """

    text: str
    voice: str = "en-us"
    rate: int = 175
    pitch: int = 50
    spread: int = 50


class SpokenWord(NamedTuple):
    """A word that was said.

    Attributes:
        first, last: where it stands: text[first:last].
        start, end: in seconds; a pause behind it is not in it.
    """

    first: int
    last: int
    start: float
    end: float


class Speech(NamedTuple):
    """What was said.

    Attributes:
        wave: float32 (N,), within +-1, 22,050 samples a second.
        words: those that espeak-ng tells apart: a number may be several, and 'of the' may be one.
    """

    wave: np.ndarray
    words: list[SpokenWord]


class Speaker:
    """A process of espeak-ng, to be used in a `with` statement.

    Attributes:
        languages: names of its voices.
        timbres: names of variants of them, all different; any goes with any voice.
        identity: in words, version and voices of espeak-ng: two that agree in it say the same.

    Raises:
        ValueError: espeak-ng is not installed.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._input, self._output = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        try:
            found = self._read_line()
            if isinstance(found, str):
                raise ValueError(f"speech needs espeak-ng: apt-get install espeak-ng ({found})")
        except ValueError:
            self.close()
            raise
        version, voices = found
        self.identity = f"{version} {voices}"
        # Voices of mb/ need another synthesiser. Where two have a language, the first is the usual one.
        self._files = {language: file for language, file in reversed(voices) if not file.startswith(("!v/", "mb/"))}
        self._timbres = [file.removeprefix("!v/") for _, file in voices if file.startswith("!v/")]
        self.languages, self.timbres = sorted(self._files), sorted(set(self._timbres) - set(_TWINS))

    def __enter__(self) -> Speaker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._input.close()
        self._output.close()
        self._process.wait()

    def speak(self, utterances: Iterable[Utterance]) -> Iterator[Speech]:
        """Yield what is said; while one is looked at, the next is spoken.

        Raises:
            ValueError: no such voice, with the nearest; a number out of range; a text that is too long or says nothing.
        """
        waiting = iter(utterances)
        asked: list[Utterance] = []
        while True:
            for utterance in islice(waiting, 2 - len(asked)):
                self._send(utterance)
                asked.append(utterance)
            if not asked:
                return
            yield self._receive(asked.pop(0))

    def file_of(self, voice: str) -> str:
        """Return the name that the library takes for a voice.

        Raises:
            ValueError: there is no such voice; the library would take another timbre without a word.
        """
        language, plus, timbre = voice.partition("+")
        for name, kind, known in ((language, "voice", self._files), (timbre, "timbre", self._timbres)):
            if name not in known and (plus or kind == "voice"):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise ValueError(f"espeak-ng has no {kind} {name!r}{hint}")
        return self._files[language] + plus + timbre

    def _send(self, utterance: Utterance) -> None:
        text, voice, rate, pitch, spread = utterance
        if not text.strip() or len(text) > _LONGEST or "\0" in text:
            raise ValueError(f"a text to be said must have 1 to {_LONGEST} characters, got {text[:40]!r}")
        check_integer("rate", rate, 80, 450)
        check_integer("pitch", pitch, 0, 99)
        check_integer("spread", spread, 0, 99)
        request = json.dumps([text, self.file_of(voice), rate, pitch, spread])
        self._input.write(request.encode() + b"\n")
        self._input.flush()

    def _receive(self, utterance: Utterance) -> Speech:
        answer = self._read_line()
        if isinstance(answer, str):
            raise ValueError(f"{answer}: {utterance.text[:40]!r} by {utterance.voice!r}")
        number, words = answer
        samples = np.frombuffer(self._output.read(2 * number), dtype="<i2")
        return Speech(
            samples.astype(np.float32) / 32_768,
            [
                SpokenWord(place, place + length, start / SAMPLE_RATE, end / SAMPLE_RATE)
                for place, length, start, end in words
            ],
        )

    def _read_line(self) -> Any:
        line = self._output.readline()
        if not line:
            raise ValueError("the process of espeak-ng has ended")
        return json.loads(line)


def speak(text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50, spread: int = 50) -> Speech:
    """Return what is said by a process started for it; many are said faster by one `Speaker`.

    Args and errors are those of `Utterance` and `Speaker`.
    """
    with Speaker() as speaker:
        return next(speaker.speak([Utterance(text, voice, rate, pitch, spread)]))


def family(timbre: str) -> str:
    """Return the name that like timbres share: steph, steph2 and steph3 are one person, m1 and m2 are two.

    Example:
        >>> family("steph3"), family("m2")
        ('steph', 'm2')
    """
    stem = re.sub(r"\d+$", "", timbre)
    return (stem if len(stem) > 2 else timbre).lower()
