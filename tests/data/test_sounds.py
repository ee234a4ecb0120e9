"""Sound files of every kind, what is refused, and strings of digits from recordings."""

import io
import sys
import tarfile
from itertools import pairwise

import numpy as np
import pytest
import torch

from rnnlab.data import DigitsData, MorseData, sound_files
from rnnlab.data.sound_files import decode_sound, find_sounds, read_sound, sound_blocks
from rnnlab.data.sound_rows import LongSound, Recording, SoundBatch, SoundRows
from rnnlab.data.spoken_digits import join_digits, read_digits

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")


def tone(seconds=0.5, rate=8_000, hertz=500.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_any_width_gives_the_same_wave(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", tone(), 8_000, subtype=subtype)
    read = read_sound(tmp_path / "a.wav", 8_000)
    assert read.wave.dtype == np.float32 and read.notes == []
    np.testing.assert_allclose(read.wave, tone(), atol=0.02 if subtype in ("PCM_U8", "ULAW") else 1e-4)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_any_rate_gives_the_same_wave(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(rate=rate), rate)
    wave = read_sound(tmp_path / "a.wav", 8_000).wave
    assert len(wave) == pytest.approx(4_000, abs=2)
    np.testing.assert_allclose(wave[400:3_600], tone()[400:3_600], atol=0.01)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_blocks_are_the_whole(tmp_path, rate, monkeypatch):
    wave = np.append(tone(rate=rate), np.zeros(rate // 4))  # silent at its end, and not as a whole
    soundfile.write(tmp_path / "a.wav", np.stack([wave, 0 * wave], 1), rate)
    whole = read_sound(tmp_path / "a.wav", 8_000)
    monkeypatch.setattr(sound_files, "_BLOCK", 700)
    notes = []
    blocks = list(sound_blocks(tmp_path / "a.wav", 8_000, notes))
    assert len(blocks) > 10 and max(map(len, blocks)) <= 700
    np.testing.assert_array_equal(np.concatenate(blocks), whole.wave)
    assert notes == whole.notes and len(notes) == 1


def test_features_of_files_are_those_of_waves_and_read_when_asked_for(tmp_path, monkeypatch):
    waves = [wave for _, wave in MorseData(num_test=2, num_train=1, num_val=1).waves("test")]
    for number, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{number}.wav", wave, 4_000, subtype="FLOAT")
    monkeypatch.setattr(sound_files, "_BLOCK", 3_000)
    data = MorseData(num_train=1, num_val=1, num_test=2)
    queries = data.read_queries(tmp_path)
    expected = [data.features_of(torch.from_numpy(wave)) for wave in waves]
    (batch,) = data.query_batches(queries)
    for column, row in enumerate(queries.context[1][0]):
        torch.testing.assert_close(batch.features[: len(expected[row]), column], expected[row], atol=1e-4, rtol=1e-4)
    data.eval_max_tokens = int(queries.inputs.lengths.min())
    queries = data.read_queries(tmp_path)
    short, long = data.query_batches(queries)
    row = queries.context[1][1][0]
    assert (
        isinstance(short, SoundBatch)
        and isinstance(long, LongSound)
        and queries.inputs.long_sounds()[0][:2] == long[:2]
    )
    for _ in range(2):
        parts = list(long.parts())
        assert len(parts) > 3 and sum(map(len, parts)) == long.num_frames
        torch.testing.assert_close(torch.cat(parts), expected[row], atol=1e-4, rtol=1e-4)
    batches = data.query_batches(queries)
    next(batches)
    (tmp_path / f"{row}.wav").unlink()
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        list(next(batches).parts())


def test_channels_are_mixed_and_silence_is_told(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), -0.5 * tone()], axis=1), 8_000)
    read = read_sound(tmp_path / "a.wav", 8_000)
    np.testing.assert_allclose(read.wave, 0.25 * tone(), atol=1e-4)
    assert read.notes == [f"{tmp_path / 'a.wav'}: 2 channels were mixed down to one"]
    soundfile.write(tmp_path / "b.wav", np.zeros(100), 8_000)
    assert read_sound(tmp_path / "b.wav", 8_000).notes == [f"{tmp_path / 'b.wav'}: is silent"]


def broken(tmp_path):
    soundfile.write(tmp_path / "whole.wav", tone(), 8_000)
    content = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "whole.wav").unlink()
    return {
        "empty": b"",
        "cut": content[:3_000],
        "text": b"no sound\n" * 20,
        "head": content[:20],
        "bare": content[:44],
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "is empty"),
        ("cut", "is cut short: its head promises more than the 0.18 s it has"),
        ("text", "is no sound that can be read: "),
        ("head", "is no sound that can be read: "),
        ("bare", "is cut short"),
    ],
)
def test_what_is_no_sound_is_named_in_one_line(tmp_path, name, message):
    file = tmp_path / f"{name}.wav"
    file.write_bytes(broken(tmp_path)[name])
    with pytest.raises(ValueError) as raised:
        read_sound(file, 8_000)
    assert str(raised.value).startswith(f"{file}: {message}") and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG", "OGG/OPUS", "MP3"])
