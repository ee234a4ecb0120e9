"""Averages of the weights along a training, which are what is validated and kept."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn

from rnnlab.callbacks.console import say


class WeightAverage(WeightAveraging):
    """Average the weights of epochs (SWA: Izmailov et al., 2018) or of updates, exponentially (EMA: Polyak & Juditsky).

    Lightning's `WeightAveraging`, but: until the first weights are averaged, those of training are validated and kept,
    not the initial ones; and an epoch's end counts before its validation, so that checkpoints hold what was validated.
    Checkpoints hold the averages as the weights of the model, and those of training beside them, for a resume.

    Args:
        decay: share of the former average that each update keeps; None averages epochs, all alike.
        start: epochs of training before the first one that counts.

    Raises:
        ValueError: an argument out of range.
    """

    excludes = ("WeightAverage",)  # one of swa and ema

    def __init__(self, decay: float | None = None, start: int = 0) -> None:
        if decay is not None and not (isinstance(decay, float) and 0 < decay < 1):
            raise ValueError(f"decay must lie between 0 and 1, got {decay!r}")
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            raise ValueError(f"start must be an integer of at least 0, got {start!r}")
        super().__init__(**({} if decay is None else {"avg_fn": get_ema_avg_fn(decay)}))
        self.decay, self.start = decay, start

    @property
    def has_begun(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.max_epochs not in (None, -1) and trainer.max_epochs <= self.start:
            say(f"note: {trainer.max_epochs} epochs end before weights are averaged, from epoch {self.start + 1} on")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_update = trainer.global_step > self._latest_update_step
        if trainer.current_epoch >= self.start and is_update and (self.decay is not None or trainer.is_last_batch):
            self._average_model.update_parameters(pl_module)
            self._latest_update_step = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average nothing: what is kept now has been validated."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.has_begun:
            super().on_train_end(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.has_begun and trainer.state.fn == "fit":
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Change nothing yet: the task has its own end of the epoch to come, and may look at its weights."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.has_begun and trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if not self.has_begun:
            checkpoint["state_dict"] = checkpoint["current_model_state"]
