"""Every cell reads symbols; a run ends with right sums by length and the automaton in its states."""

import csv

import pytest

from rnnlab.cli.build import build
from rnnlab.cli.groups import options
from rnnlab.cli.main import main
from tests.cli.test_conf import composed
from tests.covering import few

SMALL = ["data.num_train=40", "data.num_val=4", "data.num_test=6", "data.test_bits=20", "logger=csv"]
LAYERS = [name for name in options("rnn") if name != "none"]


@pytest.mark.parametrize("rnn", few(LAYERS, ["rnn", "cells/lru", "cells/narx", "tcn"]))
def test_every_layer_reads_symbols(rnn, tmp_path):
    words = ["experiment=memory/binary_addition", f"rnn={rnn}", *SMALL, "trainer.accelerator=cpu"]
    run = build(composed(*words, *(["rnn.hidden_size=20"] if rnn == "cells/lstm_projection" else [])), tmp_path)
    run.task.train()
    batch = next(iter(run.data.train_dataloader()))
    run.task.model(batch).sum().backward()
    assert all(parameter.grad is not None for parameter in run.task.model.rnn.parameters())


def test_a_run_of_sums(tmp_path, capsys):
    words = ["experiment=memory/binary_addition", *SMALL, "trainer.max_epochs=2", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    with (tmp_path / "run" / "lengths.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["length"] == "21" and row["total"] == "6"
    assert (tmp_path / "run" / "figures" / "automaton.png").exists()
    (tmp_path / "in.txt").write_text("12+345\n")
    arguments = [f"run_dir={tmp_path / 'run'}", f"input={tmp_path / 'in.txt'}", f"output={tmp_path / 'out.txt'}"]
    assert main(["predict", *arguments]) == 0
    assert (tmp_path / "out.txt").read_text().startswith("12+345\t")
    capsys.readouterr()
    (tmp_path / "in.txt").write_text("12-345\n")
    assert main(["predict", *arguments]) == 2
    assert "in.txt:1: expected a sum like '12+345'" in capsys.readouterr().err
