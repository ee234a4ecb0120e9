"""Hearts: when they beat, and the electrocardiogram of each beat, with the truth about it.

A beat is a sum of Gaussians, one for each of the waves P, Q, R, S and T, as the dynamical model of McSharry et al.
(2003, A dynamical model for generating synthetic electrocardiogram signals) adds them up, at times that follow
the rhythm: intervals between beats vary with breath and blood pressure, P and T move with the interval before them, QRS
keeps its duration. Where a wave is is where its Gaussian has its middle; QRS lasts from 2.5 standard deviations before
Q to 2.5 behind S, where either wave is 4% of its height.

Times are seconds, amplitudes millivolts. Letters: K beats, N samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

POINTS = ("p", "q", "r", "s", "t", "qrs_on", "qrs_off")
LIMIT = 0.1  # seconds: a QRS that lasts longer is wide; normal ones drawn here last 0.058 to 0.094, wide ones 0.113 on
EDGE = 2.5  # standard deviations of Q and S to the ends of QRS
_REACH = 4.0  # standard deviations to which a wave is drawn
_LEAST_INTERVAL = 0.3


class Beats(NamedTuple):
    """The truth about K beats.

    Attributes:
        points: seconds from the record's start, columns as in `POINTS`, NaN for a P that is not there, (K, 7).
        waves: middle in seconds, standard deviation in seconds and height in mV of every Gaussian, (M, 3).
    """

    points: np.ndarray
    waves: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """Return the times of a point, (K,)."""
        return self.points[:, POINTS.index(name)]

    @property
    def durations(self) -> np.ndarray:
        """Return how long each QRS lasts, (K,)."""
        return self.column("qrs_off") - self.column("qrs_on")


class Shape(NamedTuple):
    """One heart's QRS and what stands around it, seen by one lead; heights are shares of R's.

    Attributes:
        duration: of QRS.
        widths: standard deviations of Q, R and S, shares of the duration, (3,).
        place: of R, a share of the way from Q to S.
        heights: of P, Q, S and T, (4,).
        notch: height of a second peak behind R, as of a bundle branch block; 0 for none.
        has_p: whether there is a P wave.
    """

    duration: float
    widths: np.ndarray
    place: float
    heights: np.ndarray
    notch: float = 0.0
    has_p: bool = True


class Kinds(NamedTuple):
    """How often something is met.

    Attributes:
        inverted: records of a lead that shows the heart upside down.
        block: records whose every QRS is wide (bundle branch block).
        ectopic: records with early beats, half of which come from a ventricle: wide, and without P.
        early: beats of such a record that are early.
    """

    inverted: float = 0.15
    block: float = 0.12
    ectopic: float = 0.35
    early: float = 0.2


def draw_beats(seconds: float, rate: float, kinds: Kinds, rng: np.random.Generator) -> Beats:
    """Return the beats of one heart from a second before the record's start to a second behind its end.

    Args:
        seconds: length of the record.
        rate: beats a minute, in the mean.
        kinds: what may be met.
        rng: random numbers.
    """
    is_block, is_ectopic = rng.random() < kinds.block, rng.random() < kinds.ectopic
    usual = _draw_shape(is_block, rng)
    ventricular = _draw_shape(True, rng)._replace(has_p=False)
    turned = -1.0 if rng.random() < 0.4 else 1.0  # R of a ventricular beat points elsewhere
    ventricular_height = turned * rng.uniform(1.0, 1.8)
    height = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0)))) * (-1.0 if rng.random() < kinds.inverted else 1.0)
    times, intervals, is_early = _rhythm(seconds, rate, kinds.early if is_ectopic else 0.0, rng)
    breath, phase = rng.uniform(0.0, 0.12), rng.uniform(0, 2 * np.pi)
    pulls = (rng.uniform(0.13, 0.18), rng.uniform(0.27, 0.33))  # how far P and T are from R at one beat a second
    points, waves = [], []
    for time, interval, early in zip(times, intervals, is_early, strict=True):
        is_ventricular = early and rng.random() < 0.5
        shape, scale = (ventricular, ventricular_height) if is_ventricular else (usual, 1.0)
        varied = shape._replace(duration=shape.duration * (1 + 0.01 * rng.standard_normal()))
        level = height * scale * (1 + breath * np.sin(2 * np.pi * 0.25 * time + phase))
        row, gaussians = _draw_beat(varied, time, interval, pulls, level)
        points.append(row)
        waves.append(gaussians)
    return Beats(np.array(points), np.concatenate(waves))


def _draw_shape(is_wide: bool, rng: np.random.Generator) -> Shape:
    duration = rng.uniform(0.117, 0.18) if is_wide else float(np.clip(rng.normal(0.078, 0.008), 0.061, 0.091))
    widths = rng.uniform((0.07, 0.09, 0.07), (0.1, 0.13, 0.11))
    heights = np.array(
        [
            rng.uniform(0.05, 0.2),
            -rng.uniform(0.05, 0.25),
            -rng.uniform(0.1, 0.5),
            rng.uniform(0.1, 0.4) * (-1.0 if rng.random() < (0.7 if is_wide else 0.15) else 1.0),
        ]
    )
    notch = rng.uniform(0.1, 0.5) if is_wide and rng.random() < 0.5 else 0.0
    return Shape(duration, widths, rng.uniform(0.4, 0.6), heights, notch)


def _rhythm(
    seconds: float, rate: float, early: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return time of each R, the interval before it, and whether it comes early, each (K,).

    Intervals go up and down with breath (about 0.25 Hz) and blood pressure (about 0.1 Hz), less in fast hearts.
    """
    mean = 60.0 / rate
    sizes = rng.uniform(0.0, (0.05, 0.04)) * min(1.0, mean / 0.8)
    speeds, phases = rng.normal((0.25, 0.1), (0.03, 0.01)), rng.uniform(0, 2 * np.pi, 2)
    times, intervals, is_early = [], [], []
    time, makes_up = -1.0 - rng.uniform(0.0, mean), 0.0
    while time < seconds + 1.0:
        sway = float((sizes * np.sin(2 * np.pi * speeds * time + phases)).sum())
        usual = mean * (1 + sway + 0.01 * rng.standard_normal())
        comes_early = makes_up == 0.0 and rng.random() < early
        interval = usual * rng.uniform(0.6, 0.85) if comes_early else usual + makes_up
        interval = max(interval, _LEAST_INTERVAL)
        makes_up = max(0.0, usual - interval) * rng.uniform(0.3, 1.0) if comes_early else 0.0
        time += interval
        times.append(time)
        intervals.append(interval)
        is_early.append(comes_early)
    return np.array(times), np.array(intervals), np.array(is_early)


