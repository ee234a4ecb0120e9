"""What training would refuse, found out before anything is written."""

from __future__ import annotations

import itertools
import re
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.optim.lr_scheduler import ReduceLROnPlateau

from rnnlab.cli.errors import UsageError, nearest

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


def check_trainer(config: dict[str, Any]) -> None:
    """Refuse a trainer for which rnnlab has no meaning.

    Raises:
        UsageError: an accelerator or devices that are not there, or another strategy than `STRATEGIES`.
    """
    accelerator, devices = config.get("accelerator", "auto"), config.get("devices", 1)
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UsageError(
            f"trainer.accelerator={accelerator} asks for CUDA, which torch does not see here; use auto or cpu"
        )
    if not (_is_count(devices) or devices in ("auto", -1) or (isinstance(devices, list) and devices)):
        raise UsageError(f"trainer.devices must be how many, a list of numbers, or auto for all, got {devices!r}")
    if not _is_count(nodes := config.get("num_nodes", 1)):
        raise UsageError(f"trainer.num_nodes must be an integer of at least 1, got {nodes!r}")
    strategy = config.get("strategy", "auto")
    if strategy not in STRATEGIES:
        hint = nearest(str(strategy), STRATEGIES)
        raise UsageError(f"trainer.strategy must be {' or '.join(STRATEGIES)}, got {strategy!r}{hint}")
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        there = torch.cuda.device_count()
        if (_is_count(devices) and devices > there) or (isinstance(devices, list) and max(devices) >= there):
            raise UsageError(f"trainer.devices={devices} asks for more GPUs than there are, {there}")
    elif isinstance(devices, list) and len(devices) > 1:
        raise UsageError(f"trainer.devices={devices} names GPUs, and torch sees none here; give how many processes")


