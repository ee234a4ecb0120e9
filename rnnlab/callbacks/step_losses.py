"""The training loss of single steps, where `trainer.log_every_n_steps` asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from rnnlab.callbacks.ledger import read_rows, write_rows
from rnnlab.callbacks.loggers import replay


class StepLosses(pl.Callback):
    """Log 'train/loss_step' and 'train/lr_step' at every so many updates, and keep them as steps.csv.

    The loss is that of the update's last batch, in this process; the rate is that of the update. 'step' counts updates,
    as in metrics.csv; loggers have the values of an update and those of the epoch that ends with it at one
    step. On resume, steps that are taken again are dropped, and the others are sent to the loggers once more.

    Args:
        path: the steps.csv.
        every: so many updates.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.rows = read_rows(path, "step")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows = [row for row in self.rows if row["step"] <= trainer.global_step]
        self._last = trainer.global_step
        replay(trainer, self.rows)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if (trainer.global_step + 1) % self.every == 0:
            self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._last or step % self.every:  # gradients that are still gathered are no update
            return
        self._last = step
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        values = {"train/lr_step": self._rate}
        if loss is not None:
            values = {"train/loss_step": float(loss) * trainer.accumulate_grad_batches, **values}  # Lightning's share
        self.rows.append({"step": step, **values})
        for logger in trainer.loggers:
            logger.log_metrics(values, step - 1)

    def on_epoch_dropped(self, trainer: pl.Trainer, step: int) -> None:
        self.rows = [row for row in self.rows if row["step"] <= step]
        self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            write_rows(self.path, self.rows)
