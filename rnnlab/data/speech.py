"""Synthetic speech of many voices, strings of digits or sentences, and its text."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.data.checks import check_encoding, check_integer, check_number, check_range
from rnnlab.data.espeak import ACCENTS, SAMPLE_RATE, Speaker, Utterance, family
from rnnlab.data.features import LogBands
from rnnlab.data.sound_cache import Arrays, kept
from rnnlab.data.sounds import Recording, SoundData
from rnnlab.data.splits import part_of
from rnnlab.data.transcribed import read_list, recordings_of
from rnnlab.data.utterances import LETTERS, Heard, echoed, plain, read_sentences, surrounded, warped

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PERCENT = 15, 10  # of timbres and of sentences, for test and validation


class SpokenData(SoundData):
    """Strings of digits, or sentences of a file, spoken by espeak-ng in many voices, and their text.

    A voice is an accent and a timbre. Timbres of the three parts differ, by a hash of their names, those of one person
    together: 15 and 10 percent of them are heard in test and validation alone. Sentences of the parts differ likewise.

    What a run remembers of its data does not depend on how long strings are and by whom they are spoken: a trained
    model may be measured with other settings.

    Args:
        texts: file of sentences, one a line or CoNLL-U: as given, or below the folder that RNNLAB_DATA names, or of a
            known corpus, which is downloaded. Upper case and marks are not to be written; sentences with figures and
            other characters are left out. None for digits.
        num_train, num_val, num_test: sounds of each part.
        min_digits, max_digits: of a string.
        accents: of espeak-ng.
        test_accents: those of test; None for `accents`.
        min_rate, max_rate: in words a minute, 80 to 450.
        min_pitch, max_pitch: 0 to 99.
        min_snr, max_snr: of speech over white noise, in dB.
        max_warp: training sounds are played faster or slower, and so higher or lower with all their formants, by a
            factor from exp(-max_warp) to exp(max_warp): more timbres than there are (Ko et al., 2015).
        max_echo: gain of an echo that training sounds have, 10 to 200 ms late and coming back: as in rooms, and as some
            timbres of espeak-ng have it.
        recordings: a list "file<TAB>text" of sounds that are heard in training too, as they are: real voices beside the
            synthetic ones. See `TranscribedData`.
        num_bands: mel bands of a frame.
        high: of the bands, in Hz; 3800 for what comes through a telephone.
        ascending: epochs from the shortest sounds to the longest, before their order is drawn.
        corpus_seed: decides the sounds.
        max_frames, eval_max_frames, seed: see `SoundData`; frames are 10 ms.
        encoding: of the file and the list, as Python names it.
        cache: folder where the features of synthetic sounds are kept for the next run, see `rnnlab.data.sound_cache`;
            'auto' for rnnlab's in the user's cache, None for nowhere.

    Raises:
        ValueError: an argument is out of range; in `setup`: espeak-ng is not installed or has no such accent, the file
            cannot be read or has too few sentences.

    Attributes:
        borders: for each part, where the words of each synthetic sound begin and end, in seconds, (W, 2); known after
            `setup`.
        voices: for each part, the voice of each synthetic sound; likewise.
    """

    def __init__(
        self,
        texts: str | Path | None = None,
        num_train: int = 6_000,
        num_val: int = 300,
        num_test: int = 1_000,
        min_digits: int = 1,
        max_digits: int = 7,
        accents: Sequence[str] = ACCENTS[:-1],
        test_accents: Sequence[str] | None = None,
        min_rate: int = 120,
        max_rate: int = 220,
        min_pitch: int = 20,
        max_pitch: int = 80,
        min_snr: float = 10.0,
        max_snr: float = 30.0,
        max_warp: float = 0.15,
        max_echo: float = 0.4,
        recordings: str | Path | None = None,
        num_bands: int = 40,
        high: float = 7_600.0,
        ascending: int = 1,
        corpus_seed: int = 0,
        max_frames: int = 8_000,
        eval_max_frames: int = 32_000,
        seed: int = 0,
        encoding: str = "utf-8",
        cache: str | Path | None = None,
    ) -> None:
        symbols = string.digits if texts is None else LETTERS
        super().__init__(symbols, LogBands(SAMPLE_RATE, num_bands, 60.0, high), True, max_frames, eval_max_frames, seed)
        self.error_names = ("ler",) if texts is None else ("cer", "wer")
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_sounds = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        self.min_digits = check_integer("min_digits", min_digits, 1)
        self.max_digits = check_integer("max_digits", max_digits, self.min_digits)
        self.rate = check_integer("min_rate", min_rate, 80), check_integer("max_rate", max_rate, min_rate, 450)
        self.pitch = check_integer("min_pitch", min_pitch, 0), check_integer("max_pitch", max_pitch, min_pitch, 99)
        self.max_warp = check_number("max_warp", max_warp, 0.0, 0.5)
        self.max_echo = check_number("max_echo", max_echo, 0.0, 0.9)
        for name, some in (("accents", accents), ("test_accents", accents if test_accents is None else test_accents)):
            if isinstance(some, str) or not some:
                raise ValueError(f"{name} must be a list of one or more, as [{', '.join(ACCENTS)}], got {some!r}")
        self.texts, self.snr = texts, check_range("snr", min_snr, max_snr, -20, 60)
        self.accents = {"train": accents, "val": accents, "test": accents if test_accents is None else test_accents}
        self.ascending = check_integer("ascending", ascending, 0)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        self.encoding, self.recordings, self.cache = check_encoding(encoding), recordings, cache
        self.borders: dict[str, list[np.ndarray]] = {}
        self.voices: dict[str, list[str]] = {}

    def read_parts(self) -> dict[str, list[Recording]]:
        parts: dict[str, list[Recording]] = {}
        with Speaker() as speaker:
            for part in self.num_sounds:
                arrays = self.kept(part, speaker, {}, lambda part=part: self._arrays(part, speaker))
                features = torch.from_numpy(arrays["features"]).split(arrays["frames"].tolist())
                texts = zip(features, arrays["texts"].tolist(), strict=True)
                parts[part] = [Recording(frames, self.symbols.encode(text)) for frames, text in texts]
                self.borders[part] = np.split(arrays["borders"], np.cumsum(arrays["words"])[:-1])
                self.voices[part] = arrays["voices"].tolist()
        if self.recordings is not None:
            parts["train"] += recordings_of(self, read_list(self.recordings, self.encoding))
        return parts

    def _arrays(self, part: str, speaker: Speaker) -> Arrays:
        """Return the features, texts, voices and borders of the sounds of a part, one sound after the other."""
        features, borders, texts, voices = [], [], [], []
        for heard in self.sounds(part, speaker):
            features.append(self.features_of(torch.from_numpy(heard.wave)))
            borders.append(np.array([(word.start, word.end) for word in heard.words]).reshape(-1, 2))
            texts.append(heard.text)
            voices.append(heard.voice)
        return {
            "features": torch.cat(features).numpy(),
            "frames": np.array([len(some) for some in features]),
            "borders": np.concatenate(borders),
            "words": np.array([len(some) for some in borders]),
            "texts": np.array(texts),
            "voices": np.array(voices),
        }

    def kept(self, part: str, speaker: Speaker, more: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return what is made of the sounds of a part, kept from run to run; `more` settings may decide it, too."""
        said = [self.min_digits, self.max_digits] if self.texts is None else self.sentences[part]
        bands = [self._settings(), self.bands.window, self.bands.hop, self.each]
        sound = [self.rate, self.pitch, self.snr, self.max_warp, self.max_echo, list(self.accents[part])]
        size = [part, self.num_sounds[part], self.corpus_seed, list(self.num_sounds).index(part)]
        settings = {"said": said, "bands": bands, "sound": sound, "size": size, "speaker": speaker.identity, **more}
        return kept(self.cache, settings, make, self._reading_notes)

    def known_by(self, parts: dict[str, list[Recording]]) -> str:
        return "digits" if self.texts is None else "\n".join(self.sentences["train"])

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """The sentences of each part, none where digits are spoken."""
        parts: dict[str, list[str]] = {part: [] for part in self.num_sounds}
        if self.texts is not None:
            found, notes = read_sentences(self.texts, self.encoding)
            for sentence in found:
                parts[part_of(sentence, *_PERCENT)].append(sentence)
            for part, some in parts.items():
                if not some:
                    raise ValueError(
                        f"{self.texts}: of {len(found)} sentences none is of the {part} part, by their hash"
                    )
            self._reading_notes += notes
        return parts

    def sounds(self, part: str, speaker: Speaker) -> Iterator[Heard]:
        """Yield the sounds of a part."""
        stream = list(self.num_sounds).index(part)
        rngs = [np.random.default_rng([self.corpus_seed, stream, number]) for number in range(self.num_sounds[part])]
        timbres = timbres_of(part, speaker.timbres)
        said = self._sentences(part, rngs)
        utterances = [self._voiced(text, part, timbres, rng) for text, rng in zip(said, rngs, strict=True)]
        for utterance, speech, rng in zip(utterances, speaker.speak(utterances), rngs, strict=True):
            if part == "train":
                speech = warped(speech, float(np.exp(rng.uniform(-self.max_warp, self.max_warp))))
                speech = echoed(speech, rng.uniform(0.01, 0.2), rng.uniform(0.0, self.max_echo))
            wave, delay = surrounded(speech, rng.uniform(*self.snr), rng)
            words = [word._replace(start=word.start + delay, end=word.end + delay) for word in speech.words]
            text = plain(utterance.text)
            if self.texts is None:
                text = "".join(str(_DIGITS.index(word)) for word in text.split())
            yield Heard(text, utterance.voice, wave, utterance.text, words)

    def _sentences(self, part: str, rngs: list[np.random.Generator]) -> list[str]:
        """Return what is said, digits as words; no sentence comes twice before each came once."""
        if self.texts is None:
            strings = (rng.integers(10, size=rng.integers(self.min_digits, self.max_digits + 1)) for rng in rngs)
            return [" ".join(_DIGITS[value] for value in values) for values in strings]
        some = self.sentences[part]
        order = np.random.default_rng(self.corpus_seed).permutation(len(some))
        return [some[order[number % len(some)]] for number in range(len(rngs))]

    def _voiced(self, text: str, part: str, timbres: list[str], rng: np.random.Generator) -> Utterance:
        accent, timbre = (names[int(rng.integers(len(names)))] for names in (self.accents[part], timbres))
        rate, pitch = (int(rng.integers(low, high + 1)) for low, high in (self.rate, self.pitch))
        return Utterance(text, f"{accent}+{timbre}", rate, pitch)


def timbres_of(part: str, timbres: Sequence[str]) -> list[str]:
    """Return the timbres that are heard in a part, those of one person in one part."""
    return [timbre for timbre in timbres if part_of(family(timbre), *_PERCENT) == part]
