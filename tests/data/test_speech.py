"""Synthetic speech: what is said depends on nothing but its arguments, and voices of the parts differ."""

import numpy as np
import pytest
import torch

from rnnlab.data import SpokenData
from rnnlab.data import espeak as espeak_module
from rnnlab.data.espeak import ACCENTS, SAMPLE_RATE, Speaker, Speech, Utterance, family, speak
from rnnlab.data.speech import timbres_of
from rnnlab.data.utterances import echoed, plain, surrounded, warped
from tests.voices import skip_without_espeak


@pytest.fixture(scope="module")
def speaker():
    skip_without_espeak()
    with Speaker() as started:
        yield started


@pytest.fixture(scope="module")
def data(speaker):
    made = SpokenData(num_train=12, num_val=6, num_test=8, test_accents=["en-029"])
    made.setup()
    return made


def test_what_is_said_does_not_depend_on_what_was_said_before(speaker):
    voices = ("en-us", "en-gb+f2", "en-029+whisper", "en-gb-scotland+klatt2")  # the last two draw noise
    utterances = [Utterance("three five nine", voice, 140, 60) for voice in voices]
    onwards, backwards = list(speaker.speak(utterances)), list(speaker.speak(utterances[::-1]))[::-1]
    for one, other in zip(onwards, backwards, strict=True):
        assert np.array_equal(one.wave, other.wave) and one.words == other.words
    assert np.array_equal(onwards[2].wave, speak("three five nine", "en-029+whisper", 140, 60).wave)
    assert len({len(speech.wave) for speech in onwards}) == len(voices)


def test_words_are_where_they_are_heard(speaker):
    text = "six, seven"
    (speech,) = speaker.speak([Utterance(text, rate=120)])
    assert [text[word.first : word.last] for word in speech.words] == ["six", "seven"]
    six, seven = speech.words
    assert 0 == six.start < six.end < seven.start < seven.end <= len(speech.wave) / SAMPLE_RATE
    power = [np.square(speech.wave[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)]).mean() for a, b in
             ((six.start, six.end), (six.end + 0.02, seven.start), (seven.start, seven.end))]  # fmt: skip
    assert power[1] < 0.01 * min(power[0], power[2])
    assert speech.wave.dtype == np.float32 and 0.1 < np.abs(speech.wave).max() <= 1


def test_rate_and_pitch_are_heard(speaker):
    def said(**how):
        (speech,) = speaker.speak([Utterance("one nine one nine", **how)])
        return speech.wave

    assert len(said(rate=120)) > 1.5 * len(said(rate=240))

    def fundamental(wave):
        """Return the strongest period between 60 and 400 Hz, in Hz."""
        piece = wave[2_000:12_000]
        likeness = np.fft.irfft(np.abs(np.fft.rfft(piece, 2 * len(piece))) ** 2)
        first = SAMPLE_RATE // 400
        return SAMPLE_RATE / (first + likeness[first : SAMPLE_RATE // 60].argmax())

    assert fundamental(said(pitch=80)) > 1.2 * fundamental(said(pitch=20))


def test_voices_are_known_by_name(speaker):
    assert set(ACCENTS) < set(speaker.languages) and len(speaker.timbres) > 50
    assert family("steph3") == family("steph") and family("m1") != family("m2")
    with pytest.raises(ValueError, match="espeak-ng has no timbre 'stef'; the nearest is 'steph'"):
        speak("one", "en-us+stef")
    with pytest.raises(ValueError, match="espeak-ng has no voice 'en-usa'; the nearest is 'en-us'"):
        speak("one", "en-usa")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": " "}, "a text to be said must have 1 to 10000 characters, got ' '"),
        ({"text": "a" * 10_001}, "a text to be said must have 1 to 10000 characters"),
        ({"text": "one", "rate": 79}, "rate must be an integer from 80 to 450, got 79"),
        ({"text": "one", "pitch": 100}, "pitch must be an integer from 0 to 99, got 100"),
    ],
)
def test_what_cannot_be_said(speaker, arguments, message):
    with pytest.raises(ValueError, match=message):
        list(speaker.speak([Utterance(**arguments)]))


