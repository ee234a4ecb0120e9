"""Heart beats without a network (Pan and Tompkins, 1985), and which found beat is which true one."""

from __future__ import annotations

import numpy as np

_BAND = (5.0, 15.0)  # Hz, where QRS has most of its power
_HALF_BAND = 0.15  # seconds on each side that the band-pass sums over
_WINDOW = 0.15  # seconds of the moving integral
_REFRACTORY = 0.2
_T_WAVE = 0.36  # seconds within which what is half as steep as the beat before is its T wave
_LATE = 1.66  # intervals without a beat after which a lower threshold is tried
_AROUND = 0.1  # seconds around the integral's peak in which R is looked for


def pan_tompkins(signal: np.ndarray, rate: float) -> np.ndarray:
    """Return the times of R, in seconds, (K,), by band-pass, slope, square, moving integral and two thresholds.

    All filters here are symmetric, so that nothing is late: the peak of the causal integral of the paper stands behind
    R by half its window and the delays of the filters. Each R is then put where the band-passed signal is largest,
    upwards or downwards, and on the sample's neighbours by a parabola.

    Args:
        signal: (N,).
        rate: samples a second.
    """
    if len(signal) < rate:
        return np.empty(0)
    filtered = _band_passed(np.asarray(signal, dtype=np.float64), rate)
    slope = np.gradient(filtered) * rate
    window = max(1, round(_WINDOW * rate))
    integral = np.convolve(np.square(slope), np.full(window, 1 / window), mode="same")
    places = _beats(integral, np.abs(slope), rate)
    return np.array([_place_of_r(np.abs(filtered), place, rate) for place in places]) / rate


def _band_passed(signal: np.ndarray, rate: float) -> np.ndarray:
    reach = round(_HALF_BAND * rate)
    times = np.arange(-reach, reach + 1) / rate
    taps = sum(sign * 2 * edge / rate * np.sinc(2 * edge * times) for sign, edge in zip((-1, 1), _BAND, strict=True))
    taps = taps * np.hanning(2 * reach + 3)[1:-1]
    padded = np.concatenate([np.full(reach, signal[0]), signal, np.full(reach, signal[-1])])
    return np.convolve(padded - np.median(signal), taps - taps.mean(), mode="valid")


def _beats(integral: np.ndarray, slope: np.ndarray, rate: float) -> list[int]:
    """Return the peaks of the integral that are beats, by thresholds between the levels of signal and of noise."""
    peaks = _peaks(integral, round(_REFRACTORY * rate))
    start = integral[: round(2 * rate)]
    signal_level, noise_level = 0.3 * float(start.max()), 0.5 * float(start.mean())
    beats: list[int] = []
    skipped: list[int] = []  # peaks since the last beat
    interval = None
    for peak in peaks:
        threshold = noise_level + 0.25 * (signal_level - noise_level)
        if beats and interval and peak - beats[-1] > _LATE * interval:
            late = [one for one in skipped if integral[one] > 0.5 * threshold]
            if late:
                best = max(late, key=lambda one: integral[one])
                beats.append(best)
                signal_level = 0.25 * float(integral[best]) + 0.75 * signal_level
                skipped = [one for one in skipped if one > best]
        is_beat = integral[peak] > threshold and not _is_t_wave(peak, beats, slope, rate)
        if is_beat:
            beats.append(peak)
            signal_level, skipped = 0.125 * float(integral[peak]) + 0.875 * signal_level, []
        else:
            noise_level = 0.125 * float(integral[peak]) + 0.875 * noise_level
            skipped.append(peak)
        recent = np.diff(beats[-9:])
        interval = float(recent.mean()) if len(recent) else None
    return beats


def _is_t_wave(peak: int, beats: list[int], slope: np.ndarray, rate: float) -> bool:
    if not beats or peak - beats[-1] > _T_WAVE * rate:
        return False
    reach = round(0.075 * rate)
    steepness = [slope[max(0, one - reach) : one + reach + 1].max() for one in (peak, beats[-1])]
    return steepness[0] < 0.5 * steepness[1]


def _peaks(values: np.ndarray, distance: int) -> list[int]:
    """Return the places that are largest within a distance on both sides, and not zero; of equal ones the first."""
    inner = (values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])
    tops = np.flatnonzero(inner) + 1
    heights = values[tops]
    first, last = np.searchsorted(tops, tops - distance), np.searchsorted(tops, tops + distance, side="right")
    rows = enumerate(zip(first.tolist(), last.tolist(), strict=True))
    return [int(tops[row]) for row, (low, high) in rows if heights[low:high].argmax() == row - low]


def _place_of_r(size: np.ndarray, place: int, rate: float) -> float:
    """Return the sample of the largest value around a place, in fractions."""
    reach = round(_AROUND * rate)
    start = max(0, place - reach)
    best = start + int(size[start : place + reach + 1].argmax())
    if not 0 < best < len(size) - 1:
        return float(best)
    left, middle, right = size[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return best + (0.5 * (left - right) / bend if bend < 0 else 0.0)


def match_beats(found: np.ndarray, true: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which found beat is which true one: pairs of numbers, int64 (M, 2), each beat in one pair at most.

    In the order of time a true beat takes the nearest found one within the tolerance that none has taken.

    Args:
        found: ascending times (F,).
        true: ascending times (K,).
        tolerance: in the same unit.

    Example:
        >>> match_beats(np.array([1.0, 1.04, 3.0]), np.array([1.03, 2.0, 3.01]), 0.05).tolist()
        [[1, 0], [2, 2]]
    """
    pairs, first = [], 0
    for number, time in enumerate(true.tolist()):
        while first < len(found) and found[first] < time - tolerance:
            first += 1
        best = first
        while best + 1 < len(found) and abs(found[best + 1] - time) < abs(found[best] - time):
            best += 1
        if best < len(found) and abs(found[best] - time) <= tolerance:
            pairs.append((best, number))
            first = best + 1
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
