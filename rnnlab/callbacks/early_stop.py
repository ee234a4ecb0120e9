"""Ending a run that no longer improves."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping

from rnnlab.callbacks.console import readable, say


class EarlyStop(EarlyStopping):
    """Lightning's `EarlyStopping` by the metric that picks the best checkpoint, also of a run that goes on.

    Lightning's own forgets that it has stopped: a run killed between its last epoch and its final numbers would be
    trained an epoch longer.

    Args:
        monitor: metric and
        mode: direction of the task, which `rnnlab train` gives.
        patience: so many validations without an improvement end the run.
        min_delta: less than this is none.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, monitor: str, mode: str = "min", patience: int = 5, min_delta: float = 0.0) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise ValueError(f"patience must be an integer of at least 1, got {patience!r}")
        if not isinstance(min_delta, int | float) or min_delta < 0:
            raise ValueError(f"min_delta must be a number of at least 0, got {min_delta!r}")
        super().__init__(monitor, min_delta, patience, mode=mode)
        self.has_stopped = False

    def check_task(self, task: Any) -> None:
        """Raise ValueError unless the task's own metric is watched."""
        if (self.monitor, self.mode) != task.monitor:
            own, given = (f"{metric} ({mode})" for metric, mode in (task.monitor, (self.monitor, self.mode)))
            raise ValueError(f"it watches {own}, which picks the best checkpoint, got {given}")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.has_stopped

    def restart(self) -> None:
        """Let no epoch so far be the best, as if training began now."""
        self.wait_count, self.best_score = 0, torch.tensor(math.inf if self.mode == "min" else -math.inf)

    def _run_early_stopping_check(self, trainer: pl.Trainer) -> None:
        if self.monitor not in trainer.callback_metrics:  # an epoch without a validation
            return
        super()._run_early_stopping_check(trainer)
        is_lost = not trainer.callback_metrics[self.monitor].isfinite()
        if not self.has_stopped and (self.wait_count >= self.patience or is_lost):
            self.has_stopped = True
            say(f"stopped early: {self.monitor} was at its best, {readable(float(self.best_score))}")

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "has_stopped": self.has_stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.has_stopped = state_dict["has_stopped"]
