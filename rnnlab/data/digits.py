"""Strings of spoken digits, real recordings one after the other, and their text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rnnlab.data.checks import check_integer, check_range
from rnnlab.data.features import LogBands
from rnnlab.data.sounds import Recording, SoundData
from rnnlab.data.spoken_digits import NUM_TEST, SAMPLE_RATE, Digit, DigitString, join_digits, read_digits

_NUM_VAL = 3  # recordings of each digit by each speaker, behind those of test


class DigitsData(SoundData):
    """Strings of digits, each spoken by one speaker of the Free Spoken Digit Dataset, and their text.

    Of each speaker's recordings of a digit those numbered 0 to 4, the official test part, are in strings of test alone,
    5 to 7 in strings of validation, the rest in strings of training. With `leave_out` test has all recordings of one
    speaker, and the other parts have none.

    A run knows its training part by the recordings that it has, not by the strings: a trained model may be measured on
    strings of other lengths, noise and number.

    Args:
        path: the recordings, a tar file or a folder: as given, or below the folder that RNNLAB_DATA names.
        num_train, num_val, num_test: strings of each part.
        min_digits, max_digits: of a string.
        leave_out: a speaker for test; None for the official parts.
        min_snr, max_snr: of the digits over white noise, in dB.
        ascending: epochs from the shortest strings to the longest, before their order is drawn.
        corpus_seed: decides the strings.
        max_frames, eval_max_frames, seed: see `SoundData`; frames are 10 ms.

    Raises:
        ValueError: an argument is out of range; in `setup`: the recordings cannot be read, or there is no such speaker.

    Attributes:
        borders: for each part, where the digits of each string begin and end, in seconds, (U, 2); known after `setup`.
    """

    error_names = ("ler",)

    def __init__(
        self,
        path: str | Path = "fsdd/recordings.tar.gz",
        num_train: int = 6_000,
        num_val: int = 300,
        num_test: int = 1_000,
        min_digits: int = 1,
        max_digits: int = 7,
        leave_out: str | None = None,
        min_snr: float = 10.0,
        max_snr: float = 30.0,
        ascending: int = 1,
        corpus_seed: int = 0,
        max_frames: int = 8_000,
        eval_max_frames: int = 32_000,
        seed: int = 0,
    ) -> None:
        bands = LogBands(SAMPLE_RATE, 40, 60.0, 3_800.0)
        super().__init__("0123456789", bands, True, max_frames, eval_max_frames, seed)
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_strings = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        self.min_digits = check_integer("min_digits", min_digits, 1)
        self.max_digits = check_integer("max_digits", max_digits, self.min_digits)
        self.ascending = check_integer("ascending", ascending, 0)
        self.path, self.leave_out, self.snr = path, leave_out, check_range("snr", min_snr, max_snr, -20, 60)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        self.borders: dict[str, list[np.ndarray]] = {}
        self._recordings: list[tuple[int, str, int, int]] = []  # of training: value, speaker, index and samples

    def read_parts(self) -> dict[str, list[Recording]]:
        digits = read_digits(self.path)
        speakers = sorted({digit.speaker for digit in digits})
        if self.leave_out is not None and self.leave_out not in speakers:
            raise ValueError(f"leave_out must be one of {', '.join(speakers)}, or null, got {self.leave_out!r}")
        parts = {}
        for stream, part in enumerate(self.num_strings):
            chosen = [digit for digit in digits if self._part_of(digit) == part]
            strings = self._draw(part, chosen, np.random.default_rng([self.corpus_seed, stream]))
            if part == "train":
                self._recordings = [(*digit[:3], len(digit.wave)) for digit in chosen]
            self.borders[part] = [string.borders for string in strings]
            parts[part] = [
                Recording(self.features_of(torch.from_numpy(string.wave)), [value + 1 for value in string.values])
                for string in strings
            ]
        return parts

    def known_by(self, parts: dict[str, list[Recording]]) -> str:
        return repr(self._recordings)

    def _part_of(self, digit: Digit) -> str:
        is_test = digit.index < NUM_TEST if self.leave_out is None else digit.speaker == self.leave_out
        if is_test:
            return "test"
        return "val" if NUM_TEST <= digit.index < NUM_TEST + _NUM_VAL else "train"

    def _draw(self, part: str, digits: list[Digit], rng: np.random.Generator) -> list[DigitString]:
        """Return the strings of a part, each speaker and each digit as likely."""
        by_speaker: dict[str, list[list[Digit]]] = {}
        for digit in digits:
            by_speaker.setdefault(digit.speaker, [[] for _ in range(10)])[digit.value].append(digit)
        speakers = [[recordings for recordings in values if recordings] for _, values in sorted(by_speaker.items())]
        if not speakers:
            raise ValueError(f"{self.path}: has no recording for the {part} part")
        strings = []
        for _ in range(self.num_strings[part]):
            speaker = speakers[rng.integers(len(speakers))]
            values = rng.integers(len(speaker), size=rng.integers(self.min_digits, self.max_digits + 1))
            chosen = [speaker[value][rng.integers(len(speaker[value]))] for value in values]
            strings.append(join_digits(chosen, rng.uniform(*self.snr), rng))
        return strings
