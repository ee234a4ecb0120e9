"""What a tagger or a classifier gets right and wrong, at the end of a run."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.files import write_text


class TagReport(pl.Callback):
    """Write tags.csv, and draw figures/confusion_val.png: the best checkpoint on the validation part.

    tags.csv has a row for each tag: precision, recall and F1, empty where there is nothing to divide by, and support,
    the number of tokens that have it.
    """

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        scores = task.per_tag("val")
        title = f"Tags of the validation part ({run_name(trainer)})"
        _write(trainer, "tag", "tags.csv", scores)
        _draw(trainer, task, "val", list(scores), title)


class ClassReport(pl.Callback):
    """Write classes.csv and confusion.csv, and draw figures/confusion_test.png: the best checkpoint on the test part.

    Without a test part they are of validation, and the picture is confusion_val.png. classes.csv is as tags.csv of
    `TagReport`; confusion.csv has a row for each true class and a column for each that was given.
    """

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        part = "test" if "test" in task.confusion else "val"
        scores = task.per_class(part)
        _write(trainer, "class", "classes.csv", scores)
        rows = zip(scores, task.confusion[part].tolist(), strict=True)
        _write_table(trainer, "confusion.csv", [["true", *scores], *([name, *counts] for name, counts in rows)])
        title = f"Classes of the {'test' if part == 'test' else 'validation'} part ({run_name(trainer)})"
        _draw(trainer, task, part, list(scores), title)


def _write(trainer: pl.Trainer, kind: str, file: str, scores: Mapping[str, Any]) -> None:
    rows = (
        [name, *("" if math.isnan(rate) else rate for rate in rates), support]
        for name, (*rates, support) in scores.items()
    )
    _write_table(trainer, file, [[kind, "precision", "recall", "f1", "support"], *rows])


def _write_table(trainer: pl.Trainer, file: str, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(Path(trainer.default_root_dir) / file, text.getvalue())


def _draw(trainer: pl.Trainer, task: pl.LightningModule, part: str, names: list[str], title: str) -> None:
    from rnnlab.analysis.confusion import confusion_matrix

    save_figure(trainer, f"confusion_{part}", confusion_matrix(task.confusion[part].numpy(), names, title))
