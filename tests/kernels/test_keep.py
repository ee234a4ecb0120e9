"""Compiled code kept on disk: what names it, where it lies, and that what cannot be used is not."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.elman import RNN_IDENTITY
from rnnlab_kernels.schedules.compiled import build, keep

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


def scaled(factor: object) -> Cell:
    def gates_fwd(gates, carried):
        (x,) = gates
        return (factor[0] * x,), ()

    return replace(RNN_IDENTITY, gates_fwd=gates_fwd)


def test_a_cell_is_known_by_its_gate_maths_and_the_machine(monkeypatch):
    before = keep.digest_of("gates.forward_of", RNN_IDENTITY, True)
    assert before == keep.digest_of("gates.forward_of", RNN_IDENTITY, True)
    assert before != keep.digest_of("gates.forward_of", RNN_IDENTITY, False)
    assert before != keep.digest_of("gates.backward_of", RNN_IDENTITY, True)
    assert len({before, *(keep.digest_of("gates.forward_of", scaled((k,)), True) for k in (1.0, 2.0, 1.0))}) == 3
    monkeypatch.setattr(keep, "_machine", keep._machine.__wrapped__)
    assert before == keep.digest_of("gates.forward_of", RNN_IDENTITY, True)
    for owner, name in ((keep.binding, "get_host_cpu_name"), (keep.metadata, "version")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, lambda *given: "another")
            assert before != keep.digest_of("gates.forward_of", RNN_IDENTITY, True)


def test_what_has_no_description_is_not_kept(monkeypatch, tmp_path):
    with pytest.raises(keep._Unknown):
        keep.digest_of(made(object()))
    with pytest.raises(keep._Unknown):
        keep.digest_of(made(torch.ones(2).numpy()))
    cell = scaled(np.ones(1, np.float32))
    for _ in range(2):  # each process compiles it
        assert compile_again(monkeypatch, tmp_path, "gates.forward_of", cell, False) == 0
    assert not [*tmp_path.iterdir()]


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


def test_a_folder_that_cannot_be_used_is_told(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(keep.VARIABLE, str(tmp_path / "file"))
    assert keep.cache_folder.__wrapped__() is None
    assert f"{keep.VARIABLE}={tmp_path / 'file'} is no folder of yours" in caplog.text
    monkeypatch.setenv(keep.VARIABLE, "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keep.cache_folder.__wrapped__() == tmp_path / "mine"


def compile_again(monkeypatch, folder: Path, name: str = "rows.zero", *arguments: object) -> int:
    """Return how often the function was found on disk."""
    compiled = []
    with monkeypatch.context() as patched:
        original = build.build
        patched.setattr(build, "build", lambda *given: compiled.append(given) or original(*given))
        patched.setattr(keep, "cache_folder", lambda: folder)
        assert keep.address_of.__wrapped__(name, *arguments)
    return 1 - len(compiled)


def test_compiled_code_is_found_again_and_what_is_broken_is_compiled(monkeypatch, tmp_path):
    assert compile_again(monkeypatch, tmp_path) == 0
    assert compile_again(monkeypatch, tmp_path) == 1
    for file in tmp_path.iterdir():
        file.write_bytes(b"torn")
    assert compile_again(monkeypatch, tmp_path) == 0
    assert compile_again(monkeypatch, tmp_path) == 1
    assert compile_again(monkeypatch, tmp_path / "nowhere" / "file") == 0
    (file,) = tmp_path.iterdir()
    code = file.read_bytes()
    for changed in (code[:-1], code[:-1] + bytes([code[-1] ^ 1]), code[:200] + b"\xcc" + code[201:], b""):
        file.write_bytes(changed)
        assert compile_again(monkeypatch, tmp_path) == 0
        assert compile_again(monkeypatch, tmp_path) == 1
    file.write_bytes(keep._checksum(file, b"not code") + b"not code")
    assert compile_again(monkeypatch, tmp_path) == 0
    # Whole, but another function's.
    assert compile_again(monkeypatch, tmp_path, "rows.copy") == 0
    (other,) = set(tmp_path.iterdir()) - {file}
    other.write_bytes(code)
    assert compile_again(monkeypatch, tmp_path, "rows.copy") == 0
    assert compile_again(monkeypatch, tmp_path, "rows.copy") == 1
    assert [*tmp_path.iterdir()] and all(entry.name.startswith("rows.") for entry in tmp_path.iterdir())


def test_what_is_somebody_elses_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv(keep.VARIABLE, str(tmp_path / "rnnlab"))
    folder = keep.cache_folder.__wrapped__()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert compile_again(monkeypatch, folder) == 0
    assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600]
    monkeypatch.setattr(keep.os, "getuid", lambda: os.stat(folder).st_uid + 1)
    assert keep.cache_folder.__wrapped__() is None
    assert compile_again(monkeypatch, folder) == 0


def test_code_of_sources_edited_meanwhile_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(keep, "_read_sources", lambda: "edited")
    assert compile_again(monkeypatch, tmp_path) == compile_again(monkeypatch, tmp_path) == 0
    assert not [*tmp_path.iterdir()]


def test_sources_that_vanish_meanwhile_are_done_without(monkeypatch, tmp_path):
    """As while a checkout is updated: what is compiled is right, and not kept."""
    known, read = keep._sources(), keep._read_sources
    monkeypatch.setattr(keep, "_sources", lambda: known)

    def vanished(path):
        raise FileNotFoundError(path)

    with monkeypatch.context() as patched:
        patched.setattr(keep.Path, "read_bytes", vanished)
        with pytest.raises(keep._Unknown):
            read()
        assert compile_again(monkeypatch, tmp_path) == 0
    assert not [*tmp_path.iterdir()]


PROCESS = """
import sys

import torch

from rnnlab.nn import LSTM

def run():
    torch.manual_seed(0)
    layer, x = LSTM(4, 20, backend="fused"), torch.randn(5, 3, 4, requires_grad=True)
    output, state = layer(x)
    return [output.detach(), *torch.autograd.grad(output.square().sum() + state[1].sum(), [x, *layer.parameters()])]
"""


def test_a_second_process_does_without_numba_and_computes_the_same(tmp_path):
    folder = keep.cache_folder()
    if folder is None:
        pytest.skip("there is no folder to keep code in")
    names: dict = {}
    exec(PROCESS, names)
    result = names["run"]()
    code = PROCESS + "torch.save(run(), sys.argv[1])\nassert 'numba' not in sys.modules"
    environment = {**os.environ, keep.VARIABLE: str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code, tmp_path / "result"], env=environment, check=True)
    assert all(map(torch.equal, torch.load(tmp_path / "result"), result))
