"""Beats without a network, and which found one is which true one."""

import numpy as np
import pytest

from rnnlab.baselines import match_beats, pan_tompkins
from rnnlab.data.heartbeats import Kinds, draw_beats, render


@pytest.mark.parametrize("rate", [128, 250, 360])
def test_every_beat_of_clear_signals_is_found_where_it_is(rate):
    for seed in range(6):
        beats = draw_beats(30.0, 50 + 15 * seed, Kinds(ectopic=0.0), np.random.default_rng(seed))
        true = beats.column("r")
        true = true[(true > 0.2) & (true < 29.8)]
        found = pan_tompkins(render(beats, rate, 30 * rate), rate)
        found = found[(found > 0.1) & (found < 29.9)]
        pairs = match_beats(found, true, 0.05)
        assert len(pairs) == len(true) and len(found) - len(pairs) <= 1
        errors = found[pairs[:, 0]] - true[pairs[:, 1]]
        assert abs(errors.mean()) < 0.012  # nothing is late by the window


def test_silence_and_what_is_too_short_have_no_beats():
    assert not len(pan_tompkins(np.zeros(1_000), 250)) and not len(pan_tompkins(np.ones(100), 250))


@pytest.mark.parametrize(
    ("found", "true", "pairs"),
    [
        ([], [1.0], []),
        ([1.0], [], []),
        ([1.0, 2.0, 3.0], [1.04, 1.96, 3.06], [[0, 0], [1, 1]]),
        ([1.0, 1.03], [1.02], [[1, 0]]),  # the nearer one
        ([1.0], [0.97, 1.0], [[0, 0]]),  # in order of time
        ([0.5, 0.97, 1.02], [1.0, 1.04], [[2, 0]]),
    ],
)
def test_pairs(found, true, pairs):
    assert match_beats(np.array(found), np.array(true), 0.05).tolist() == pairs


def test_no_beat_is_in_two_pairs():
    rng = np.random.default_rng(0)
    for _ in range(50):
        found, true = (np.sort(rng.uniform(0, 3, rng.integers(0, 30))) for _ in range(2))
        pairs = match_beats(found, true, 0.05)
        assert (np.diff(pairs, axis=0) > 0).all()
        assert (np.abs(found[pairs[:, 0]] - true[pairs[:, 1]]) <= 0.05).all()
