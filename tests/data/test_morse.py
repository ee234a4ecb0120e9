"""Morse code: the table, lengths and loudness of what is heard, and the decoder without a network."""

import numpy as np
import pytest
import torch

from rnnlab.baselines import decode_morse, score_answers
from rnnlab.data import MorseData
from rnnlab.data.morse import SAMPLE_RATE, draw_text
from rnnlab.data.morse_code import CODE, NOISE_BANDWIDTH, SYMBOLS, Channel, key, sound, unit_seconds


def rng(seed=0):
    return np.random.default_rng(seed)


def test_signs_are_all_different_and_those_everybody_knows():
    assert len(set(CODE.values())) == len(CODE) == 42 and len(SYMBOLS) == 43
    assert [CODE[letter] for letter in "SOSETQ05?"] == "... --- ... . - --.- ----- ..... ..--..".split()


def test_paris_has_fifty_units():
    keying = key("PARIS PARIS", 20.0, 0.0, rng())
    units = keying.seconds / unit_seconds(20.0)
    assert units.sum() == pytest.approx(50 + 43)  # the second word has no gap behind it
    assert set(np.rint(units).astype(int)) == {1, 3, 7} and unit_seconds(20.0) == pytest.approx(0.06)
    assert keying.is_on[0] and keying.is_on[-1]
    assert units[keying.is_on].max() == pytest.approx(3)


def test_a_hand_varies_and_keeps_its_habits():
    keying = key("H" * 200, 20.0, 0.2, rng())
    dots = np.log(keying.seconds[keying.is_on] / 0.06)
    assert dots.std() == pytest.approx(0.2, abs=0.02) and 0 < abs(dots.mean()) < 0.3


def test_the_signal_to_noise_ratio_is_what_it_says():
    keying = key("PARIS " * 8 + "PARIS", 20.0, 0.0, rng())
    channel = Channel(tone=600.0, snr=3.0, fading=6.0)
    heard = sound(keying, channel, SAMPLE_RATE, rng(1))
    clean = sound(keying, channel._replace(snr=200.0), SAMPLE_RATE, rng(1))
    scale = (heard * clean).sum() / np.square(clean).sum()
    noise, is_on = heard - scale * clean, np.abs(clean) > 1e-4
    power = (
        np.square(scale * clean).sum()
        / np.repeat(keying.is_on, np.rint(keying.seconds * SAMPLE_RATE).astype(int)).sum()
    )
    density = np.square(noise).mean() / (SAMPLE_RATE / 2)
    assert is_on.any()
    assert 10 * np.log10(power / (density * NOISE_BANDWIDTH)) == pytest.approx(3.0, abs=0.15)
    assert np.square(heard).mean() == pytest.approx(0.01, rel=1e-3)
    spectrum = np.abs(np.fft.rfft(clean))
    assert np.fft.rfftfreq(len(clean), 1 / SAMPLE_RATE)[spectrum.argmax()] == pytest.approx(600.0, abs=1.0)


@pytest.mark.parametrize("hertz", [420.0, 655.0, 890.0])
def test_the_tone_is_in_the_middle_of_the_bands_wherever_it_is(hertz):
    heard = sound(key("PARIS", 15.0, 0.0, rng()), Channel(hertz, 10.0), SAMPLE_RATE, rng(1))
    features = MorseData(num_train=1).features_of(torch.from_numpy(heard))
    assert features.shape[1] == 7 and features.exp().mean(0).argmax() == 3
    assert len(MorseData(num_train=1).features_of(torch.zeros(5))) == 0


def test_clicks_are_loud_and_short():
    keying = key("E E", 12.0, 0.0, rng())
    quiet, clicked = (sound(keying, Channel(600.0, 20.0, clicks=clicks), SAMPLE_RATE, rng(4)) for clicks in (0.0, 8.0))
    assert np.abs(clicked).max() / np.median(np.abs(clicked)) > 1.5 * np.abs(quiet).max() / np.median(np.abs(quiet))


def test_texts_have_single_spaces_inside_alone():
    texts = [draw_text(size, rng(size)) for size in range(1, 40)]
    for size, text in enumerate(texts, start=1):
        assert text == " ".join(text.split()) and set(text) <= set(SYMBOLS) and abs(len(text) - size) <= 1
    assert len(set("".join(texts))) > 30


def test_the_classical_decoder_reads_what_is_clear_and_not_what_is_drowned():
    def error(snr):
        data = MorseData(num_test=40, min_snr=snr, max_snr=snr, max_clicks=0.0, corpus_seed=5)
        texts, waves = zip(*data.waves("test"), strict=True)
        answers = [decode_morse(wave, SAMPLE_RATE, CODE) for wave in waves]
        return score_answers(answers, [[text] for text in texts]).symbol_error_rate

    assert error(30.0) < 0.06 and error(-5.0) > 0.5
    assert decode_morse(np.zeros(4_000), SAMPLE_RATE, CODE) == ""


def test_data_are_a_function_of_their_seed():
    arguments = {"num_train": 6, "num_val": 3, "num_test": 3}
    data, again, other = MorseData(**arguments), MorseData(**arguments), MorseData(**arguments, corpus_seed=1)
    for module in (data, again, other):
        module.setup()
    batch, same = data.splits["train"][[0, 3]], again.splits["train"][[0, 3]]
    assert torch.equal(batch.features, same.features) and torch.equal(batch.target, same.target)
    assert data.state_dict() == again.state_dict() != other.state_dict()
    assert batch.features.shape == (int(batch.lengths.max()), 2, 7) and data.sizes == {
        "num_features": 7,
        "num_classes": 44,
    }
    assert [data.text(ids) for ids in data.references("val", [2, 0])] == [
        list(data.waves("val"))[row][0] for row in (2, 0)
    ]
    assert set(data.baselines()) == {"baseline/classical/val/cer", "baseline/classical/test/cer"}
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        other.load_state_dict(data.state_dict())
    longer = MorseData(num_train=1, num_val=1, num_test=2, min_symbols=20, max_symbols=21, max_speed=20)
    longer.setup()
    longer.load_state_dict(data.state_dict())
    assert all(len(ids) > 15 for ids in longer.references("test", [0, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_snr": 5, "max_snr": 0}, "min_snr and max_snr must lie from -20 to 60, the lower end first, got 5 and 0"),
        ({"max_speed": 90}, "min_speed and max_speed must lie from 5 to 60"),
        ({"num_val": 0}, "num_val must be an integer of at least 1, got 0"),
        ({"max_fading": -1}, "max_fading must lie from 0 to 40, got -1"),
        ({"max_frames": 0}, "max_frames must be an integer of at least 1, got 0"),
        ({"max_symbols": 2}, "max_symbols must be an integer of at least 3, got 2"),
    ],
)
def test_what_cannot_be_sent(arguments, message):
    with pytest.raises(ValueError, match=message):
        MorseData(**arguments)