def test_a_sound_that_is_cut_short_is_refused(tmp_path, kind):
    content, (container, _, codec) = io.BytesIO(), kind.partition("/")
    wave = 0.1 * np.random.default_rng(0).standard_normal(40_000)
    soundfile.write(content, wave, 8_000, format=container, subtype=codec or None)
    assert len(decode_sound(content.getvalue(), "a", 8_000).wave) == 40_000
    for share in (0.999, 0.9, 0.6):
        with pytest.raises(ValueError, match=r"^a: is (cut short: its|no sound that can be read: )"):
            decode_sound(content.getvalue()[: int(share * len(content.getvalue()))], "a", 8_000)


def test_an_ogg_without_an_end_is_read_and_told():
    content = io.BytesIO()
    soundfile.write(content, 0.1 * np.random.default_rng(0).standard_normal(40_000), 8_000, format="OGG")
    whole = content.getvalue()
    found = decode_sound(whole[: whole.rfind(b"OggS")], "a", 8_000)
    assert 0 < len(found.wave) < 40_000 and found.notes == [
        "a: may be cut short: its last page is not marked as the end"
    ]


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_stream_of_unknown_size_is_whole(size):
    content = io.BytesIO()
    soundfile.write(content, tone(), 8_000, format="WAV")
    head, samples = bytearray(content.getvalue()[:44]), content.getvalue()[44:]
    head[40:44] = size.to_bytes(4, "little")
    assert len(decode_sound(bytes(head) + samples, "a", 8_000).wave) == 4_000


