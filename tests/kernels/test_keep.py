"""Compiled code kept on disk: what names it, where it lies, and that what cannot be used is not."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("numba")

from rnnlab_kernels.schedules.compiled import keep, rows

RATE = 0.5


def uses_a_global(x):
    return RATE * x


def made(number):
    return lambda x: number * x


def test_a_function_is_known_by_its_code_and_what_it_reaches(monkeypatch):
    before = keep.digest_of(uses_a_global)
    assert before == keep.digest_of(uses_a_global)
    monkeypatch.setitem(globals(), "RATE", 0.25)
    assert keep.digest_of(uses_a_global) != before
    assert keep.digest_of(made(1)) == keep.digest_of(made(1)) != keep.digest_of(made(2))
    monkeypatch.setattr(keep, "_sources", lambda: "another version of this package")
    assert keep.digest_of(made(1)) != keep.digest_of(uses_a_global) != before


def test_what_has_no_description_is_not_kept(monkeypatch):
    with pytest.raises(keep._Unknown):
        keep.digest_of(made(object()))
    with pytest.raises(keep._Unknown):
        keep.digest_of(made(torch.ones(2).numpy()))


def test_the_folder_may_be_named_or_missing(monkeypatch, tmp_path):
    folder = keep.cache_folder.__wrapped__
    monkeypatch.setenv(keep.VARIABLE, str(tmp_path / "mine"))
    assert folder() == tmp_path / "mine"
    monkeypatch.setenv(keep.VARIABLE, "")
    assert folder() is None
    monkeypatch.delenv(keep.VARIABLE)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # a home that cannot be written to
    monkeypatch.setattr(keep.tempfile, "gettempdir", lambda: str(tmp_path))
    assert folder().parent == tmp_path


def compile_again(monkeypatch, folder: Path) -> int:
    """Return how often the loop was found on disk."""
    monkeypatch.setattr(keep, "cache_folder", lambda: folder)
    count = len(keep._alive)
    assert keep.address_of.__wrapped__(rows.zero)
    (found,) = keep._alive[count:]
    return found.cache_hits


def test_compiled_code_is_found_again_and_what_is_broken_is_compiled(monkeypatch, tmp_path):
    assert compile_again(monkeypatch, tmp_path) == 0
    assert compile_again(monkeypatch, tmp_path) == 1
    for file in tmp_path.iterdir():
        file.write_bytes(b"torn")
    assert compile_again(monkeypatch, tmp_path) == 0
    assert compile_again(monkeypatch, tmp_path) == 1
    assert compile_again(monkeypatch, tmp_path / "nowhere" / "file") == 0
