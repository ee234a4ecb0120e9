"""The likeliest alignment of a long text with a long sound, in memory for a stretch of it alone.

Letters: T frames, V classes, S = 2U + 1 positions of a text of U symbols (see `rnnlab.decoding.alignment`), W of them
followed at once.

Viterbi's search keeps a move for each position in each frame. Here it keeps them for the W positions around the one
that is likeliest so far, and for the frames about which there is still some doubt: where the ways back from all W
positions meet, they have been one, whatever comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from rnnlab.decoding.alignment import BLANK

_WIDTH = 256


class _Moves(NamedTuple):
    """By how much each of W positions, from `first` on, was advanced in a frame, uint8 (W,)."""

    first: int
    moves: np.ndarray

    def before(self, places: np.ndarray) -> np.ndarray:
        """Return the positions from which some were reached."""
        return places - self.moves[places - self.first]


def follow_text(
    parts: Iterable[Tensor], num_frames: int, ids: Sequence[int], width: int = _WIDTH
) -> Iterator[list[int]]:
    """Yield the classes of frames on the likeliest alignment of a text, some frames at a time.

    It is that of `rnnlab.decoding.align`, unless that one is in some frame more than `width` / 4 symbols away from
    where the text is likeliest to be so far: then it is the likeliest one that is not. With `width` at least twice S it
    always is.

    Args:
        parts: logits of one sound, (T_i, V) one after the other.
        num_frames: T, their number.
        ids: the text.
        width: W.

    Raises:
        ValueError: the text does not fit into the frames.
    """
    classes, may_skip, needed = _positions(ids, width)
    if needed[:2].min() + 1 > num_frames and (ids or num_frames):
        raise ValueError(f"a text of {len(ids)} symbols does not fit into {num_frames} frames")
    first, left, doubtful = 0, num_frames, []
    scores = np.full(width, -np.inf)
    scores[0] = 0.0  # before the first frame, as in `align`
    for part in parts:
        for frame in part.detach().cpu().double().clamp(min=-1e9).numpy():
            window, left = slice(first, first + width), left - 1
            ways = np.full((3, width), -np.inf)
            ways[0], ways[1, 1:] = scores, scores[:-1]
            ways[2, 2:] = np.where(may_skip[window][2:], scores[:-2], -np.inf)
            moves = ways.argmax(0)  # the first of equal values
            scores = np.where(needed[window] <= left, ways.max(0) + frame[classes[window]], -np.inf)
            doubtful.append(_Moves(first, moves.astype(np.uint8)))
            ahead = max(0, int(scores.argmax()) - width // 2)
            scores, first = np.append(scores[ahead:], np.full(ahead, -np.inf)), first + ahead
        settled, doubtful = _settled(doubtful, first + np.flatnonzero(scores > -np.inf))
        yield classes[settled].tolist()
    end = scores[::-1].argmax()  # the last of equal values
    yield classes[_way_back(doubtful, first + width - 1 - end)].tolist()


def _positions(ids: Sequence[int], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each position its class, whether it may be reached from two before, and how many frames must follow.

    Behind the last position come as many as a window may reach, from which no end is.
    """
    size = 2 * len(ids) + 1
    classes = np.full(size + 2 * width, BLANK, dtype=np.int64)
    classes[1:size:2] = ids
    may_skip = np.zeros(len(classes), dtype=bool)
    may_skip[2:] = (classes[2:] != BLANK) & (classes[2:] != classes[:-2])
    needed = np.full(len(classes), np.iinfo(np.int64).max)
    needed[max(0, size - 2) : size] = 0
    for place in range(size - 3, -1, -1):
        needed[place] = 1 + (needed[place + 2] if may_skip[place + 2] else needed[place + 1])
    return classes, may_skip, needed


def _settled(doubtful: list[_Moves], places: np.ndarray) -> tuple[list[int], list[_Moves]]:
    """Return the positions in frames that all ways to some places share, and the frames about which there is doubt."""
    for count in range(len(doubtful), 0, -1):
        if len(places) == 1:
            return _way_back(doubtful[:count], int(places[0])), doubtful[count:]
        places = np.unique(doubtful[count - 1].before(places))
    return [], doubtful


def _way_back(frames: list[_Moves], place: int) -> list[int]:
    """Return the positions in frames on the way to a place, from the first frame on."""
    places = []
    for frame in reversed(frames):
        places.append(place)
        place -= int(frame.moves[place - frame.first])
    return places[::-1]
