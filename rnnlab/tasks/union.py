"""What processes that train together bring together: the numbers of a task are those of all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def num_processes() -> int:
    """Return how many processes train together; 1 before they have met and after they have parted."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, each of which has to ask for it."""
    if num_processes() == 1:
        return values
    place = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
    total = values.detach().to(place, copy=True)
    distributed.all_reduce(total)
    return total.to(values.device)


def gathered(value: Any) -> list[Any]:
    """Return the values of all processes, first process first; each has to ask for it."""
    if num_processes() == 1:
        return [value]
    values = [None] * num_processes()
    distributed.all_gather_object(values, value)
    return values


def is_borrowed(task: Any) -> bool:
    """Tell whether a task's batch is that of another process, and counts for nothing."""
    return getattr(task.trainer.datamodule, "is_borrowed", False)


def union_mean(task: Any, total: Tensor, count: Tensor | int) -> Tensor:
    """Return what a process has to minimise, for the mean over what all processes have in a step.

    Gradients are averaged over the processes, which have unequal counts: a mean of their means would be another one.

    Args:
        task: whose batch it is.
        total: sum of the losses of this process.
        count: what they are to be divided by.
    """
    counts = torch.as_tensor(count, dtype=torch.float64, device=total.device).detach()
    if is_borrowed(task):
        total, counts = total * 0, counts * 0
    return total * (num_processes() / or_one(summed(counts))).to(total.dtype)


def or_one(count: Tensor) -> Tensor:
    """Return what a sum of so many losses is divided by, where there may be none."""
    return torch.where(count > 0, count, 1)
