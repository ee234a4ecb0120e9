"""A finished run leaves a table and a picture of its tags."""

import csv
from types import SimpleNamespace

import pytest
import torch

from rnnlab.callbacks.tagging import TagReport
from rnnlab.tasks.tagging import TaggingTask


def test_report_has_a_row_for_each_tag_and_a_picture(tmp_path):
    task = TaggingTask(SimpleNamespace(num_tags=3), optim=None)
    task.confusion["val"] = torch.tensor([[8, 2, 0], [0, 0, 0], [4, 0, 6]])
    trainer = SimpleNamespace(
        default_root_dir=str(tmp_path),
        loggers=[],
        datamodule=SimpleNamespace(tags=("ADJ", "SYM", "X,Y")),
        checkpoint_callback=SimpleNamespace(payload={"config": {"name": "pos_tagging/own"}}),
    )
    task._trainer = trainer
    TagReport().on_run_end(trainer, task, {})
    rows = list(csv.reader((tmp_path / "tags.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["tag", "precision", "recall", "f1", "support"]
    assert [rows[1][0], *map(float, rows[1][1:])] == ["ADJ", 8 / 12, 8 / 10, 16 / 22, 10]
    assert rows[2] == ["SYM", "0.0", "", "0.0", "0"]
    assert [rows[3][0], *map(float, rows[3][1:])] == pytest.approx(["X,Y", 1.0, 0.6, 0.75, 10])
    assert (tmp_path / "figures" / "confusion_val.png").stat().st_size > 10_000
