"""Other sampling rates: sines stay sines, what would fold is gone, and pieces make the whole."""

import numpy as np
import pytest

from rnnlab.data.ecg_features import Conditioner
from rnnlab.data.resampling import Resampler


@pytest.mark.parametrize("rate", [125, 128, 128.33, 200, 249.99432, 257, 257.5, 360, 500, 1000])
def test_a_sine_stays_one(rate):
    times = np.arange(int(8 * rate)) / rate
    for hertz in (3.0, 40.0):
        found = Resampler(rate, 250)(np.sin(2 * np.pi * hertz * times + 0.5))
        found = found[:2_000]
        assert len(found) >= 1_999
        expected = np.sin(2 * np.pi * hertz * np.arange(len(found)) / 250 + 0.5)
        np.testing.assert_allclose(found[50:-50], expected[50:-50], atol=4e-3)


def test_what_would_fold_is_gone():
    times = np.arange(8_000) / 1000
    assert np.abs(Resampler(1000, 250)(np.sin(2 * np.pi * 170 * times))[50:-50]).max() < 0.01


def test_a_constant_stays_and_the_same_rate_changes_nothing():
    np.testing.assert_allclose(Resampler(360, 250)(np.full(720, 7.0)), 7.0)
    signal = np.random.default_rng(0).standard_normal(500)
    np.testing.assert_array_equal(Resampler(250.0, 250)(signal), signal)


def test_rates_of_no_common_measure_are_kept_exactly():
    """Half an hour later a rate that was rounded to a hundredth would be milliseconds off."""
    rate = 249.99432
    times = np.arange(int(1_800 * rate)) / rate
    found = Resampler(rate, 250)(np.sin(2 * np.pi * 5 * times))
    expected = np.sin(2 * np.pi * 5 * np.arange(len(found)) / 250)
    np.testing.assert_allclose(found[-500:-50], expected[-500:-50], atol=2e-3)


def pieces_of(signal, size):
    return (signal[start : start + size] for start in range(0, len(signal), size))


@pytest.mark.parametrize("size", [1, 7, 360, 5_000])
@pytest.mark.parametrize(
    "make", [lambda: Resampler(360, 250), lambda: Resampler(128.33, 250), lambda: Conditioner(250)]
)
def test_pieces_make_the_whole(make, size):
    signal = np.random.default_rng(0).standard_normal(1_800).cumsum() + 1_000
    pieces = [np.empty(0), *pieces_of(signal, size), np.empty(0)]
    found = np.concatenate(list(make().stream(pieces)))
    np.testing.assert_allclose(found, make()(signal), rtol=0, atol=2e-6)


def test_features_know_neither_gain_nor_baseline():
    rng = np.random.default_rng(0)
    signal = np.convolve(rng.standard_normal(3_000), np.hanning(9), mode="same")
    features = Conditioner(250)(signal)
    np.testing.assert_allclose(Conditioner(250)(40 * signal - 300), features, atol=1e-5)
    tilted = Conditioner(250)(signal + 0.5 * np.arange(3_000) / 250)
    assert np.abs(tilted - features)[100:-100].max() < 0.05
    assert np.corrcoef(features, signal)[0, 1] > 0.9 and features.dtype == np.float32
    assert not Conditioner(250)(np.full(1_000, 3.0)).any()


def test_a_feature_depends_on_what_is_said_alone():
    signal = np.random.default_rng(0).standard_normal(4_000)
    conditioner = Conditioner(250)
    changed = signal.copy()
    changed[2_000] += 50
    is_changed = np.flatnonzero(conditioner(changed) - conditioner(signal))
    assert 2_000 - conditioner.ahead <= is_changed.min() and is_changed.max() <= 2_000 + 4 * 250
