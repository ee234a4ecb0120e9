"""What training would refuse, found out before anything is written."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.plugins.precision import MixedPrecision

from rnnlab.cli.errors import UsageError


def check_trainer(config: dict[str, Any]) -> None:
    """Refuse a trainer for which rnnlab has no meaning.

    Raises:
        UsageError: an accelerator that is not there, or more than one device.
    """
    accelerator = config["accelerator"]
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UsageError(
            f"trainer.accelerator={accelerator} asks for CUDA, which torch does not see here; use auto or cpu"
        )
    for key in ("devices", "num_nodes"):
        given = config.get(key, 1)
        if given != 1 and not (isinstance(given, list) and len(given) == 1):  # [3] names the device
            raise UsageError(f"trainer.{key} must be 1, got {given!r}: a run trains on one device")


def check_length(config: dict[str, Any]) -> None:
    """Refuse a training that does nothing or has no end.

    Raises:
        UsageError: neither `max_epochs` nor `max_steps` says how long to train.
    """
    epochs, steps = config.get("max_epochs"), config.get("max_steps", -1)
    if steps != -1 and not _is_count(steps):
        raise UsageError(f"trainer.max_steps must be an integer of at least 1, or -1 for no limit, got {steps!r}")
    if not _is_count(epochs) and (epochs not in (None, -1) or steps == -1):
        raise UsageError(
            f"trainer.max_epochs must be an integer of at least 1, or -1 beside a trainer.max_steps, got {epochs!r}"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def rehearse_step(task: pl.LightningModule, data: pl.LightningDataModule, trainer: pl.Trainer) -> None:
    """Let the task check its model's output for a small batch, on the trainer's device.

    No weight, no gradient and no random number is touched: modules are in evaluation mode meanwhile.

    Raises:
        UsageError: the model does not fit the data.
    """
    former, device = task.device, trainer.strategy.root_device
    batch = move_data_to_device(data.rehearsal_batch(), device)
    task.to(device).eval()
    try:
        with torch.no_grad():
            task.check(batch)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UsageError(str(error)) from error
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
            "an optimiser that is not fused: add optim.fused=false"
        )
    if task.schedule is not None:
        try:
            task.schedule(optimizer, total_steps=1000)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{_describe(task.schedule)}: {error}") from error


def _describe(partial: Any) -> str:
    """Return 'Adam(lr=-1)' of a partial."""
    settings = ", ".join(f"{key}={value!r}" for key, value in partial.keywords.items())
    return f"{partial.func.__name__}({settings})"
