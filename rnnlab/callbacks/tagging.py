"""What a tagger gets right and wrong, at the end of a run."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import lightning.pytorch as pl

from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.files import write_text


class TagReport(pl.Callback):
    """Write tags.csv, and draw figures/confusion.png: the best checkpoint on the validation part.

    tags.csv has a row for each tag: precision, recall and F1, empty where there is nothing to divide by, and support,
    the number of tokens that have it.
    """

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.confusion import confusion_matrix

        scores = task.per_tag("val")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["tag", "precision", "recall", "f1", "support"])
        for tag, (*rates, support) in scores.items():
            writer.writerow([tag, *("" if math.isnan(rate) else rate for rate in rates), support])
        write_text(Path(trainer.default_root_dir) / "tags.csv", text.getvalue())
        title = f"Tags of the validation part ({run_name(trainer)})"
        figure = confusion_matrix(task.confusion["val"].numpy(), list(scores), title)
        save_figure(trainer, "confusion", figure)
