"""Hearts: rhythm, shapes, and that the truth is where the signal has it."""

import numpy as np
import pytest

from rnnlab.data.heartbeats import EDGE, LIMIT, POINTS, Kinds, draw_beats, render

NORMAL = Kinds(inverted=0.0, block=0.0, ectopic=0.0, early=0.0)


def beats_of(seed=0, seconds=30.0, rate=70.0, kinds=NORMAL):
    return draw_beats(seconds, rate, kinds, np.random.default_rng(seed))


@pytest.mark.parametrize("rate", [45.0, 90.0, 160.0])
def test_the_rate_is_what_it_says_and_varies(rate):
    rates = [60 / np.diff(beats_of(seed, 60.0, rate).column("r")) for seed in range(12)]
    assert np.mean([one.mean() for one in rates]) == pytest.approx(rate, rel=0.02)
    assert all(0 < one.std() / rate < 0.12 for one in rates)
    first, last = beats_of(3).column("r")[[0, -1]]
    assert first < 0 and last > 30.0


def test_points_of_a_beat_are_in_order():
    for seed in range(20):
        points = beats_of(seed, kinds=Kinds(block=0.5)).points
        order = points[:, [POINTS.index(name) for name in ("p", "qrs_on", "q", "r", "s", "qrs_off", "t")]]
        has_p = ~np.isnan(order[:, 0])
        assert (np.diff(order[:, 1:], axis=1) > 0).all() and (order[has_p, 0] < order[has_p, 1]).all()


def test_r_is_the_top_of_the_signal_and_nothing_of_qrs_is_outside_it():
    for seed in range(10):
        beats = beats_of(seed)
        q, s, on, off = (beats.column(name) for name in ("q", "s", "qrs_on", "qrs_off"))
        signal = render(beats, 1000, 30_000)
        for row, r in enumerate(beats.column("r")):
            if 0.1 < r < 29.9:
                part = signal[round(1000 * on[row]) : round(1000 * off[row])]
                assert abs(part.argmax() / 1000 + on[row] - r) < 0.004
        deviations = beats.waves[:, 1]
        for middle, edge in ((q, on), (s, off)):
            places = [int(np.abs(beats.waves[:, 0] - one).argmin()) for one in middle]
            np.testing.assert_allclose(np.abs(edge - middle), EDGE * deviations[places])


def test_a_signal_is_the_same_at_any_rate():
    beats = beats_of()
    np.testing.assert_allclose(render(beats, 500, 5_000)[::2], render(beats, 250, 2_500), atol=1e-3)


def test_kinds_of_beats():
    assert not any((beats_of(seed).durations > LIMIT).any() for seed in range(30))
    assert all((beats_of(seed, kinds=Kinds(0.0, 1.0, 0.0)).durations > LIMIT).all() for seed in range(10))
    durations = np.concatenate([beats_of(seed, kinds=Kinds(block=0.3)).durations for seed in range(60)])
    assert not ((durations > 0.095) & (durations < 0.112)).any() and 0.057 < durations.min() < 0.065
    for seed in range(10):
        beats = beats_of(seed, kinds=Kinds(0.0, 0.0, 1.0, 0.3))
        is_wide, has_p = beats.durations > LIMIT, ~np.isnan(beats.column("p"))
        assert (is_wide == ~has_p).all() and 0 < is_wide.sum() < len(is_wide)
        intervals = np.diff(beats.column("r"))
        assert (intervals[is_wide[1:]] < 0.9 * np.median(intervals)).all()  # each comes early
        assert intervals.min() > 0.29
    signals = [render(beats_of(seed, kinds=Kinds(sign, 0.0, 0.0)), 250, 7_500) for seed in range(5) for sign in (0, 1)]
    assert all(
        up.max() > -up.min() and down.max() < -down.min() for up, down in zip(signals[::2], signals[1::2], strict=True)
    )
