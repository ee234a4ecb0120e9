"""From scores of frames to beats: where they are, none twice, and the same in pieces as in one."""

import numpy as np
import pytest

from rnnlab.decoding.beats import UNIT, BeatFinder

STEP = 0.016


def scores_of(beats, num_frames=200, certainty=1.0, offsets=(0.0, -0.02, 0.03)):
    """Return scores of R at these seconds, shared by two frames as in training, and points beside it."""
    probs, scores = np.full(num_frames, 1e-4), np.zeros((num_frames, 1 + len(offsets)))
    for time in beats:
        place = time / STEP - 0.5
        for frame in (int(place), int(place) + 1):
            if 0 <= frame < num_frames:
                probs[frame] = max(1e-4, certainty * (1 - abs(place - frame)) - 1e-6)
                scores[frame, 1:] = (time + np.array(offsets) - (frame + 0.5) * STEP) / UNIT
    scores[:, 0] = np.log(probs / (1 - probs))
    return scores


def test_points_are_where_frames_tell_them():
    beats = np.array([0.05, 0.4, 1.2345, 3.0])
    found = BeatFinder(STEP)(scores_of(beats))
    np.testing.assert_allclose(found, beats[:, None] + (0.0, -0.02, 0.03), atol=1e-9)
    assert BeatFinder(STEP)(scores_of([])).shape == (0, 3)


def test_the_threshold_is_of_frames_together():
    assert len(BeatFinder(STEP, threshold=0.59)(scores_of([1.0], certainty=0.6))) == 1
    assert not len(BeatFinder(STEP, threshold=0.61)(scores_of([1.0], certainty=0.6)))


def test_one_beat_may_be_spread_over_five_frames():
    scores = scores_of([])
    scores[98:103, 0] = np.log(np.array([0.1, 0.1, 0.15, 0.1, 0.1]) / (1 - np.array([0.1, 0.1, 0.15, 0.1, 0.1])))
    assert len(BeatFinder(STEP, threshold=0.54)(scores)) == 1 and not len(BeatFinder(STEP, threshold=0.56)(scores))


def test_no_beat_is_there_twice():
    scores = scores_of([1.0, 2.0])
    weaker = scores_of([1.15, 2.0], certainty=0.8)
    both = np.where(weaker[:, :1] > scores[:, :1], weaker, scores)
    np.testing.assert_allclose(BeatFinder(STEP, 200)(both)[:, 0], [1.0, 2.0])
    np.testing.assert_allclose(BeatFinder(STEP, 100)(both)[:, 0], [1.0, 1.15, 2.0])
    rng = np.random.default_rng(0)
    for _ in range(20):  # whatever a network says
        found = BeatFinder(STEP, 200)(rng.normal(0, 3, (300, 4)))[:, 0]
        assert (np.diff(found) >= 0.2).all()


@pytest.mark.parametrize("size", [1, 5, 13, 100])
def test_pieces_make_the_whole(size):
    finder, scores = BeatFinder(STEP), np.random.default_rng(1).normal(-1, 2, (500, 4))
    pieces = (scores[start : start + size] for start in range(0, 500, size))
    found = list(finder.stream(pieces))
    np.testing.assert_array_equal(np.concatenate(found), finder(scores))
    assert len(finder(scores)) > 5 and sum(map(len, found[:-1]))


def test_pieces_make_the_whole_where_beats_crowd():
    finder, scores = BeatFinder(STEP, 80, 0.01), np.random.default_rng(2).normal(-1, 2, (5_000, 3))
    scores[:, 1:] = 0
    for size in (1, 3):
        found = finder.stream(scores[start : start + size] for start in range(0, 5_000, size))
        np.testing.assert_array_equal(np.concatenate(list(found)), finder(scores))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "task.threshold must lie between 0 and 1, got 0.0"),
        ({"threshold": 1}, "task.threshold must lie between 0 and 1, got 1"),
        ({"threshold": True}, "task.threshold must be a finite number"),
        ({"refractory_ms": -1}, "task.refractory_ms must be an integer of at least 0, got -1"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BeatFinder(STEP, **arguments)
