"""Other sampling rates, by a sum over few neighbours, so that a signal may come in pieces.

Letters: N samples, M samples of the result, L places between two samples (phases), W weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

_LOBES = 10  # zero crossings of the sinc on each side
_MOST_PHASES = 10_000  # a place between them is taken for the next one below, 1e-4 of a sample away at most


class Resampler:
    """Signals at one rate -> signals at another, sample m of the result at m / `to` seconds.

    Each value is a sum over neighbours, weighted by a sinc under a Hann window (Smith, Digital audio resampling), which
    keeps what is below 0.9 of half the lower rate. Before the first and behind the last sample stand copies of them.

    Args:
        rate: of the input, samples a second, any number; what is beyond a millionth may be dropped.
        to: of the result.
    """

    def __init__(self, rate: float, to: float) -> None:
        ratio = Fraction(to).limit_denominator(10**6) / Fraction(rate).limit_denominator(10**6)
        self.up, self.down = ratio.numerator, ratio.denominator  # result m lies at m * down / up of the input
        self.phases = min(self.up, _MOST_PHASES)
        cutoff = min(1.0, to / rate)
        self.reach = int(np.ceil(_LOBES / cutoff))
        offsets = np.arange(-self.reach + 1, self.reach + 1) - np.arange(self.phases)[:, None] / self.phases  # (L, W)
        weights = np.sinc(0.95 * cutoff * offsets) * np.cos(np.pi / 2 * offsets / self.reach).clip(0.0) ** 2
        self.weights = weights / weights.sum(axis=1, keepdims=True)
        self.is_same = self.up == self.down == 1

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        """Return all of a signal (N,) at the other rate, (M,), M = N * to / rate rounded up."""
        return np.concatenate(list(self.stream([signal])))

    def stream(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the result of a signal that comes in pieces (N_i,), each as soon as all its neighbours are known."""
        if self.is_same:
            yield from pieces
            return
        rest = np.empty(0)
        first, made, read = -self.reach + 1, 0, 0  # place of rest[0] in the input; values yielded; samples read
        last = 0.0
        for piece in pieces:
            if not len(piece):
                continue
            if read == 0:
                rest = np.full(self.reach - 1, float(piece[0]))
            read, last = read + len(piece), float(piece[-1])
            rest = np.concatenate([rest, piece])
            stop = max(made, -(-(read - self.reach) * self.up // self.down))
            yield self._values(rest, first, made, stop)
            made = stop
            keep = made * self.down // self.up - self.reach + 1
            rest, first = rest[keep - first :], keep
        if read:
            rest = np.concatenate([rest, np.full(self.reach, last)])
            yield self._values(rest, first, made, -(-read * self.up // self.down))

    def _values(self, signal: np.ndarray, first: int, start: int, stop: int) -> np.ndarray:
        """Return results `start` to `stop`; signal[0] is input sample `first`."""
        if start >= stop:
            return np.empty(0)
        places = np.arange(start, stop) * self.down
        windows = np.lib.stride_tricks.sliding_window_view(signal, 2 * self.reach)
        rows = places // self.up - self.reach + 1 - first
        phases = places % self.up * self.phases // self.up
        return np.einsum("mw,mw->m", windows[rows], self.weights[phases])
