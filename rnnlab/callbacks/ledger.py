"""metrics.csv: one row an epoch, whatever else logs."""

from __future__ import annotations

import csv
import io
import statistics
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from rnnlab.callbacks.files import write_atomically
from rnnlab.callbacks.loggers import replay

Row = dict[str, float]


def read_rows(path: Path, key: str = "epoch") -> list[Row]:
    """Read a metrics.csv, or another file whose rows all have a `key`.

    Empty cells are left out, a missing file is an empty list.

    Raises:
        ValueError: a row is none of ours, with file and line; a file that was cut off within a row, for example.
    """
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8", "replace")
    reader, rows = csv.DictReader(io.StringIO(text, newline=""), strict=True), []
    try:
        for row in reader:
            rows.append({name: _number(cell) for name, cell in row.items() if cell != ""})
        if not text.endswith("\n") or key not in reader.fieldnames or any(key not in row for row in rows):
            raise ValueError("cut off")
    except (ValueError, TypeError, AttributeError, csv.Error) as error:  # cells too few are None, too many a list
        raise ValueError(f"{path}, line {reader.line_num}: not a whole row of metrics; bring back a copy") from error
    return rows


def _number(cell: str) -> float:
    """Read epoch and step back as the integers they were, so that a rewritten file is the same file."""
    return int(cell) if cell.isdigit() else float(cell)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a metrics.csv atomically; columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


class Ledger(pl.Callback):
    """Keep metrics.csv and the clock.

    A row holds what was measured in its epoch, and nothing else: what was not is left out, here and for all callbacks.
    Columns: epoch, step, every metric the task logs, `time/epoch_s` (training alone, without validation) and
    `time/fit_s` (from the start of training, over all resumes). On resume, rows of epochs that are trained again are
    dropped, and the kept ones are sent to the loggers once more, see `replay`.

    Args:
        path: the metrics.csv.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = read_rows(path)
        self._num_old = len(self.rows)  # rows of a former process that the loggers of this one have not seen
        self._fit_before = 0.0

    def check(self, num_epochs: int) -> None:
        """Raise ValueError unless there are rows of all epochs that a checkpoint has seen."""
        found = {row["epoch"] for row in self.rows}
        missing = [epoch for epoch in range(num_epochs) if epoch not in found]
        if missing:
            raise ValueError(
                f"{self.path} has no row of epoch {missing[0]}, but the last checkpoint is of epoch {num_epochs - 1}; "
                "bring back a copy of the file"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        self._log_old_rows(trainer)
        self._fit_before = self.rows[-1].get("time/fit_s", 0.0) if self.rows else 0.0
        self._fit_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.callback_metrics.clear()  # Lightning keeps those of former epochs, where this one is not validated
        self._epoch_start = time.perf_counter()
        self._epoch_s: float | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._epoch_s = time.perf_counter() - self._epoch_start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        times = {
            "time/epoch_s": round(self._epoch_s if self._epoch_s is not None else now - self._epoch_start, 4),
            "time/fit_s": round(self._fit_before + now - self._fit_start, 4),
        }
        metrics = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics, **times})
        if trainer.is_global_zero:
            write_rows(self.path, self.rows)
        for logger in trainer.loggers:
            logger.log_metrics(times, trainer.global_step - 1)  # the last update's number, where Lightning logs

    def on_epoch_dropped(self, trainer: pl.Trainer, step: int) -> None:
        self.rows.pop()  # of an epoch that is in no checkpoint there are no numbers
        if trainer.is_global_zero:
            write_rows(self.path, self.rows)

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        self._log_old_rows(trainer)  # nothing was left to train

    def _log_old_rows(self, trainer: pl.Trainer) -> None:
        replay(trainer, self.rows[: self._num_old])
        self._num_old = 0

    def summary(self) -> dict[str, Any]:
        """Return the times, under the names of metrics.json; what the last epoch measured stands in metrics.csv."""
        # The first epoch pays for allocation, threads and compilation.
        epochs = [row["time/epoch_s"] for row in self.rows[1:] or self.rows]
        return {
            "time/epoch_s": round(statistics.median(epochs), 4),
            "time/fit_s": self.rows[-1]["time/fit_s"],
            "epochs": len(self.rows),
        }
