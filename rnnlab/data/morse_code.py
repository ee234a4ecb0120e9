"""Morse code as it is heard: from a text to the samples of a tone that somebody keys by hand, through noise.

Lengths of signs and speeds are those of ITU-R M.1677-1; a speed of w words a minute is that of the word PARIS, whose 50
units then take 60 / w seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CODE = {
    **dict(zip("ABCDEFGHI", ".- -... -.-. -.. . ..-. --. .... ..".split(), strict=True)),
    **dict(zip("JKLMNOPQR", ".--- -.- .-.. -- -. --- .--. --.- .-.".split(), strict=True)),
    **dict(zip("STUVWXYZ", "... - ..- ...- .-- -..- -.-- --..".split(), strict=True)),
    **dict(zip("12345", ".---- ..--- ...-- ....- .....".split(), strict=True)),
    **dict(zip("67890", "-.... --... ---.. ----. -----".split(), strict=True)),
    **dict(zip(".,?/=+", ".-.-.- --..-- ..--.. -..-. -...- .-.-.".split(), strict=True)),
}
SYMBOLS = (*CODE, " ")

_SIGN_GAP, _LETTER_GAP, _WORD_GAP = 1.0, 3.0, 7.0  # in units
_LENGTHS = {".": 1.0, "-": 3.0}
NOISE_BANDWIDTH = 500.0  # in Hz, of the receiver in which signal and noise are compared


class Keying(NamedTuple):
    """How a text was sent.

    Attributes:
        is_on: whether the key is down, bool (P,), of each of P stretches of time.
        seconds: how long each is, float64 (P,).
    """

    is_on: np.ndarray
    seconds: np.ndarray


class Channel(NamedTuple):
    """What happens to a tone on its way.

    Attributes:
        tone: in Hz.
        snr: of the tone, while the key is down, over the noise in `NOISE_BANDWIDTH`, in dB.
        fading: how far the tone sinks, in dB; it comes and goes in `fading_period` seconds.
        fading_period: see there.
        clicks: a second, on average; each is ten times as loud as the noise for a few milliseconds.
    """

    tone: float
    snr: float
    fading: float = 0.0
    fading_period: float = 3.0
    clicks: float = 0.0


def unit_seconds(words_a_minute: float) -> float:
    """Return the length of a dot."""
    return 1.2 / words_a_minute


def key(text: str, words_a_minute: float, jitter: float, rng: np.random.Generator) -> Keying:
    """Send a text by hand: all lengths vary, and the hand has habits in its dashes and in its gaps.

    Args:
        text: of `SYMBOLS`, no space at either end and none beside another.
        words_a_minute: the speed.
        jitter: standard deviation of the logarithm of each length; half of it that of the habits.
        rng: random numbers.
    """
    units: list[float] = []
    kinds: list[int] = []  # 0 dot, 1 dash, 2 gap within a letter, 3 between letters, 4 between words
    for word in text.split(" "):
        for letter in word:
            for sign in CODE[letter]:
                units += [_LENGTHS[sign], _SIGN_GAP]
                kinds += ["-" == sign, 2]
            units[-1], kinds[-1] = _LETTER_GAP, 3
        units[-1], kinds[-1] = _WORD_GAP, 4
    units, kinds = units[:-1], kinds[:-1]
    habits = np.exp(0.5 * jitter * rng.standard_normal(5))
    varied = np.array(units) * habits[np.array(kinds)] * np.exp(jitter * rng.standard_normal(len(units)))
    return Keying(np.arange(len(units)) % 2 == 0, varied * unit_seconds(words_a_minute))


def sound(keying: Keying, channel: Channel, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return what is heard, float32 (N,), of an RMS of 0.1, with a quarter of a second before and after.

    Args:
        keying: of `key`.
        channel: the way.
        sample_rate: in Hz, more than twice the tone.
        rng: random numbers.
    """
    ends = np.rint(np.cumsum(keying.seconds) * sample_rate).astype(np.int64)
    pause = np.zeros(sample_rate // 4)
    is_on = np.concatenate([pause, np.repeat(keying.is_on.astype(np.float64), np.diff(ends, prepend=0)), pause])
    rise = np.hanning(max(3, sample_rate // 200))  # 5 ms, as a transmitter has it, to keep clicks out of the air
    envelope = np.convolve(is_on, rise / rise.sum(), mode="same")
    seconds = np.arange(len(envelope)) / sample_rate
    phase, fading_phase = rng.uniform(0, 2 * np.pi, size=2)
    sunk = 0.5 - 0.5 * np.cos(2 * np.pi * seconds / channel.fading_period + fading_phase)
    envelope *= 10 ** (-channel.fading * sunk / 20)
    power = np.square(envelope[is_on > 0]).mean() / 2
    tone = envelope * np.sin(2 * np.pi * channel.tone * seconds + phase) / np.sqrt(power)
    # White noise spreads over half the sample rate; the tone's power is 1 now.
    deviation = np.sqrt(10 ** (-channel.snr / 10) * (sample_rate / 2) / NOISE_BANDWIDTH)
    noise = rng.standard_normal(len(tone), dtype=np.float32) * deviation
    for start in rng.integers(len(tone), size=rng.poisson(channel.clicks * seconds[-1])):
        noise[start : start + int(sample_rate * rng.uniform(0.001, 0.004))] *= 10
    heard = tone + noise
    return (0.1 / np.sqrt(np.square(heard).mean()) * heard).astype(np.float32)
