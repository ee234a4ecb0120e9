"""Sounds that are kept: made once for the same settings, whole or not there, made anew when damaged."""

import multiprocessing

import numpy as np
import pytest
import torch

from rnnlab.data import HomophoneData, SpokenData, sound_cache
from rnnlab.data.sound_cache import kept
from tests.voices import skip_without_espeak


class Maker:
    """Makes the same arrays, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"wave": np.arange(50, dtype=np.float32), "texts": np.array(["a", "bc"])}


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_they_are_made_once_for_the_same_settings(tmp_path, monkeypatch):
    make, notes = Maker(), []
    first = kept(tmp_path / "new" / "folder", {"seed": 0, "speed": [1, 2]}, make, notes)
    again = kept(tmp_path / "new" / "folder", {"speed": (1, 2), "seed": 0}, make, notes)
    assert equal(first, again) and make.calls == 1 and not notes
    for settings in ({"seed": 1, "speed": [1, 2]}, {"seed": 0}):
        kept(tmp_path / "new" / "folder", settings, make, notes)
    monkeypatch.setattr(sound_cache, "_source", lambda: "other code")
    kept(tmp_path / "new" / "folder", {"seed": 0, "speed": [1, 2]}, make, notes)
    assert make.calls == 4 and len(list((tmp_path / "new" / "folder").iterdir())) == 4
    kept(None, {}, make, notes)
    assert make.calls == 5


def test_the_users_cache_is_the_default_place(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_cache, "cache_folder", lambda: tmp_path)
    kept("auto", {}, Maker(), [])
    (file,) = (tmp_path / "sounds").iterdir()
    (tmp_path / "other").touch()
    assert file.suffix == ".npz" and file.stat().st_mode == (tmp_path / "other").stat().st_mode  # a group may share it


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
def test_a_damaged_file_is_made_anew_and_told(tmp_path, damage):
    make, notes = Maker(), []
    kept(tmp_path, {}, make, notes)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[content.index(np.arange(50, dtype=np.float32).tobytes()) + 80] ^= 1
    broken = {"empty": b"", "cut": file.read_bytes()[:-60], "flipped": bytes(content), "text": b"no arrays"}
    file.write_bytes(broken[damage])
    assert equal(kept(tmp_path, {}, make, notes), make())
    assert make.calls == 3 and notes == [f"{file}: is damaged, its sounds are made anew"]
    assert equal(kept(tmp_path, {}, make, notes), make()) and len(notes) == 1 and list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    notes = []
    assert equal(kept(tmp_path / "file" / "folder", {}, Maker(), notes), Maker()())
    assert len(notes) == 1 and notes[0].startswith(f"sounds cannot be kept in {tmp_path / 'file' / 'folder'}: ")


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda file, **arrays: (_ for _ in ()).throw(OSError(28, "No space left")))
    notes = []
    kept(tmp_path, {}, Maker(), notes)
    assert "No space left" in notes[0] and not list(tmp_path.iterdir())


def _write_often(folder):
    for _ in range(20):
        sound_cache._write(folder / "a.npz", {"wave": np.random.default_rng(0).normal(size=20_000)})


@pytest.mark.slow
def test_two_at_once_leave_a_whole_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(tmp_path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "a.npz").exists():
            with np.load(tmp_path / "a.npz") as found:
                assert len(found["wave"]) == 20_000
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


SETTINGS = {"num_train": 3, "num_val": 2, "num_test": 2}
SENTENCES = "".join(f"They see the sea {word}.\n" for word in "again and over there now then here so much too".split())


@pytest.mark.parametrize("kind", ["digits", "sentences", "words"])
def test_data_from_the_cache_are_those_made_anew(tmp_path, monkeypatch, kind):
    skip_without_espeak()
    (tmp_path / "texts.txt").write_text(SENTENCES * 3)
    texts = {} if kind == "digits" else {"texts": tmp_path / "texts.txt"}

    def made(**options):
        module = HomophoneData if kind == "words" else SpokenData
        data = module(**SETTINGS, **texts, **options)
        data.setup()
        return data

    fresh, first = made(), made(cache=tmp_path / "cache")
    monkeypatch.setattr(SpokenData, "sounds", lambda *_: pytest.fail("a sound was made again"))
    again = made(cache=tmp_path / "cache")
    assert fresh.state_dict() == first.state_dict() == again.state_dict()
    for part in SETTINGS:
        rows = range(len(fresh.splits[part.removeprefix("num_")]))
        batches = [data.splits[part.removeprefix("num_")][rows] for data in (fresh, first, again)]
        assert all(torch.equal(a, b) for other in batches[1:] for a, b in zip(batches[0], other, strict=True))
    if kind != "words":
        assert first.voices == again.voices == fresh.voices
        for part, borders in fresh.borders.items():
            assert all(np.array_equal(a, b) for a, b in zip(borders, again.borders[part], strict=True))
