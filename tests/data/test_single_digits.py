"""Single spoken digits: which recordings are in which part, speakers left out, and voices made of others."""

import wave

import numpy as np
import pytest

from rnnlab.data import SingleDigitsData

SPEAKERS = ("ann", "bob", "cid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two digits by three speakers, eight recordings each: a tone whose pitch says which, louder from time to time."""
    folder = tmp_path_factory.mktemp("digits")
    rng = np.random.default_rng(0)
    for value in (3, 8):
        for speaker in SPEAKERS:
            for index in range(8):
                times = np.arange(rng.integers(900, 1500)) / 8_000
                tone = 0.3 * np.sin(2 * np.pi * (300 + 100 * value) * times) + 0.01 * rng.standard_normal(len(times))
                with wave.open(str(folder / f"{value}_{speaker}_{index}.wav"), "wb") as file:
                    file.setparams((1, 2, 8_000, 0, "NONE", ""))
                    file.writeframes((tone * 32767).astype("<i2").tobytes())
    return folder


def parts(data):
    data.setup()
    return {part: {one.name for one in series} for part, series in data.series.items() if part != "more"}


def test_the_official_test_part_is_recordings_0_to_4(folder):
    found = parts(SingleDigitsData(folder, num_val=2))
    assert {part: {name[-1] for name in names} for part, names in found.items()} == {
        "train": set("7"),
        "val": set("56"),
        "test": set("01234"),
    }
    assert sum(map(len, found.values())) == 48


def test_a_speaker_left_out_is_in_test_alone_with_all_recordings(folder):
    found = parts(SingleDigitsData(folder, num_val=2, leave_out="bob"))
    speakers = {part: {name.split("_")[1] for name in names} for part, names in found.items()}
    assert speakers == {"train": {"ann", "cid"}, "val": {"ann", "cid"}, "test": {"bob"}}
    assert {part: len(names) for part, names in found.items()} == {"train": 24, "val": 8, "test": 16}
    found = parts(SingleDigitsData(folder, leave_out="bob", leave_out_val="cid"))
    speakers = {part: {name.split("_")[1] for name in names} for part, names in found.items()}
    assert speakers == {"train": {"ann"}, "val": {"cid"}, "test": {"bob"}}


def test_copies_are_faster_or_slower_of_the_same_class_and_the_first_is_as_it_was(folder):
    data = SingleDigitsData(folder, num_val=2, copies=3, max_warp=0.2)
    data.setup()
    plain = SingleDigitsData(folder, num_val=2)
    plain.setup()
    assert len(data.splits["train"]) == 3 * len(plain.splits["train"]) and plain.series["more"] == []
    for one, other in zip(data.series["train"], plain.series["train"], strict=True):
        assert np.array_equal(one.values, other.values)
    rows = zip(data.series["more"], data.series["train"] * 2, strict=True)
    ratios = [len(one.values) / len(other.values) for one, other in rows if one.label == other.label]
    assert len(ratios) == 12 and 0.75 < min(ratios) < 0.95 and 1.05 < max(ratios) < 1.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"leave_out": "zoe"}, "leave_out must be one of ann, bob, cid, or null, got 'zoe'"),
        ({"leave_out": "bob", "leave_out_val": "bob"}, "leave_out and leave_out_val must be two speakers"),
        ({"num_val": 3}, "has no recording for the train part"),
        ({"max_warp": 0.9}, "max_warp must lie from 0 to 0.5"),
        ({"path": "gone"}, "no tar file of recordings at gone"),
    ],
)
def test_what_is_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        SingleDigitsData(**{"path": folder, **arguments}).setup()


def test_sounds_of_ones_own(folder, tmp_path):
    data = SingleDigitsData(folder, num_val=2)
    data.setup()
    queries = data.read_queries(folder)
    assert len(queries.inputs) == 48 and queries.context[0][0] == str(folder / "3_ann_0.wav")
    same = data.splits["test"][0].values
    assert np.array_equal(queries.inputs[0].values, same)
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 20)
    with pytest.raises(ValueError, match="short.wav: has 20 samples, and a frame needs 200"):
        data.read_queries(tmp_path / "short.wav")


def test_neither_gain_nor_silence_around_a_digit_changes_its_frames(folder):
    data, tone = SingleDigitsData(folder), np.sin(np.arange(1_600) / 3).astype(np.float32)
    frames = data._frames(0.3 * tone)
    assert frames.max() == 1 and frames.min() == -1
    assert data._frames(0.03 * tone) == pytest.approx(frames, abs=1e-5)
    silent = data._frames(np.concatenate([np.zeros(800, np.float32), 0.3 * tone]))
    assert silent[10:] == pytest.approx(frames, abs=1e-5) and (silent[:7] == -1).all()
    raw = SingleDigitsData(folder, range_db=None)._frames(0.3 * tone)
    half = 40 * np.log(10) / 10 / 2
    assert (frames + 1) * half == pytest.approx(np.maximum(raw - raw.max() + 2 * half, 0), abs=1e-5)


def test_copies_are_in_noise_of_the_ratio_that_is_asked_for(folder):
    data = SingleDigitsData(folder, min_snr=10, max_snr=10)
    tone = np.sin(np.arange(8_000) / 3).astype(np.float32)
    heard = data._varied(tone, np.random.default_rng(0))
    scale = (heard * tone).sum() / np.square(tone).sum()
    power = np.square(scale * tone).mean() / np.square(heard - scale * tone).mean()
    assert 10 * np.log10(power) == pytest.approx(10, abs=0.3)
    assert SingleDigitsData(folder)._varied(tone, np.random.default_rng(0)) == pytest.approx(tone, abs=1e-5)