def alone(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a trainer for one process: what several have trained, one measures."""
    devices = config.get("devices", 1)
    only = devices[:1] if isinstance(devices, list) else 1
    return {**config, "devices": only, "num_nodes": 1, "strategy": "auto"}


# Arguments of Lightning's Trainer that are not for a configuration to set, and what is.
_OWN = {
    "callbacks": "callbacks=NAME, or +callbacks.NAME._target_=CLASS beside them, says what watches the training",
    "default_root_dir": "run_dir=DIR says where a run goes",
    "enable_checkpointing": "a run always keeps its last and its best epoch",
    "fast_dev_run": "debug=limit makes a short run",
    "logger": "logger=NAME says where metrics go",
    "num_sanity_val_steps": "a step is always rehearsed, and draws no random numbers that a resumed run does not",
}


def check_training(config: dict[str, Any]) -> None:
    """Refuse a training that does nothing, has no end, or is asked for what is rnnlab's own to decide.

    Raises:
        UsageError: an argument of the trainer is out of range or in `_OWN`, or neither `max_epochs` nor `max_steps`
            says how long to train.
    """
    for key in _OWN.keys() & config.keys():
        raise UsageError(f"trainer.{key} cannot be set: {_OWN[key]}")
    for key in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        if not _is_count(config.get(key, 1)) and (key, config[key]) != ("check_val_every_n_epoch", None):
            raise UsageError(f"trainer.{key} must be an integer of at least 1, got {config[key]!r}")
    if config.get("limit_train_batches") == 0:
        raise UsageError(f"trainer.limit_train_batches={config['limit_train_batches']} leaves nothing to train on")
    every = config.get("log_every_n_steps", 0)
    if every != 0 and not _is_count(every):
        raise UsageError(f"trainer.log_every_n_steps must be an integer of at least 1, or 0 for never, got {every!r}")
    time = config.get("max_time")
    if time is not None and not (isinstance(time, str) and re.fullmatch(r"\d+:\d\d:\d\d:\d\d", time)):
        raise UsageError(f"trainer.max_time must be DD:HH:MM:SS, as 00:12:00:00 for twelve hours, got {time!r}")
    epochs, steps = config.get("max_epochs"), config.get("max_steps", -1)
    if steps != -1 and not _is_count(steps):
        raise UsageError(f"trainer.max_steps must be an integer of at least 1, or -1 for no limit, got {steps!r}")
    if not _is_count(epochs) and (epochs not in (None, -1) or steps == -1):
        raise UsageError(
            f"trainer.max_epochs must be an integer of at least 1, or -1 beside a trainer.max_steps, got {epochs!r}"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_together(callbacks: list[pl.Callback]) -> None:
    """Refuse callbacks one of which `excludes` another by the name of its class.

    Raises:
        UsageError: there are such.
    """
    for one, other in itertools.permutations(callbacks, 2):
        if type(other).__name__ in getattr(one, "excludes", ()):
            another = "another " if type(other) is type(one) else ""
            raise UsageError(f"{type(one).__name__} does not go with {another}{type(other).__name__}: leave one out")


def check_callbacks(callbacks: list[pl.Callback], trainer: pl.Trainer, task: pl.LightningModule) -> None:
    """Refuse callbacks of Lightning's that would stop the run for want of a logger, and those that refuse the task.

    Raises:
        UsageError: there is such a callback and no logger, or a callback's `check_task` raises ValueError.
    """
    for callback in callbacks:
        if hasattr(callback, "check_task"):
            try:
                callback.check_task(task)
            except ValueError as error:
                raise UsageError(f"{type(callback).__name__}: {error}") from error
        if trainer.world_size > 1 and not getattr(callback, "shares", True):
            raise UsageError(f"{type(callback).__name__} sees one process alone: it needs trainer.devices=1")
        if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor | ThroughputMonitor) and not trainer.loggers:
            raise UsageError(f"{type(callback).__name__} among the callbacks needs a logger: logger=wandb")


def rehearse_step(task: pl.LightningModule, data: pl.LightningDataModule, trainer: pl.Trainer) -> None:
    """Let the task check its model's output for a small batch, on the trainer's device, and all data if it asks to.

    No weight, no gradient and no random number is touched: modules are in evaluation mode meanwhile.

    Raises:
        UsageError: the model does not fit the data.
    """
    former, device = task.device, trainer.strategy.root_device
    batch = move_data_to_device(data.rehearsal_batch(), device)
    task.to(device).eval()
    try:
        if hasattr(task, "check_data"):
            task.check_data(data)
        with torch.no_grad():
            task.check(batch)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        first, second, third = (type(part).__name__ for part in (task, task.model, data))
        raise UsageError(f"{first}, {second} and {third} do not fit together: {error}") from error
    finally:
        task.to(former).train()


def rehearse_update(task: pl.LightningModule, trainer: pl.Trainer) -> None:
    """Build the optimiser and its schedule once, for nothing.

    Raises:
        UsageError: one of them refuses its settings, or the optimiser cannot do what the trainer asks for.
    """
    try:
        optimizer = task.optim(task.parameters())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{_describe(task.optim)}: {error}") from error
    handles_scaling = getattr(optimizer, "_step_supports_amp_scaling", False)
    if isinstance(trainer.precision_plugin, MixedPrecision) and trainer.gradient_clip_val and handles_scaling:
        raise UsageError(
            f"trainer.precision={trainer.precision} with trainer.gradient_clip_val={trainer.gradient_clip_val} needs "
            "an optimiser that is not fused: optim.fused=false, or auto"
        )
    if task.schedule is not None:
        try:
            scheduler = task.schedule(optimizer, total_steps=1000)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{_describe(task.schedule)}: {error}") from error
        never, seldom = trainer.limit_val_batches == 0, trainer.check_val_every_n_epoch != 1
        if isinstance(scheduler, ReduceLROnPlateau) and (never or seldom):
            key = "limit_val_batches" if never else "check_val_every_n_epoch"
            raise UsageError(
                f"schedule=plateau needs a validation in each epoch, trainer.{key} is {getattr(trainer, key)}"
            )


def _describe(partial: Any) -> str:
    """Return 'Adam(lr=-1)' of a partial."""
    settings = ", ".join(f"{key}={value!r}" for key, value in partial.keywords.items())
    return f"{partial.func.__name__}({settings})"
