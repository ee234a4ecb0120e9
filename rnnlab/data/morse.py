"""Morse code as sound, keyed by hand through noise, and its text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rnnlab.baselines import decode_morse, score_answers
from rnnlab.data.checks import check_integer, check_number, check_range
from rnnlab.data.features import LogBands, Totals, standardise
from rnnlab.data.morse_code import CODE, SYMBOLS, Channel, key, sound
from rnnlab.data.sounds import Recording, SoundData

SAMPLE_RATE = 4_000
_TONE = (400.0, 900.0)
_STEP = 31.25  # Hz between bands, 1 / 32 ms
_BESIDE = 3  # bands on each side of the tone's
_LETTERS = "ETAOINSHRDLUCMFWYPVBGKQJXZ"
_FIGURES, _MARKS = "0123456789", ".,?/=+"


class MorseData(SoundData):
    """Groups of letters and figures and call signs in Morse code, as sound, and their text.

    Each sound has a speed, a tone of 400 to 900 Hz, a hand's jitter, noise, fading and clicks of its own
    (`rnnlab.data.morse_code`). Texts have no language: what is read was heard.

    Args:
        num_train, num_val, num_test: sounds of each part.
        min_symbols, max_symbols: of a text, spaces included, about.
        min_speed, max_speed: in words a minute.
        jitter: of lengths, up to this, see `rnnlab.data.morse_code.key`.
        min_snr, max_snr: of the tone over the noise in 500 Hz, in dB.
        max_fading: in dB.
        max_clicks: a second.
        corpus_seed: decides the texts and sounds.
        max_frames, eval_max_frames, seed: see `SoundData`; frames are 12 ms.

    Raises:
        ValueError: an argument is out of range.
    """

    error_names = ("cer", "wer")

    def __init__(
        self,
        num_train: int = 6_000,
        num_val: int = 400,
        num_test: int = 1_000,
        min_symbols: int = 3,
        max_symbols: int = 12,
        min_speed: float = 12.0,
        max_speed: float = 35.0,
        jitter: float = 0.12,
        min_snr: float = -4.0,
        max_snr: float = 10.0,
        max_fading: float = 6.0,
        max_clicks: float = 1.0,
        corpus_seed: int = 0,
        max_frames: int = 16_000,
        eval_max_frames: int = 64_000,
        seed: int = 0,
    ) -> None:
        low = _TONE[0] - _BESIDE * _STEP
        num_bands = int((_TONE[1] - _TONE[0]) / _STEP) + 2 * _BESIDE + 1
        bands = LogBands(SAMPLE_RATE, num_bands, low, window_ms=32.0, hop_ms=12.0, scale="linear")
        # Noise is white, and the tone stands out of it: all bands together keep what sets them apart.
        super().__init__(SYMBOLS, bands, False, max_frames, eval_max_frames, seed)
        self.sizes["num_features"] = 2 * _BESIDE + 1
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_sounds = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        self.min_symbols = check_integer("min_symbols", min_symbols, 1)
        self.max_symbols = check_integer("max_symbols", max_symbols, self.min_symbols)
        self.speed = check_range("speed", min_speed, max_speed, 5.0, 60.0)
        self.snr = check_range("snr", min_snr, max_snr, -20.0, 60.0)
        self.jitter = 0.0, check_number("jitter", jitter, 0.0, 0.5)
        self.fading = 0.0, check_number("max_fading", max_fading, 0.0, 40.0)
        self.clicks = 0.0, check_number("max_clicks", max_clicks, 0.0, 50.0)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)

    def read_parts(self) -> dict[str, list[Recording]]:
        return {
            part: [
                Recording(self.features_of(torch.from_numpy(wave)), self.symbols.encode(text))
                for text, wave in self.waves(part)
            ]
            for part in self.num_sounds
        }

    def known_by(self, parts: dict[str, list[Recording]]) -> str:
        return f"morse {self.corpus_seed}"  # what is keyed and how may be another's

    def features_from(self, bands: Tensor, totals: Totals) -> Tensor:
        """Return the loudest band and those beside it, (T, F): what is read does not depend on the tone."""
        place = int(totals.powers[_BESIDE:-_BESIDE].argmax())
        chosen = slice(place, place + 2 * _BESIDE + 1)
        return standardise(bands[:, chosen], totals.of(chosen), self.each)

    def waves(self, part: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each text of a part and its sound, float32 (N,), 4000 samples a second."""
        stream = list(self.num_sounds).index(part)
        for number in range(self.num_sounds[part]):
            rng = np.random.default_rng([self.corpus_seed, stream, number])
            text = draw_text(int(rng.integers(self.min_symbols, self.max_symbols + 1)), rng)
            keying = key(text, rng.uniform(*self.speed), rng.uniform(*self.jitter), rng)
            tone, snr, fading = rng.uniform(*_TONE), rng.uniform(*self.snr), rng.uniform(*self.fading)
            channel = Channel(tone, snr, fading, rng.uniform(1.0, 6.0), rng.uniform(*self.clicks))
            yield text, sound(keying, channel, SAMPLE_RATE, rng)

    def baselines(self) -> dict[str, float]:
        """Return the error rate of characters of a classical decoder: 'baseline/classical/<part>/cer'."""
        result = {}
        for part in ("val", "test"):
            texts, waves = zip(*self.waves(part), strict=True)
            answers = [decode_morse(wave, SAMPLE_RATE, CODE) for wave in waves]
            scores = score_answers(answers, [[text] for text in texts])
            result[f"baseline/classical/{part}/cer"] = scores.symbol_error_rate
        return result


def draw_text(size: int, rng: np.random.Generator) -> str:
    """Return about so many symbols: groups of letters, of figures, of both, and call signs."""
    groups: list[str] = []
    while not groups or len(" ".join(groups)) < size - 1:
        rest = max(1, size - len(" ".join(groups)) - 1)
        length = int(min(rest, rng.integers(1, 7)))
        kind = rng.random()
        if kind < 0.5:
            group = _draw(_LETTERS, length, rng)
        elif kind < 0.65:
            group = _draw(_FIGURES, length, rng)
        elif kind < 0.85 or length < 4:
            group = _draw(_LETTERS + _FIGURES + _MARKS, length, rng)
        else:
            group = _draw(_LETTERS, 2, rng) + _draw(_FIGURES, 1, rng) + _draw(_LETTERS, length - 3, rng)
        groups.append(group)
    return " ".join(groups)


def _draw(symbols: str, number: int, rng: np.random.Generator) -> str:
    return "".join(symbols[index] for index in rng.integers(len(symbols), size=number))