def _draw_beat(
    shape: Shape, time: float, interval: float, pulls: tuple[float, float], level: float
) -> tuple[list[float], np.ndarray]:
    """Return the points of a beat, as in `POINTS`, and its Gaussians (middle, deviation, height), (6 or 7, 3)."""
    q_width, r_width, s_width = shape.widths * shape.duration
    distance = shape.duration - EDGE * (q_width + s_width)  # from Q to S
    q, s = time - shape.place * distance, time + (1 - shape.place) * distance
    stretch = float(np.sqrt(min(interval, 1.2)))  # Bazett (1920): the way from Q to T grows with the root
    p, t = q - pulls[0] * min(1.0, stretch) + 0.04, time + pulls[1] * stretch + max(0.0, shape.duration - LIMIT) / 2
    p_height, q_height, s_height, t_height = shape.heights
    waves = [
        (q, q_width, q_height),
        (time, r_width, 1.0),
        (s, s_width, s_height),
        (t - 0.035 * stretch, 0.05 * stretch, 0.5 * t_height),  # T rises slowly and falls fast
        (t, 0.032 * stretch, 0.7 * t_height),
    ]
    if shape.has_p:
        waves.append((p, 0.02 * stretch, p_height))
    if shape.notch:
        waves.append((time + 0.6 * (s - time), r_width, shape.notch))
    row = [p if shape.has_p else np.nan, q, time, s, t, q - EDGE * q_width, s + EDGE * s_width]
    return row, np.array(waves) * (1.0, 1.0, level)


def render(beats: Beats, rate: float, num_samples: int) -> np.ndarray:
    """Return the electrocardiogram of beats, sample n at n / rate seconds, (N,)."""
    signal = np.zeros(num_samples)
    for middle, deviation, height in beats.waves.tolist():
        first = max(0, int(np.ceil((middle - _REACH * deviation) * rate)))
        last = min(num_samples, int((middle + _REACH * deviation) * rate) + 1)
        if first < last:
            distance = (np.arange(first, last) / rate - middle) / deviation
            signal[first:last] += height * np.exp(-0.5 * distance * distance)
    return signal
