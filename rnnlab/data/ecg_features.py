"""What a network is given of an electrocardiogram: without its baseline, and as large whatever the lead and the gain.

Every value depends on samples near it alone, so that a record may come in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

_AROUND = 0.2  # seconds on each side whose mean is the baseline
_BEFORE, _AHEAD = 3.0, 0.1  # seconds whose steepness is the measure of size
_KNEE = 3.0  # values beyond it are drawn in, as those of a loose electrode
_FLOOR = 1e-9


class Conditioner:
    """Signal -> the same without baseline, in units of its recent steepness, large values drawn in by arcsinh.

    The baseline is the mean of 0.2 s on each side, the steepness the root mean square of differences between
    neighbouring samples from 3 s before to 0.1 s after. At the ends of a record both are of what is there.

    Args:
        rate: samples a second.

    Attributes:
        ahead: samples that have to be known behind one.
    """

    def __init__(self, rate: float) -> None:
        self.around, self.before, self.later = (round(rate * value) for value in (_AROUND, _BEFORE, _AHEAD))
        self.ahead = self.around + self.later
        self._behind = self.before + self.around + 1

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        """Return the features of a whole signal (N,), float32 (N,)."""
        return np.concatenate(list(self.stream([signal])))

    def stream(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the features of a signal that comes in pieces (N_i,), each as soon as what it depends on is known."""
        rest, first, made = np.empty(0), 0, 0  # samples kept, the place of the first one, values yielded
        for piece in pieces:
            rest = np.concatenate([rest, piece])
            stop = max(made, first + len(rest) - self.ahead)
            yield self._values(rest, made - first, stop - first)
            made = stop
            keep = max(first, made - self._behind)
            rest, first = rest[keep - first :], keep
        yield self._values(rest, made - first, len(rest))

    def _values(self, signal: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return values `start` to `stop` of a stretch that has all they depend on, or ends where the record does."""
        if start >= stop:
            return np.empty(0, dtype=np.float32)
        level = signal - signal.mean()  # sums of what is far from zero would lose digits
        level = level - _moving_mean(level, self.around, self.around)
        steps = np.square(np.diff(level, prepend=level[:1]))
        size = np.sqrt(_moving_mean(steps, self.before, self.later)) + _FLOOR
        return np.arcsinh(level / (_KNEE * size))[start:stop].astype(np.float32)


def _moving_mean(values: np.ndarray, before: int, after: int) -> np.ndarray:
    """Return the mean over so many neighbours on each side and the value itself, of those that are there, (N,)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - before, 0), np.minimum(places + after + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
