"""Features of sound against published constants and by hand, and in pieces."""

import math

import numpy as np
import pytest
import torch

from rnnlab.data.features import LogBands, Totals, cepstra, deltas, hertz_to_mel, mel_filters, mel_to_hertz, standardise


def test_the_mel_scale_is_that_of_htk():
    # librosa.hz_to_mel(440, htk=True) and its documentation of the inverse, 1127 ln(1 + f / 700) of Kaldi
    assert hertz_to_mel(440.0) == pytest.approx(549.64, abs=0.005)
    assert mel_to_hertz(3.0) == pytest.approx(1.866, abs=5e-4)
    for hertz in (0.0, 300.0, 1000.0, 8000.0):
        assert hertz_to_mel(hertz) == pytest.approx(1127.01048 * math.log(1 + hertz / 700), rel=2e-5)
        assert mel_to_hertz(hertz_to_mel(hertz)) == pytest.approx(hertz, abs=1e-9)


def test_filters_are_triangles_that_overlap_by_half():
    filters = mel_filters(20, 1024, 16_000, 100.0, 7_000.0)
    assert filters.shape == (513, 20) and (filters >= 0).all() and (filters <= 1).all()
    frequencies = torch.arange(513) * 16_000 / 1024
    assert not filters[(frequencies <= 100) | (frequencies >= 7_000)].any()
    mels = np.linspace(hertz_to_mel(100.0), hertz_to_mel(7_000.0), 22)
    inside = (frequencies > mel_to_hertz(mels[1])) & (frequencies < mel_to_hertz(mels[-2]))
    torch.testing.assert_close(filters[inside].sum(1), torch.ones(int(inside.sum())), atol=1e-5, rtol=0)
    peaks = frequencies[filters.argmax(0)]
    for peak, mel in zip(peaks[5:], mels[6:-1], strict=True):
        assert float(peak) == pytest.approx(mel_to_hertz(mel), abs=16)


def test_a_tone_has_its_power_in_its_mel_band():
    bands = LogBands(8_000, 20, 300.0, 2_000.0, window_ms=32.0)
    frequency, amplitude = 1_000.0, 0.4
    wave = amplitude * torch.sin(2 * math.pi * frequency * torch.arange(8_000) / 8_000)
    found = bands(wave)
    assert found.shape == (bands.num_frames(8_000), 20) == (97, 20)
    centres = np.linspace(hertz_to_mel(300.0), hertz_to_mel(2_000.0), 22)[1:-1]
    assert int(found.mean(0).argmax()) == np.abs(centres - hertz_to_mel(frequency)).argmin()
    power = found.exp().sum(1)  # the window spreads a tone over 1.5 bins
    torch.testing.assert_close(power, torch.full_like(power, 1.5 * amplitude**2 / 2), rtol=0.03, atol=0)


def test_powers_of_linear_bands_are_those_of_full_scale():
    bands = LogBands(8_000, 40, 250.0, 2_000.0, window_ms=32.0, scale="linear")
    wave = torch.sin(2 * math.pi * 1_000.0 * torch.arange(4_000) / 8_000)
    place = round((1_000 - 250) / 31.25)
    assert bands(wave)[5].argmax() == place
    assert float(bands(wave)[5, place]) == pytest.approx(math.log(0.5), abs=0.01)
    assert (LogBands(8_000)(torch.zeros(1_000)) == math.log(1e-10)).all()


def test_pieces_give_the_frames_of_the_whole():
    bands = LogBands(8_000, 12)
    wave = torch.randn(3_001, generator=torch.Generator().manual_seed(0))
    whole = bands(wave)
    for sizes in ([3_001], [1, 79, 80, 2_841], [1_000, 2, 1_999], [37] * 81 + [4]):
        torch.testing.assert_close(torch.cat(list(bands.stream(wave.split(sizes)))), whole, atol=1e-5, rtol=1e-5)
    assert len(bands(wave[:199])) == 0 and len(bands(wave[:200])) == 1
    assert bands(torch.zeros(8_000 * 60)).shape == (5_998, 12)  # more than a block


def test_cepstra_are_an_orthonormal_transform():
    log_bands = torch.randn(7, 20, generator=torch.Generator().manual_seed(1))
    whole = cepstra(log_bands, 20)
    torch.testing.assert_close(whole.square().sum(1), log_bands.square().sum(1))
    torch.testing.assert_close(cepstra(log_bands, 13), whole[:, :13])
    torch.testing.assert_close(whole[:, 0], log_bands.sum(1) / math.sqrt(20))
    by_hand = sum(log_bands[0, n] * math.cos(math.pi * 3 * (n + 0.5) / 20) for n in range(20)) * math.sqrt(2 / 20)
    torch.testing.assert_close(whole[0, 3], by_hand)


def test_deltas_are_slopes():
    ramp = 0.5 * torch.arange(9.0).unsqueeze(1)
    found = deltas(ramp)
    torch.testing.assert_close(found[2:-2], torch.full((5, 1), 0.5))
    torch.testing.assert_close(found[0], torch.tensor([0.25]))  # (1 * 0.5 + 2 * 1.0) / 10


def test_standardised_features_have_mean_zero_and_variance_one():
    features = 3 + 2 * torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    totals = Totals(4).add(features[:20]).add(features[20:])
    each, together = standardise(features, totals), standardise(features, totals, each=False)
    torch.testing.assert_close(each.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(each.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    assert float(together.mean()) == pytest.approx(0, abs=1e-5) and not together.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(standardise(features[30:], totals, each=False), together[30:])
    for constant in (torch.full((3000, 2), -23.02585), torch.empty(0, 2)):
        assert standardise(constant, Totals(2).add(constant)).eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 4_000.0}, "low < high, got 4000.0 and None"),
        ({"high": 5_000.0}, "frequencies up to 4000 Hz, half the sample rate"),
        ({"hop_ms": 30.0}, "0 < hop_ms <= window_ms must hold, got 30.0 and 25.0"),
        ({"num_bands": 200}, "200 mel bands from 60 to 4000 Hz are too narrow for a window of 25 ms"),
        ({"scale": "bark"}, "scale must be mel or linear, got 'bark'"),
        ({"scale": "linear", "num_bands": 500}, "frequencies from 60 to 4000 Hz, not 500"),
    ],
)
def test_bands_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        LogBands(8_000, **arguments)
