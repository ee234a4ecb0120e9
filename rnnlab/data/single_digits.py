"""Single spoken digits, real recordings, and which digit each is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnlab.data.batches import Queries
from rnnlab.data.checks import check_integer, check_number, check_range
from rnnlab.data.features import LogBands
from rnnlab.data.labelled import ClassData
from rnnlab.data.noise import in_noise, levelled, played
from rnnlab.data.question_files import sound_files
from rnnlab.data.series_files import Series
from rnnlab.data.sound_files import find_sounds, read_sound
from rnnlab.data.spoken_digits import NUM_TEST, SAMPLE_RATE, Digit, read_digits


class SingleDigitsData(ClassData):
    """The recordings of the Free Spoken Digit Dataset, each a sequence of log mel energies, a frame every 10 ms.

    Of each speaker's recordings of a digit those numbered 0 to 4, the official test part, are test, the `num_val` next
    ones validation, the rest training. With `leave_out` test has all recordings of one speaker, and the other parts
    those of all others: as numbered above, or, with `leave_out_val`, validation those of a second speaker, whom
    training does not have either.

    Args:
        path: the recordings, a tar file or a folder: as given, or below the folder that RNNLAB_DATA names.
        leave_out: a speaker for test; None for the official parts.
        leave_out_val: a speaker for validation; None for recordings of all.
        num_val: recordings of each digit by each speaker that validate.
        copies: so many times each training recording is trained on, but for the first time played faster or slower.
        max_warp: by a factor from exp(-max_warp) to exp(max_warp), and so higher or lower: more voices than there are
            (Ko et al., 2015).
        min_snr, max_snr: and put in white noise, they being so many dB above it; 60 for none.
        range_db: energies are raised to so many dB below the greatest one of their recording, and stand from -1 to 1
            then, whatever the noise and the silence around a digit; None takes them as they are.
        corpus_seed: decides factors and noise.
        scale, batch_steps, eval_batch_steps, seed: see `ClassData`; steps are frames.

    Raises:
        ValueError: an argument is out of range; in `setup`: the recordings cannot be read, or there is no such speaker.
    """

    def __init__(
        self,
        path: str | Path = "fsdd/recordings.tar.gz",
        leave_out: str | None = None,
        leave_out_val: str | None = None,
        num_val: int = 5,
        copies: int = 1,
        max_warp: float = 0.0,
        min_snr: float = 60.0,
        max_snr: float = 60.0,
        range_db: float | None = 40.0,
        corpus_seed: int = 0,
        scale: str = "none",
        batch_steps: int = 4_000,
        eval_batch_steps: int = 32_000,
        seed: int = 0,
    ) -> None:
        super().__init__(scale, batch_steps, eval_batch_steps, seed)
        self.path, self.leave_out, self.leave_out_val = path, leave_out, leave_out_val
        self.num_val = check_integer("num_val", num_val, 1)
        self.copies = check_integer("copies", copies, 1)
        self.max_warp = check_number("max_warp", max_warp, 0.0, 0.5)
        self.snr = check_range("snr", min_snr, max_snr, -20.0, 60.0)
        self.range_db = None if range_db is None else check_number("range_db", range_db, 10.0, 100.0)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        self.bands = LogBands(SAMPLE_RATE, 40, 60.0, 3_800.0)

    def read_parts(self) -> dict[str, list[Series]]:
        digits = read_digits(self.path)
        speakers = sorted({digit.speaker for digit in digits})
        for name in ("leave_out", "leave_out_val"):
            if getattr(self, name) not in (None, *speakers):
                raise ValueError(f"{name} must be one of {', '.join(speakers)}, or null, got {getattr(self, name)!r}")
        if self.leave_out is not None and self.leave_out == self.leave_out_val:
            raise ValueError(f"leave_out and leave_out_val must be two speakers, got {self.leave_out!r} for both")
        found: dict[str, list[Digit]] = {"train": [], "val": [], "test": []}
        for digit in digits:
            if (part := self._part_of(digit)) is not None:
                found[part].append(digit)
        missing = [part for part, some in found.items() if not some]
        if missing:
            raise ValueError(f"{self.path}: has no recording for the {missing[0]} part")
        parts = {part: [self._series(digit) for digit in some] for part, some in found.items()}
        rng = np.random.default_rng(self.corpus_seed)
        parts["more"] = [
            self._series(digit._replace(wave=self._varied(digit.wave, rng)))
            for _ in range(self.copies - 1)
            for digit in found["train"]
        ]
        return parts

    def _part_of(self, digit: Digit) -> str | None:
        if self.leave_out is None:
            if digit.index < NUM_TEST:
                return "test"
        elif digit.speaker == self.leave_out:
            return "test"
        if self.leave_out_val is not None:
            return "val" if digit.speaker == self.leave_out_val else "train"
        return "val" if NUM_TEST <= digit.index < NUM_TEST + self.num_val else "train"

    def _series(self, digit: Digit) -> Series:
        name = f"{digit.value}_{digit.speaker}_{digit.index}"
        return Series(name, self._frames(digit.wave), str(digit.value))

    def _varied(self, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        wave = played(wave, float(np.exp(rng.uniform(-self.max_warp, self.max_warp))))
        snr = rng.uniform(*self.snr)
        return wave if snr == 60.0 else in_noise(levelled(wave), snr, rng)

    def _frames(self, wave: np.ndarray) -> np.ndarray:
        frames = self.bands(torch.from_numpy(wave)).double().numpy()
        if self.range_db is None or not len(frames):
            return frames
        nats = self.range_db * math.log(10) / 10  # energies are logarithms of power to base e
        return (np.maximum(frames - frames.max(), -nats) + nats / 2) / (nats / 2)

    def known_by(self, train: Sequence[Series]) -> bytes:
        return repr([(one.name, one.label) for one in train]).encode()

    def _settings(self) -> dict[str, Any]:
        names = ("sample_rate", "num_features", "low", "high")
        bands = {name: getattr(self.bands, name) for name in names}
        return super()._settings() | bands | {"range_db": self.range_db}

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a sound file, or all of a folder, one digit each.

        Raises:
            ValueError: one is broken ("file: what is wrong"), or too short for a single frame.
        """
        series, notes = [], []
        for file in find_sounds(path):
            sound = read_sound(file, SAMPLE_RATE)
            frames = self._frames(sound.wave)
            if not len(frames):
                raise ValueError(f"{file}: has {len(sound.wave)} samples, and a frame needs {self.bands.window}")
            series.append(Series(str(file), frames, None))
            notes += sound.notes
        return self.queries_of(series, notes)

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return sounds (wave (N,), samples a second) as questions, or the path of a file or folder."""
        return self.read_queries(questions if isinstance(questions, Path) else sound_files(questions, folder))
