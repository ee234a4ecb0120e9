import pytest

from rnnlab.cli.main import main


def test_doctor_names_versions_backends_and_places(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for text in ("torch", "triton", "LSTM on cpu", "GRUCell on cpu", "eager on cpu", f"RNNLAB_DATA={tmp_path}", "W&B"):
        assert text in out


def test_doctor_shows_where_kernels_are_kept(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert main(["doctor"]) == 0
    assert f"{tmp_path}: TRITON_CACHE_DIR says so" in " ".join(capsys.readouterr().out.split())


def test_doctor_shows_where_compiled_code_is_kept(capsys, monkeypatch, tmp_path):
    keep = pytest.importorskip("rnnlab_kernels.schedules.compiled.keep")
    for value, text in (
        (str(tmp_path), f"kept in {tmp_path}"),
        ("", f"anew in each process: {keep.VARIABLE} is empty"),
        ("/dev/null/x", f"anew in each process: {keep.VARIABLE}=/dev/null/x is no folder of yours"),
    ):
        with monkeypatch.context() as patched:
            patched.setenv(keep.VARIABLE, value)
            patched.setattr(keep, "cache_folder", keep.cache_folder.__wrapped__)  # asked once a process
            assert main(["doctor"]) == 0
        assert text in " ".join(capsys.readouterr().out.split())


def test_doctor_flags_a_missing_data_root(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "no"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "which is no folder" in out
    assert "marked with !" in out
