"""What all tasks have: model, optimiser and schedule, means over the validation and test parts; and how some search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from rnnlab.decoding.sampling import check_integer
from rnnlab.tasks.means import EpochLoss, Means
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory, complete_optimisers, restore_position
from rnnlab.tasks.union import is_borrowed


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
        """Return what a split came to in all processes, by names without 'val/' or 'test/', and start anew."""
        return self.means[split].report()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        if not is_borrowed(self):
            self.measure(batch, "val")

    def test_step(self, batch: Any, batch_index: int) -> None:
        if not is_borrowed(self):
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


def monitored(name: str, directions: Mapping[str, str]) -> tuple[str, str]:
    """Return the metric of the validation part that picks the best checkpoint, and which way is up.

    Args:
        name: the metric.
        directions: 'min' or 'max' for each that may be chosen.

    Raises:
        ValueError: it may not be.
    """
    if name not in directions:
        raise ValueError(f"task.monitor must be one of {', '.join(directions)}, got {name!r}")
    return f"val/{name}", directions[name]


class SearchTask(Task):
    """Base of the tasks whose answers a search finds; a subclass calls `set_search`.

    Attributes:
        beam: how wide the search is.
        n_best: answers that it gives, at most `beam`.
    """

    def only_by_search(self) -> list[str]:
        """Return the settings that say something, and that a beam of 1, the best path, would not obey."""
        return []

    def set_search(self, beam: int, n_best: int, prefix: str = "task.") -> None:
        """Set how wide the search is and how many answers it gives; `prefix` is that of their names in messages.

        Raises:
            ValueError: a number is out of range, or there would be no search that obeys a setting.
        """
        check_integer(f"{prefix}beam", beam, 1)
        check_integer(f"{prefix}n_best", n_best, 1)
        if n_best > beam:
            raise ValueError(f"{prefix}n_best must be at most {prefix}beam, got {n_best} and {beam}")
        if beam == 1 and (unheard := self.only_by_search()):
            raise ValueError(f"{prefix}beam must be above 1 with {unheard[0]}: the best path does without it")
        self.beam, self.n_best = beam, n_best
