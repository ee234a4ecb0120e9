"""`rnnlab bench`: the table, the record, and the refusal to time what is wrong."""

import json

import pytest
import torch

from rnnlab.cli import bench
from rnnlab.cli.main import main


@pytest.mark.slow
def test_bench_prints_a_row_for_each_module_and_pass(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench, "SIZES", ((2, 3, 1, 4),))
    assert main(["bench", "rounds=3", f"output={tmp_path / 'bench.json'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(bench.MODULES) * 2
    assert all("| (2, 3, 1, 4) |" in line for line in lines[2:])
    record = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert record["provenance"]["versions"]["torch"] and record["machine"]["threads"] >= 1
    assert [row["module"] for row in record["rows"]] == ["RNN", "RNN", "LSTM", "LSTM", "GRU", "GRU"]


def test_bench_refuses_an_impossible_output_before_timing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench, "measure", lambda *_: pytest.fail("timed"))
    assert main(["bench", f"output={tmp_path / 'no' / 'x.json'}"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["bench", f"output={tmp_path}"]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_bench_refuses_to_time_a_wrong_result():
    x, grad = torch.randn(3, 2, 1), torch.randn(3, 2, 4)
    layers = {"torch": torch.nn.GRU(1, 4), "eager": torch.nn.GRU(1, 4)}
    with pytest.raises(RuntimeError, match="backend eager differs from torch"):
        bench._check(layers, x, grad)


def test_bench_of_a_cell(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench, "SIZES", ((2, 3, 1, 4),))
    monkeypatch.setattr(bench, "ARMS", ("auto", "eager"))
    assert main(["bench", "cell=MinGRUCell", "rounds=3", f"output={tmp_path / 'bench.json'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "auto / loop" in lines[0] and len(lines) == 4 and all("| MinGRUCell |" in line for line in lines[2:])
    assert main(["bench", "cell=rnnlab.nn.ElmanCell", "rounds=3"]) == 0


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("MinGRUCel", "did you mean 'MinGRUCell'"),
        ("nowhere.Cell", "no plugin 'nowhere'"),
        ("rnnlab.nn.Nothing", "Nothing"),
        ("rnnlab.nn.Recurrent", "cannot be built as CELL"),
    ],
)
def test_bench_refuses_what_is_no_cell(cell, message, capsys):
    assert main(["bench", f"cell={cell}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("word", ["rounds=0", "rounds=many", "size=3"])
def test_bench_refuses_other_options(word, capsys):
    assert main(["bench", word]) == 2
    assert word.partition("=")[0] in capsys.readouterr().err
