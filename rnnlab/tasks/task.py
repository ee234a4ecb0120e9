"""What all tasks have: model, optimiser and schedule, and means over the validation and test parts."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from rnnlab.tasks.means import EpochLoss, Means
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory, complete_optimisers, restore_position


class Task(pl.LightningModule):
    """Base of the tasks; a subclass writes `training_step`, `measure` and `check`, and `report` if means are not all.

    Args:
        model: an nn.Module.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        names: of the means.

    Attributes:
        means: `Means` of 'val' and 'test'.
        train_loss: for `training_step`, which logs 'train/loss' by it.
    """

    def __init__(
        self, model: nn.Module, optim: OptimiserFactory, schedule: ScheduleFactory | None, *names: str
    ) -> None:
        super().__init__()
        self.model, self.optim, self.schedule = model, optim, schedule
        self.means = nn.ModuleDict({split: Means(*names) for split in ("val", "test")})
        self.train_loss = EpochLoss()

    def measure(self, batch: Any, split: str) -> None:
        """Add a batch of 'val' or 'test' to what `report` tells."""
        raise NotImplementedError

    def report(self, split: str) -> dict[str, Any]:
        """Return what a split came to, by names without 'val/' or 'test/', and start anew."""
        return self.means[split].report()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: Any, batch_index: int) -> None:
        self.measure(batch, "test")

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def on_test_epoch_end(self) -> None:
        self._log("test")

    def _log(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self.report(split).items()})

    def on_train_start(self) -> None:
        restore_position(self.trainer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return complete_optimisers(self, self.optim, self.schedule)
