"""A progress bar that costs nothing between its few updates, and one line an epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping

import lightning.pytorch as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rnnlab.callbacks.console import console, say

_WIDTH = 80  # characters of a line


def epoch_line(epoch: int, max_epochs: int | None, metrics: Mapping[str, float], monitor: str) -> str:
    """Return rich markup of at most 80 characters: the metric that picks the best checkpoint, then what else fits.

    The training loss comes next, then what validation measured; metrics.csv has the rest.
    """
    total = f"/{max_epochs}" if max_epochs is not None and max_epochs > 0 else ""
    line = f"epoch {epoch:>3}{total}"
    width = len(line)
    order = [monitor, "train/loss", *(key for key in sorted(metrics) if key.startswith("val/")), *sorted(metrics)]
    for key in dict.fromkeys(order):
        if key in metrics:
            number = f"{metrics[key]:.5g}"
            width += len(f"  {key} {number}")
            if width > _WIDTH:
                break
            line += f"  {key} [bold]{number}[/bold]"
    return line


class EpochProgress(pl.Callback):
    """Show the batches of the running epoch on a terminal, and print one line of metrics after every epoch.

    Args:
        refresh_s: seconds between two updates of the bar.
    """

    def __init__(self, refresh_s: float = 0.2) -> None:
        self.refresh_s = refresh_s
        self._bar: Progress | None = None
        self._task = None
        self._next_update = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not console.is_terminal:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # No refresh thread: it would take turns with the training loop for the interpreter.
        self._bar = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.reset(self._task, total=trainer.num_training_batches, description=title)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if self._bar is not None and time.monotonic() >= self._next_update:
            self._bar.update(self._task, completed=batch_idx + 1, refresh=True)
            self._next_update = time.monotonic() + self.refresh_s

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        say(epoch_line(trainer.current_epoch + 1, trainer.max_epochs, metrics, pl_module.monitor[0]))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
