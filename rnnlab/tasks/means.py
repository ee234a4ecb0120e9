"""Means over everything a validation or test run has seen: sums over counts, never means of batch means."""

from __future__ import annotations

from collections.abc import Iterable

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from rnnlab.tasks.union import is_borrowed, num_processes, or_one, summed, union_mean


class Means(nn.Module):
    """Named means over all elements given since the last report, in all processes that train together, in float64.

    A NaN makes its mean NaN, and one in 'loss' all of them: a model that diverged must not be scored by the examples it
    still answers, nor by those whose likeliest answer is the first of many that are not a number.

    Args:
        names: the values that may be given.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self._start()

    def _start(self) -> None:
        # Of each name: the total, the count, and how often it was given. No buffers: DDP would send them at each step.
        self._sums = {name: torch.zeros(3, dtype=torch.float64) for name in self.names}

    def update(self, weight: Tensor | float = 1.0, **values: Tensor) -> None:
        """Add every element of the given tensors, each of any shape, to the mean of its name.

        Each counts as often as the element of `weight` in its place, or all alike.
        """
        for name, value in values.items():
            weights = torch.as_tensor(weight, dtype=torch.float64, device=value.device).expand(value.shape)
            self.add(name, (value * weights).sum(), weights.sum())

    def add(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a sum to the mean of a name, and what it is a sum of."""
        added = torch.stack([total.double(), count.double(), count.new_ones((), dtype=torch.float64)])
        self._sums[name] = self._sums[name].to(total.device) + added

    def report(self) -> dict[str, Tensor]:
        """Return the means of the names that were given anything, and start anew."""
        sums = summed(torch.stack([each.to(self._device) for each in self._sums.values()]))
        given = {name: row for name, row in zip(self.names, sums, strict=True) if row[2] > 0}
        if "loss" in given and given["loss"][0].isnan():
            given = {name: torch.full_like(row, torch.nan) for name, row in given.items()}
        self._start()
        return {name: total / count for name, (total, count, _) in given.items()}

    @property
    def _device(self) -> torch.device:
        return next((each.device for each in self._sums.values() if each.device.type != "cpu"), torch.device("cpu"))


class EpochLoss:
    """The mean training loss and the rate of an epoch, logged once: at each step that costs a tenth of a small one."""

    def __init__(self) -> None:
        self._totals: list[Tensor | float] = []
        self._counts: list[Tensor | float] = []

    def add(self, task: pl.LightningModule, loss: Tensor, count: Tensor | int) -> Tensor:
        """Add the mean `loss` of `count` items; with the last batch of the epoch, log 'train/loss' and start anew.

        'train/lr', logged beside it, is the rate of the epoch's last update, that of the first group of parameters.

        A count that lies on a GPU is not looked at.

        Returns:
            What is to be minimised: the loss, or where processes train together what makes it the mean over the items
            of all of them.
        """
        self._note(task, (loss * count, count))
        return loss if num_processes() == 1 else union_mean(task, loss * count, count)

    def add_sums(self, task: pl.LightningModule, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """Do the same for a loss that is a sum of means, each a sum of losses and what it is divided by, 1 for 0."""
        self._note(task, *terms)
        if num_processes() == 1:
            return sum_of_means(terms)
        return torch.stack([union_mean(task, total, count) for total, count in terms]).sum()

    def _note(self, task: pl.LightningModule, *terms: tuple[Tensor, Tensor | int]) -> None:
        if not self._totals:
            self._totals, self._counts = [0.0] * len(terms), [0] * len(terms)
        for place, (total, count) in enumerate(terms):
            if not is_borrowed(task):
                self._totals[place] = self._totals[place] + total.detach()
                self._counts[place] = self._counts[place] + count
        if task.trainer.is_last_batch:
            rate = torch.tensor(float(task.trainer.optimizers[0].param_groups[0]["lr"]), dtype=torch.float64)
            values = {"train/loss": self._mean(task), "train/lr": rate}
            task.log_dict(values, on_step=False, on_epoch=True, batch_size=1)
            self._totals, self._counts = [], []

    def _mean(self, task: pl.LightningModule) -> Tensor:
        pairs = list(zip(self._totals, self._counts, strict=True))
        if num_processes() > 1:
            sums = [[torch.as_tensor(each, dtype=torch.float64, device=task.device) for each in pair] for pair in pairs]
            pairs = list(summed(torch.stack([torch.stack(pair) for pair in sums])))
        return sum(total / count for total, count in pairs)


def sum_of_means(terms: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of means, each a sum of losses and what it is divided by, 1 for 0."""
    return torch.stack([total / or_one(count) for total, count in terms]).sum()
