"""Morse code without a network: the tone is found, its loudness cut in two, and the lengths sorted.

What a receiver for amateurs does, with the whole message at hand: several speeds are tried, and the one is taken at
which what was heard is nearest to signs and gaps of whole units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_SEARCHED = (350.0, 950.0)  # in Hz, where the tone may be
_STEP = 0.002  # seconds, in which loudness is measured
_UNITS = tuple(1.2 / speed for speed in (11, 13.5, 16.5, 20, 24.5, 30, 36.5))  # of the speeds tried, in seconds
_SIGNS = (1.0, 3.0)  # lengths of marks, in units
_GAPS = (1.0, 3.0, 7.0)
_UNKNOWN = "?"


class _Reading(NamedTuple):
    misfit: float
    unit: float  # in steps
    runs: list[tuple[bool, int]]


def decode_morse(wave: np.ndarray, sample_rate: int, code: Mapping[str, str]) -> str:
    """Return the text of a sound.

    Args:
        wave: (N,).
        sample_rate: in Hz.
        code: letters and their signs, as '.-'.
    """
    letters = {signs: letter for letter, signs in code.items()}
    baseband = _baseband(wave, sample_rate)
    if not baseband.any():
        return ""
    readings = [reading for unit in _UNITS if (reading := _read(baseband, unit / _STEP))]
    if not readings:
        return ""
    _, unit, runs = min(readings)
    text, signs = "", ""
    for is_on, length in runs:
        if is_on:
            signs += "-" if length > 2 * unit else "."
        elif length > 2 * unit and signs:
            text += letters.get(signs, _UNKNOWN) + (" " if length > 5 * unit else "")
            signs = ""
    return (text + (letters.get(signs, _UNKNOWN) if signs else "")).strip()


def _baseband(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the tone, moved to 0 Hz, complex, a value a step."""
    shifted = wave * np.exp(-2j * np.pi * _find_tone(wave, sample_rate) * np.arange(len(wave)) / sample_rate)
    size = round(_STEP * sample_rate)
    return shifted[: len(shifted) // size * size].reshape(-1, size).mean(axis=1)


def _read(baseband: np.ndarray, unit: float) -> _Reading | None:
    """Return what is heard at a speed, and how far it is from it; None where no sign is heard."""
    runs = _without_glitches(_runs(_loudness(baseband, max(1, round(0.8 * unit)))), round(0.5 * unit))
    inner = runs[1:-1] if runs and not runs[0][0] else runs  # without the silence around it
    marks = np.log([length / unit for is_on, length in inner if is_on] or [np.inf])
    if not np.isfinite(marks).all():
        return None
    gaps = np.log([length / unit for is_on, length in inner if not is_on] or [1.0])
    drift, misfit = 0.0, np.inf
    for _ in range(5):  # the speed, between those tried
        wrong = [
            values - drift - np.log(np.array(lengths))[np.abs(values[:, None] - drift - np.log(lengths)).argmin(axis=1)]
            for values, lengths in ((marks, _SIGNS), (gaps, _GAPS))
        ]
        all_wrong = np.concatenate(wrong)
        drift, misfit = drift + float(np.median(wrong[0])), float(np.square(all_wrong).mean())
    return _Reading(misfit, unit * float(np.exp(drift)), runs)


def _find_tone(wave: np.ndarray, sample_rate: int) -> float:
    """Return the frequency of most power, in Hz."""
    size = sample_rate // 5
    count = max(1, len(wave) // size)
    pieces = np.resize(wave, count * size).reshape(count, size) * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(pieces))).sum(axis=0)
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    inside = (frequencies >= _SEARCHED[0]) & (frequencies <= _SEARCHED[1])
    return float(frequencies[inside][power[inside].argmax()])


def _loudness(baseband: np.ndarray, window: int) -> np.ndarray:
    return np.abs(np.convolve(baseband, np.full(window, 1 / window), mode="same"))


def _runs(loudness: np.ndarray) -> list[tuple[bool, int]]:
    """Return stretches above and below a threshold, which has to be passed by a tenth to change sides."""
    threshold = _threshold(loudness)
    above = np.where(loudness > 1.1 * threshold, 1, np.where(loudness < 0.9 * threshold, 0, -1))
    known = np.where(above >= 0, np.arange(len(above)), 0)
    is_on = above[np.maximum.accumulate(known)] == 1
    borders = np.flatnonzero(np.diff(is_on)) + 1
    starts = np.concatenate([[0], borders])
    return list(zip(is_on[starts].tolist(), np.diff(np.append(starts, len(is_on))).tolist(), strict=True))


def _threshold(loudness: np.ndarray) -> float:
    """Return where two groups are furthest apart within their spread (Otsu, 1979)."""
    counts, edges = np.histogram(loudness, bins=200)
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = counts.cumsum(), counts.sum() - counts.cumsum()
    sums = (counts * centres).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * np.square(sums / below - (sums[-1] - sums) / above)
    return float(edges[1:][np.nan_to_num(between).argmax()])


def _without_glitches(runs: list[tuple[bool, int]], least: int) -> list[tuple[bool, int]]:
    """Join what stands on both sides of a stretch that is too short, the shortest first."""
    runs = list(runs)
    while len(runs) > 2:
        index = min(range(len(runs)), key=lambda place: runs[place][1])
        if runs[index][1] >= least:
            break
        first, last = max(0, index - 1), min(len(runs), index + 2)
        is_on = runs[first][0] if first < index else not runs[index][0]
        runs[first:last] = [(is_on, sum(length for _, length in runs[first:last]))]
    return runs