def test_without_espeak_one_line_says_what_to_install(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    lost = "import ctypes.util\nctypes.util.find_library = lambda name: 'libabsent.so'\n"
    worker.write_text(lost + espeak_module._WORKER.read_text())
    monkeypatch.setattr(espeak_module, "_WORKER", worker)
    with pytest.raises(ValueError, match=r"speech needs espeak-ng: apt-get install espeak-ng \(libabsent\.so: "):
        Speaker()


def test_timbres_of_the_parts_differ(data):
    timbres = {part: {family(voice.partition("+")[2]) for voice in voices} for part, voices in data.voices.items()}
    assert not timbres["train"] & timbres["test"] and not timbres["val"] & (timbres["train"] | timbres["test"])
    assert {voice.partition("+")[0] for voice in data.voices["test"]} == {"en-029"}
    assert all(not voice.startswith("en-029") for part in ("train", "val") for voice in data.voices[part])


def test_strings_have_their_digits_and_borders(data):
    assert data.sizes == {"num_features": 40, "num_classes": 11} and data.error_names == ("ler",)
    for part, rows in data.splits.items():
        for row, ids in enumerate(data.references(part, range(len(rows)))):
            borders = data.borders[part][row]
            assert 1 <= len(ids) <= 7 and borders.shape == (len(ids), 2) and (np.diff(borders.ravel()) >= 0).all()
            assert borders[-1, 1] < (rows.lengths[row] + 3) * data.frame_seconds
    again = SpokenData(num_train=3, num_val=1, num_test=1)
    again.setup()
    batch, same = data.splits["train"][[0, 1, 2]], again.splits["train"][[0, 1, 2]]
    assert torch.equal(batch.features, same.features) and torch.equal(batch.target, same.target)


def test_a_trained_model_is_measured_on_longer_strings(data):
    longer = SpokenData(num_train=1, num_val=1, num_test=3, min_digits=8, max_digits=9)
    longer.setup()
    longer.load_state_dict(data.state_dict())
    assert {len(ids) for ids in longer.references("test", [0, 1, 2])} <= {8, 9}


def test_the_signal_to_noise_ratio_is_what_it_says(speaker):
    (speech,) = speaker.speak([Utterance("five five five")])
    (noisy, delay), (clean, _) = (surrounded(speech, snr, np.random.default_rng(3)) for snr in (10.0, 200.0))
    start = round(delay * SAMPLE_RATE)
    power = np.square(clean[start : start + len(speech.wave)]).mean()
    assert 10 * np.log10(power / np.square(noisy - clean).mean()) == pytest.approx(10.0, abs=0.1)


def test_faster_is_higher_and_words_stay_where_they_are(speaker):
    (speech,) = speaker.speak([Utterance("six, seven")])
    fast = warped(speech, 1.25)
    assert len(fast.wave) == int(len(speech.wave) / 1.25)
    assert [word.end for word in fast.words] == pytest.approx([word.end / 1.25 for word in speech.words])
    tone = Speech(np.sin(2 * np.pi * 500 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32), [])
    spectrum = np.abs(np.fft.rfft(warped(tone, 1.25).wave))
    assert np.fft.rfftfreq(len(warped(tone, 1.25).wave), 1 / SAMPLE_RATE)[spectrum.argmax()] == pytest.approx(
        625, abs=1.5
    )


def test_an_echo_comes_back():
    click = np.zeros(10, dtype=np.float32)
    click[1] = 1.0
    echo = echoed(Speech(click, []), 4 / SAMPLE_RATE, 0.5).wave
    assert echo.tolist() == [0, 1, 0, 0, 0, 0.5, 0, 0, 0, 0.25] and click.sum() == 1


def test_sentences_come_from_a_file(speaker, tmp_path):
    file = tmp_path / "sentences.txt"
    words = [f"{a} {b}." for a in ("Don't stop", "Go on", "See me", "Read", "Write, now") for b in "abcdefghijkl"]
    file.write_text("\n".join([*words, "It was 1984.", "", words[0]]))
    data = SpokenData(file, num_train=4, num_val=2, num_test=2)
    data.setup()
    assert data.notes == [
        f"{file}: 1 of 61 sentences have figures or other characters, and are left out",
    ]
    texts = {
        part: {data.text(ids) for ids in data.references(part, range(len(rows)))} for part, rows in data.splits.items()
    }
    assert texts["train"] <= {plain(line) for line in words} and not texts["train"] & texts["test"]
    assert data.error_names == ("cer", "wer") and data.sizes["num_classes"] == 29
    other = SpokenData(file, num_train=1, num_val=1, num_test=1, min_rate=200)
    other.setup()
    other.load_state_dict(data.state_dict())
    file.write_text("\n".join(words[::2]))
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        other = SpokenData(file, num_train=1, num_val=1, num_test=1)
        other.setup()
        other.load_state_dict(data.state_dict())
    file.write_text("One.")
    with pytest.raises(ValueError, match="of 1 sentences none is of the"):
        SpokenData(file).setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_digits": 0}, "max_digits must be an integer of at least 1, got 0"),
        ({"min_rate": 20}, "min_rate must be an integer of at least 80, got 20"),
        ({"min_snr": 30, "max_snr": 10}, "max_snr must lie from -20 to 60, the lower end first, got 30 and 10"),
        ({"max_warp": 1}, "max_warp must lie from 0 to 0.5, got 1"),
        ({"max_echo": 1.0}, "max_echo must lie from 0 to 0.9, got 1.0"),
        ({"accents": []}, r"accents must be a list of one or more, as \[en-gb, en-us, .*\], got \[\]"),
        ({"test_accents": "en-us"}, "test_accents must be a list of one or more, .*, got 'en-us'"),
        ({"high": 20_000}, "low and high must be frequencies up to 11025 Hz"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpokenData(**arguments)


def test_an_accent_that_is_not_there(speaker):
    with pytest.raises(ValueError, match="espeak-ng has no voice 'en-uk'; the nearest is 'en-us'"):
        SpokenData(num_train=1, num_val=1, num_test=1, accents=["en-uk"]).setup()


def test_what_nobody_waits_for_ends_quietly(speaker, capfd):
    with Speaker() as another:
        next(another.speak(Utterance("one two three four five six seven") for _ in range(3)))
    assert another._process.returncode is not None and capfd.readouterr().err == ""


def test_timbres_of_a_person_are_in_one_part():
    people = [f"person{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    parts = {
        part: timbres_of(part, [f"{name}{n}" for name in people for n in (2, 3, 4)])
        for part in ("train", "val", "test")
    }
    assert sum(map(len, parts.values())) == 78 and all(parts.values())
    for found in parts.values():
        assert len(found) == 3 * len({family(name) for name in found})


def test_recordings_are_heard_in_training_beside_the_voices(speaker, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(8_000)), 8_000)
    sizes = {"num_train": 3, "num_val": 2, "num_test": 2}
    (tmp_path / "list.tsv").write_text("a.wav\t470\n")
    made = SpokenData(recordings=tmp_path / "list.tsv", **sizes)
    made.setup()
    assert {part: len(rows) for part, rows in made.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert made.text(made.references("train", [3])[0]) == "470"
    assert int(made.splits["train"].lengths[3]) == made.bands.num_frames(SAMPLE_RATE)
    (tmp_path / "list.tsv").write_text("a.wav\tfour\n")
    with pytest.raises(ValueError, match=r"list\.tsv:1: 'f', 'o', 'r', 'u' is not among the symbols '0123456789'"):
        SpokenData(recordings=tmp_path / "list.tsv", **sizes).setup()
