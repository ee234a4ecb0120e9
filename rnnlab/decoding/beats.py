"""From what a network says of each frame to heart beats: none twice within the refractory time.

Letters: T frames, P points of a beat, K beats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rnnlab.decoding.sampling import check_integer, check_number

UNIT = 0.02  # seconds, in which a network says how far a point is from the middle of its frame
_NEAR = 2  # frames on each side over which the certainty of one beat may be spread


class BeatFinder:
    """Scores (T, 1 + P) of frames -> times of the points of beats (K, P), the first of them that of R.

    The first score of a frame is the logit of R being in it, the others are how far each point of that beat is from the
    frame's middle, in units of 20 ms. A frame that is more probable than two on each side is a beat if the probability
    of the five together is at least the threshold, and no other such frame within the refractory time has more. All
    this is of frames near by, so that scores may come in pieces.

    Args:
        frame_seconds: length of a frame.
        refractory_ms: time within which no second beat is.
        threshold: least probability.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, frame_seconds: float, refractory_ms: float = 200, threshold: float = 0.3) -> None:
        check_number("task.threshold", threshold)
        if not 0 < threshold < 1:
            raise ValueError(f"task.threshold must lie between 0 and 1, got {threshold!r}")
        check_integer("task.refractory_ms", refractory_ms, 0)
        self.frame_seconds, self.refractory, self.threshold = frame_seconds, refractory_ms / 1000, threshold
        self.reach = max(_NEAR, int(self.refractory / frame_seconds))

    @property
    def ahead(self) -> int:
        """Return how many frames behind one have to be known."""
        return self.reach + _NEAR

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the beats of all scores of a record, seconds from its start, float64 (K, P)."""
        return np.concatenate(list(self.stream([scores])))

    def stream(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the beats of scores that come in pieces (T_i, 1 + P), each as soon as it cannot change any more."""
        rest: np.ndarray | None = None
        first, made, last = 0, 0, -np.inf  # frame of rest[0], frames decided, R of the last beat
        for piece in pieces:
            rest = piece if rest is None else np.concatenate([rest, piece])
            stop = max(made, first + len(rest) - self.ahead)
            beats, last = self._beats(rest, first, made, stop, last)
            yield beats
            made = stop
            keep = max(first, made - self.ahead)
            rest, first = rest[keep - first :], keep
        if rest is not None:
            yield self._beats(rest, first, made, first + len(rest), last)[0]

    def _beats(self, scores: np.ndarray, first: int, start: int, stop: int, last: float) -> tuple[np.ndarray, float]:
        """Return the beats of frames `start` to `stop`, and the R of the last one; scores[0] is of frame `first`."""
        if start >= stop:
            return np.empty((0, scores.shape[1] - 1)), last
        probs = np.exp(-np.logaddexp(0.0, -scores[:, 0].astype(np.float64)))
        near = _windows(probs, _NEAR)
        strength = np.where(near.argmax(axis=1) == _NEAR, near.sum(axis=1), 0.0)
        window = slice(start - first, stop - first)
        is_beat = _windows(strength, self.reach)[window].argmax(axis=1) == self.reach
        found = []
        for frame in (np.flatnonzero(is_beat & (strength[window] >= self.threshold)) + start - first).tolist():
            points = (first + frame + 0.5) * self.frame_seconds + UNIT * scores[frame, 1:].astype(np.float64)
            if points[0] - last >= self.refractory:
                found.append(points)
                last = float(points[0])
        return np.array(found).reshape(-1, scores.shape[1] - 1), last


def _windows(values: np.ndarray, reach: int) -> np.ndarray:
    """Return each value among so many on both sides, zero beyond the ends, (T, 2 * reach + 1)."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, reach), 2 * reach + 1)
