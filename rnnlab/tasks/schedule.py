"""Learning rate schedules, and the completion of optimiser and schedule once the length of training is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

# `optim(params)` gives an optimiser; `schedule(optimizer, total_steps=...)` a schedule stepped after every update.
OptimiserFactory = Callable[..., Optimizer]
ScheduleFactory = Callable[..., LRScheduler]


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    max_lr: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> LRScheduler:
    """Raise the learning rate to `max_lr` along a cosine, then lower it to nearly zero (Smith and Topin, 2017).

    The optimiser's own rate is overwritten; Adam's first beta moves the other way, from 0.95 to 0.85 and back.

    Args:
        optimizer: any with momentum or betas.
        total_steps: updates of the whole training.
        max_lr: the highest rate.
        pct_start: share of the updates spent rising.
        div_factor: the first rate is `max_lr / div_factor`.
        final_div_factor: the last rate is the first one divided by this.
    """
    return OneCycleLR(
        optimizer,
        max_lr,
        total_steps=total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )


def complete_optimisers(
    task: pl.LightningModule, optim: OptimiserFactory, schedule: ScheduleFactory | None
) -> OptimizerLRScheduler:
    """Return what `configure_optimizers` should: the optimiser of all parameters, and its schedule by update.

    Raises:
        ValueError: a schedule was asked for, but training has no end.
    """
    optimizer = optim(task.parameters())
    if schedule is None:
        return optimizer
    total_steps = task.trainer.estimated_stepping_batches
    if not math.isfinite(total_steps):
        raise ValueError("a schedule needs a training of known length: set trainer.max_epochs or trainer.max_steps")
    scheduler = schedule(optimizer, total_steps=int(total_steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
