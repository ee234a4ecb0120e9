"""What an electrocardiogram picks up besides the heart. Amplitudes are millivolts, times seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Levels(NamedTuple):
    """How strong each noise is at level 1; all but gaps grow with the level, and each record has shares of its own.

    Attributes:
        wander: root mean square of the baseline's wandering, below 0.5 Hz.
        mains: amplitude of the hum, at 50 or 60 Hz and half as much at its third harmonic.
        muscle: root mean square of muscle noise, white and louder in bursts.
        motion: height of jumps and bumps of a moving electrode, one in 5 s on average.
        gaps: of a record with the electrode off, in every so many; flat but for the last bit.
    """

    wander: float = 0.15
    mains: float = 0.04
    muscle: float = 0.015
    motion: float = 0.2
    gaps: float = 0.25


def draw_noise(rate: float, num_samples: int, level: float, levels: Levels, rng: np.random.Generator) -> np.ndarray:
    """Return noise to be added, float64 (N,).

    Args:
        rate: samples a second.
        num_samples: N.
        level: multiplies all levels.
        levels: of each noise; each is drawn from 0 to twice its level.
        rng: random numbers.
    """
    times = np.arange(num_samples) / rate
    wander, mains, muscle, motion = rng.uniform(0.0, 2.0, 4) * level * np.array(levels[:4])
    return (
        _wander(times, rng) * wander
        + _mains(times, rng) * mains
        + _muscle(times, rng) * muscle
        + _motion(times, rng) * motion
    )


def _wander(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return five slow waves that together have a root mean square of 1."""
    speeds, phases, sizes = rng.uniform(0.05, 0.5, 5), rng.uniform(0, 2 * np.pi, 5), rng.uniform(0.2, 1.0, 5)
    waves = np.sin(2 * np.pi * speeds[:, None] * times + phases[:, None])
    return np.sqrt(2 / np.square(sizes).sum()) * (sizes @ waves)


def _mains(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hertz = rng.choice((50.0, 60.0)) * (1 + 0.002 * rng.standard_normal())
    phases = rng.uniform(0, 2 * np.pi, 2)
    hum = np.sin(2 * np.pi * hertz * times + phases[0])
    third = 3 * hertz
    is_heard = len(times) > 1 and third < 0.5 / (times[1] - times[0])  # an analogue filter keeps out what is above
    return hum + (0.5 * np.sin(2 * np.pi * third * times + phases[1]) if is_heard else 0.0)


def _muscle(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    loudness = np.full(len(times), 0.7)
    for _ in range(rng.poisson(0.2 * len(times) * (times[1] - times[0]) if len(times) > 1 else 0)):
        middle, half = rng.uniform(times[0], times[-1]), rng.uniform(0.2, 1.0)
        loudness[np.abs(times - middle) < half] = 1.5
    return loudness * rng.standard_normal(len(times))


def _motion(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return bumps of 0.2 to 1 s and jumps that fade within a second, up or down."""
    noise = np.zeros(len(times))
    for _ in range(rng.poisson(0.2 * times[-1])):
        start, size = rng.uniform(0.0, times[-1]), rng.uniform(0.3, 1.5) * rng.choice((-1.0, 1.0))
        if rng.random() < 0.5:
            width = rng.uniform(0.07, 0.3)
            noise += size * np.exp(-0.5 * np.square((times - start) / width))
        else:
            after = np.maximum(times - start, 0.0)
            noise += size * (1 - np.exp(-after / 0.02)) * np.exp(-after / rng.uniform(0.2, 1.0))
    return noise


def draw_gaps(seconds: float, levels: Levels, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return when the electrode is off, none in most records: 0.3 to 3 s, seldom longer."""
    if rng.random() >= levels.gaps:
        return []
    length = rng.uniform(0.3, 3.0) if rng.random() < 0.8 else rng.uniform(3.0, 6.0)
    start = rng.uniform(0.0, seconds)
    return [(start, min(seconds, start + length))]


def with_gaps(signal: np.ndarray, rate: float, gaps: list[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """Return a signal that stands still in gaps, at some level, but for noise of a few microvolts."""
    result = signal.copy()
    for start, end in gaps:
        part = result[round(start * rate) : round(end * rate)]
        part[:] = rng.choice((0.0, -2.0, 2.0, float(part[0]) if len(part) else 0.0))
        part += rng.uniform(0.0, 0.004) * rng.standard_normal(len(part))
    return result
