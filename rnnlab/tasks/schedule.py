"""Learning rate schedules, and the completion of optimiser and schedule once the length of training is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

# `optim(params)` gives an optimiser; `schedule(optimizer, total_steps=...)` a schedule stepped after every update, or
# after every validation if it is of the plateau kind.
OptimiserFactory = Callable[..., Optimizer]
ScheduleFactory = Callable[..., LRScheduler | ReduceLROnPlateau]


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


def cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final_factor: float = 0.0) -> LRScheduler:
    """Lower the learning rate along half a cosine (Loshchilov and Hutter, 2017), without restarts.

    Args:
        optimizer: any; its own rate is the highest one.
        total_steps: updates of the whole training.
        warmup_steps: first updates, in which the rate rises linearly from nearly zero.
        final_factor: the last rate as a share of the highest.

    Raises:
        ValueError: a value out of range.
    """
    if not isinstance(warmup_steps, int) or warmup_steps < 0 or not 0 <= final_factor <= 1:
        raise ValueError(
            f"warmup_steps must be an integer >= 0 and final_factor in [0, 1], got {warmup_steps!r}, {final_factor!r}"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def late_decay(
    optimizer: Optimizer, total_steps: int, start: float = 0.2, gamma: float = 0.97, times: int = 40
) -> LRScheduler:
    """Keep the learning rate for a share of the training, then lower it at equal intervals.

    The defaults are those of Karpathy's char-rnn: times 0.97 at the end of each of fifty epochs, from the tenth on.

    Args:
        optimizer: any; its own rate is the first one.
        total_steps: updates of the whole training.
        start: share of the updates before the first change.
        gamma: factor of each change.
        times: how many changes there are.

    Raises:
        ValueError: a value out of range.
    """
    if not 0 <= start < 1 or gamma <= 0 or times < 0:
        raise ValueError(f"start must lie in [0, 1), gamma be > 0 and times >= 0, got {start!r}, {gamma!r}, {times!r}")

    def factor(step: int) -> float:
        progress = (step / total_steps - start) / (1 - start)
        return gamma ** max(0, min(times, math.floor(progress * times + 1e-9) + 1))  # 1e-9: progress is rounded

    return LambdaLR(optimizer, factor)


def plateau(optimizer: Optimizer, total_steps: int, factor: float = 0.5, patience: int = 2) -> ReduceLROnPlateau:
    """Lower the learning rate when the validation error has not fallen for more than `patience` epochs.

    That is the metric that picks the best checkpoint, or 'val/loss' where that one is to rise.

    Args:
        optimizer: any.
        total_steps: without effect.
        factor: the rate is multiplied by this, in (0, 1).
        patience: validations without improvement that are borne.

    Raises:
        ValueError: a value out of range.
    """
    if not 0 < factor < 1 or patience < 0:
        raise ValueError(f"factor must lie in (0, 1) and patience be >= 0, got {factor!r}, {patience!r}")
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience)


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
    if isinstance(scheduler, ReduceLROnPlateau):
        if task.trainer.check_val_every_n_epoch != 1:
            raise ValueError("schedule=plateau needs a validation in each epoch: trainer.check_val_every_n_epoch=1")
        # Counted in batches, it is stepped right after the epoch's validation. Counted in epochs, Lightning would step
        # it behind the callbacks, that is, after the checkpoint was written, and a resumed run would miss a step.
        metric = task.monitor[0] if task.monitor[1] == "min" else "val/loss"
        every = {"interval": "step", "frequency": int(task.trainer.num_training_batches)}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": metric, **every}}
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def restore_position(trainer: pl.Trainer) -> None:
    """Let the training loader go on where a checkpoint was taken; for `on_train_start`.

    A schedule asks for the number of batches, upon which Lightning makes the loader, before it has read the position in
    it from the checkpoint; it then forgets the position.
    """
    trainer.fit_loop._load_combined_loader_states()
