"""Noise of electrocardiograms has the strength and the frequencies that are stated."""

import numpy as np
import pytest

from rnnlab.data import ecg_noise
from rnnlab.data.ecg_noise import Levels, draw_gaps, draw_noise, with_gaps

SILENT = Levels(0.0, 0.0, 0.0, 0.0, 0.0)


def spectrum(signal, rate):
    power = np.square(np.abs(np.fft.rfft(signal * np.hanning(len(signal)))))
    return np.fft.rfftfreq(len(signal), 1 / rate), power / power.sum()


def noise(seed=0, level=1.0, rate=500, seconds=40, **levels):
    return draw_noise(rate, seconds * rate, level, SILENT._replace(**levels), np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["wander", "muscle"])
def test_root_mean_square_is_the_level(name):
    found = [np.sqrt(np.square(noise(seed, 2.0, **{name: 0.1})).mean()) for seed in range(150)]
    assert np.mean(found) == pytest.approx(0.2, rel=0.15) and max(found) < 0.6


def test_wander_is_slow_and_mains_are_at_50_or_60_hertz():
    peaks = set()
    for seed in range(20):
        hertz, power = spectrum(noise(seed, wander=0.1), 500)
        assert power[hertz < 0.7].sum() > 0.99
        hertz, power = spectrum(noise(seed, mains=0.1), 500)
        peaks.add(round(hertz[power.argmax()] / 10) * 10)
        assert power[(hertz > 140) & (hertz < 190)].sum() == pytest.approx(0.2, abs=0.02)
    assert peaks == {50, 60}
    hertz, power = spectrum(noise(mains=0.1, rate=250), 250)
    assert power[hertz > 70].sum() < 1e-3  # the third harmonic is kept out, not folded


def test_noise_grows_with_the_level_and_is_none_without():
    np.testing.assert_allclose(noise(level=3.0, motion=0.2), 3 * noise(motion=0.2))
    assert not noise().any() and noise(1, motion=0.2).any()


def test_bumps_and_jumps_come_one_in_five_seconds():
    rng, heights = np.random.default_rng(0), []
    for _ in range(200):
        heights.append(np.abs(ecg_noise._motion(np.arange(2_500) / 250, rng)).max())
    assert 0.75 < np.mean(np.array(heights) > 0.1) < 0.95  # two in ten seconds: none in 14%


def test_gaps_stand_still():
    rng = np.random.default_rng(0)
    assert draw_gaps(10.0, SILENT, rng) == []
    found = [draw_gaps(10.0, SILENT._replace(gaps=1.0), rng) for _ in range(200)]
    lengths = np.array([end - start for ((start, end),) in found])
    assert lengths.max() <= 6.0 and 0.1 < (lengths > 3.0).mean() < 0.25
    signal = rng.standard_normal(2_500)
    result = with_gaps(signal, 250, [(2.0, 3.0)], rng)
    assert np.ptp(result[500:750]) < 0.05
    np.testing.assert_array_equal(np.delete(result, np.s_[500:750]), np.delete(signal, np.s_[500:750]))
