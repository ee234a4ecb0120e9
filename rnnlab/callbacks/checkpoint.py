"""Two checkpoints a run: the last epoch and the best one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, Timer

from rnnlab.callbacks.console import say
from rnnlab.callbacks.files import write_checked


class LastAndBest(Checkpoint):
    """Save `last.ckpt` after every epoch and `best.ckpt` whenever the monitored metric improves.

    Both appear by renaming, the best one first. Killed at any moment, a run leaves a loadable `last.ckpt`, or none if
    its first epoch was not over; the epochs after it are trained again on resume and give the same files. Each has its
    checksum beside it.

    An epoch whose metric is missing, for want of a validation, or not finite is never the best, so a run that diverged
    at once has no `best.ckpt`.

    An epoch that `trainer.max_time` cuts short is not kept, unless it is the first: a run that is given more time goes
    on as one that was never stopped. Callbacks that keep records have `on_epoch_dropped(trainer, step)`, called once
    they have the state again that the last checkpoint holds, which was taken after `step` updates.

    Where several processes train together, the first writes.

    Args:
        directory: where both files go; made when first needed.
        monitor: metric and direction, ('val/loss', 'min') or (..., 'max').
        payload: plain data to store under the key 'rnnlab', such as configuration and versions.
    """

    def __init__(self, directory: Path, monitor: tuple[str, str], payload: dict[str, Any]) -> None:
        self.directory = directory
        self.metric, self.mode = monitor
        self.payload = payload
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.is_whole = True  # the last epoch that was kept

    @property
    def last_path(self) -> Path:
        return self.directory / "last.ckpt"

    @property
    def best_path(self) -> Path:
        return self.directory / "best.ckpt"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.is_whole = trainer.is_last_batch
        if (
            not self.is_whole
            and self.last_path.exists()
            and trainer.strategy.reduce_boolean_decision(_is_out_of_time(trainer), all=False)
        ):
            say(f"the time is up within epoch {trainer.current_epoch + 1}, which is not kept")
            self._drop_epoch(trainer)
            return
        is_best = self._is_better(value := float(trainer.callback_metrics.get(self.metric, math.nan)))
        if is_best:
            self.best_value, self.best_epoch = value, trainer.current_epoch

        def save(part: Path) -> None:
            trainer.save_checkpoint(part, weights_only=False)
            if is_best:
                write_checked(self.best_path, lambda best: shutil.copyfile(part, best))

        if trainer.is_global_zero:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_checked(self.last_path, save)
        else:  # gives the first process what a checkpoint has of it, and writes nothing
            trainer.save_checkpoint(self.last_path, weights_only=False)
        trainer.strategy.barrier("checkpoint")  # until both files are there

    def _drop_epoch(self, trainer: pl.Trainer) -> None:
        kept = torch.load(self.last_path, map_location="cpu", weights_only=True)
        self.load_state_dict(kept["callbacks"][self.state_key])
        for callback in trainer.callbacks:
            if hasattr(callback, "on_epoch_dropped"):
                if state := kept["callbacks"].get(callback.state_key):
                    callback.load_state_dict(state)
                callback.on_epoch_dropped(trainer, kept["global_step"])

    def restart(self) -> None:
        """Let no epoch so far be the best, as if training began now."""
        self.best_value = self.best_epoch = None

    def let_last_be_best(self) -> None:
        """Replace the best checkpoint by the last one."""
        write_checked(self.best_path, lambda best: shutil.copyfile(self.last_path, best))

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best_value is None:
            return True
        return value > self.best_value if self.mode == "max" else value < self.best_value

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["rnnlab"] = self.payload

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_epoch": self.best_epoch, "is_whole": self.is_whole}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]


def _is_out_of_time(trainer: pl.Trainer) -> bool:
    timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)
