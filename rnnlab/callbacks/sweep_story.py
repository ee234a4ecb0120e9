"""What a job of a sweep tells the sweep's ledger while it trains."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl

from rnnlab.sweeps import ledger


class SweepStory(pl.Callback):
    """Write a line into the ledger after each epoch.

    Args:
        sweep_dir: the sweep.
        job: its name.
    """

    def __init__(self, sweep_dir: Path, job: str) -> None:
        self.sweep_dir, self.job = sweep_dir, job

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metric = pl_module.monitor[0]
        measured = {metric: float(trainer.callback_metrics[metric])} if metric in trainer.callback_metrics else {}
        epochs = {"epoch": trainer.current_epoch + 1, "epochs": trainer.max_epochs}
        ledger.append(self.sweep_dir, self.job, "epoch", **epochs, **measured)