def test_questions_are_files_or_folders(tmp_path):
    data = MorseData(num_train=2, num_val=1, num_test=1)
    with pytest.raises(ValueError, match="there is no such file or folder of sounds"):
        data.read_queries(tmp_path / "absent")
    with pytest.raises(ValueError, match="has no sound file"):
        data.read_queries(tmp_path)
    for name, seconds in (("b.wav", 0.5), ("sub/a.WAV", 2.0), ("c.flac", 1.0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, tone(seconds), 8_000)
    (tmp_path / "notes.txt").write_text("x")
    assert [file.name for file in find_sounds(tmp_path)] == ["b.wav", "c.flac", "a.WAV"]
    queries = data.read_queries(tmp_path)
    assert [batch.lengths.tolist() for batch in data.query_batches(queries)] == [[40, 81, 165]]
    answers = [[[_Answer([5]), _Answer([])], [_Answer([6, 7])], [_Answer([])]]]  # from the shortest on
    one = [[row[:1] for row in answers[0]]]
    assert data.write_answers(queries, one) == f"{tmp_path}/b.wav\tE\n{tmp_path}/c.flac\tFG\n{tmp_path}/sub/a.WAV\t\n"
    assert f"{tmp_path}/b.wav\tE\t-1.5000\n{tmp_path}/b.wav\t\t-1.5000\n" in data.write_answers(queries, answers)
    soundfile.write(tmp_path / "short.wav", tone(0.01), 8_000)
    with pytest.raises(ValueError, match=r"short\.wav: has 40 samples, and a frame needs 128"):
        data.read_queries(tmp_path / "short.wav")


class _Answer:
    def __init__(self, ids):
        self.ids, self.log_prob = ids, -1.5


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Ten recordings of two digits by two speakers each; digit d of speaker s is a tone of its own."""
    path = tmp_path_factory.mktemp("fsdd") / "recordings.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for value in (3, 8):
            for number, speaker in enumerate(("ann", "bob")):
                for index in range(10):
                    content = io.BytesIO()
                    wave = tone(0.2 + 0.01 * index, hertz=300.0 + 100 * value + 50 * number)
                    soundfile.write(content, wave, 8_000, format="WAV")
                    entry = tarfile.TarInfo(f"recordings/{value}_{speaker}_{index}.wav")
                    entry.size = content.tell()
                    content.seek(0)
                    archive.addfile(entry, content)
    return path


def make(recordings, **arguments):
    data = DigitsData(recordings, **{"num_train": 12, "num_val": 4, "num_test": 6} | arguments)
    data.setup()
    return data


def test_parts_have_recordings_of_their_own(recordings):
    data = make(recordings)
    digits = read_digits(recordings)
    assert len(digits) == 40 and digits[0][:3] == (3, "ann", 0)
    counts = {part: sum(data._part_of(digit) == part for digit in digits) for part in ("train", "val", "test")}
    assert counts == {"train": 8, "val": 12, "test": 20}
    left = make(recordings, leave_out="bob")
    counts = {part: sum(left._part_of(digit) == part for digit in digits) for part in ("train", "val", "test")}
    assert counts == {"train": 14, "val": 6, "test": 20}  # ann's first recordings are trained on
    with pytest.raises(ValueError, match="leave_out must be one of ann, bob, or null, got 'eve'"):
        make(recordings, leave_out="eve")


def test_a_run_is_known_by_the_recordings_it_heard(recordings):
    data = make(recordings)
    longer = make(recordings, num_train=1, min_digits=8, max_digits=9, min_snr=0)
    longer.load_state_dict(data.state_dict())
    assert {len(ids) for ids in longer.references("test", range(6))} <= {8, 9}
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        make(recordings, leave_out="bob").load_state_dict(data.state_dict())


def test_a_string_says_its_digits_between_its_borders(recordings):
    digits = read_digits(recordings)[:3]
    string = join_digits(digits, 60.0, np.random.default_rng(0))
    assert string.values == [3, 3, 3] and string.borders.shape == (3, 2)
    for digit, (start, end) in zip(digits, string.borders, strict=True):
        assert end - start == pytest.approx(len(digit.wave) / 8_000)
        piece = string.wave[round(start * 8_000) : round(end * 8_000)]
        assert np.corrcoef(piece, digit.wave)[0, 1] > 0.99
    assert (np.diff(string.borders.ravel()) >= 0).all()
    noisy = join_digits(digits, 0.0, np.random.default_rng(0))
    inside = np.concatenate([noisy.wave[round(a * 8_000) : round(b * 8_000)] for a, b in noisy.borders])
    assert np.square(inside).mean() / np.square(
        noisy.wave[: round(noisy.borders[0, 0] * 8_000)]
    ).mean() == pytest.approx(2, rel=0.4)


def test_strings_are_batches_and_the_first_epoch_ascends(recordings):
    data = make(recordings, ascending=1, max_frames=400)
    assert data.sizes == {"num_features": 40, "num_classes": 11}
    row = data.splits["train"][[4]]
    assert data.text(row.target[0].tolist()) == data.text(data.references("train", [4])[0])
    assert set(data.text(row.target[0].tolist())) <= set("38")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(0)
    first = [int(batch.lengths.max()) for batch in loader]
    loader.sampler.set_epoch(1)
    second = [int(batch.lengths.max()) for batch in loader]
    fell = [max((before / after for before, after in pairwise(epoch))) for epoch in (first, second)]
    assert fell[0] <= 17 / 16 < fell[1]  # lengths are rounded to a sixteenth when batches are made
    assert all(len(data.borders["val"][row]) == len(ids) for row, ids in enumerate(data.references("val", range(4))))


def test_recordings_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="no tar file of recordings at"):
        make(tmp_path / "absent.tar.gz")
    with pytest.raises(ValueError, match=r"has no file DIGIT_SPEAKER_INDEX\.wav"):
        make(tmp_path)
    (tmp_path / "x.tar.gz").write_text("no tar")
    with pytest.raises(ValueError, match=r"x\.tar\.gz: cannot be unpacked"):
        make(tmp_path / "x.tar.gz")


def test_a_text_with_an_unknown_symbol_is_refused():
    with pytest.raises(ValueError, match="f.tsv:3: '!', 'a' is not among the symbols 'ABC"):
        MorseData(num_train=1, num_val=1, num_test=1).encode("Ba!", "f.tsv:3")
    assert torch.equal(torch.tensor(MorseData().encode("AB", "x")), torch.tensor([1, 2]))


def test_a_rehearsal_has_the_sound_that_is_shortest_for_its_text():
    data = MorseData(num_train=6, num_val=1, num_test=1)
    data.setup()
    part = data.splits["train"]
    data.splits["train"] = SoundRows([*part.recordings, Recording(part.recordings[0].features[:9], [1, 1, 1, 2])])
    assert data.rehearsal_batch().rows.tolist() == [0, 6]


def test_without_the_libraries_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r'sound files need soundfile and soxr: pip install "rnnlab\[speech\]"'):
        read_sound(tmp_path / "a.wav", 8_000)
