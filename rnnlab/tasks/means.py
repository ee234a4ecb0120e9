"""Means over everything a validation or test run has seen: sums over counts, never means of batch means."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torchmetrics import SumMetric


class Means(nn.Module):
    """Named means over all elements given since the last report, in float64; sums travel between processes.

    A NaN makes its mean NaN, and one in 'loss' all of them: a model that diverged must not be scored by the examples it
    still answers, nor by those whose likeliest answer is the first of many that are not a number.

    Args:
        names: the values that may be given.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.totals, self.counts = (
            nn.ModuleDict({name: SumMetric(nan_strategy="disable").set_dtype(torch.float64) for name in names})
            for _ in range(2)
        )

    def update(self, weight: Tensor | float = 1.0, **values: Tensor) -> None:
        """Add every element of the given tensors, each of any shape, to the mean of its name.

        Each counts as often as the element of `weight` in its place, or all alike.
        """
        # Not MeanMetric: without its search for NaN, torchmetrics 1.9 takes all weights for one.
        for name, value in values.items():
            weights = torch.as_tensor(weight, dtype=torch.float64, device=value.device).expand(value.shape)
            self.totals[name].update((value * weights).sum())
            self.counts[name].update(weights.sum())

    def report(self) -> dict[str, Tensor]:
        """Return the means of the names that were given anything, and start anew."""
        totals = {name: metric.compute() for name, metric in self.totals.items() if metric.update_called}
        if "loss" in totals and totals["loss"].isnan():
            totals = {name: torch.full_like(total, torch.nan) for name, total in totals.items()}
        result = {name: total / self.counts[name].compute() for name, total in totals.items()}
        for metric in (*self.totals.values(), *self.counts.values()):
            metric.reset()
        return result


class EpochLoss:
    """The mean training loss and the rate of an epoch, logged once: at each step that costs a tenth of a small one."""

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0
        self._count: Tensor | int = 0

    def add(self, task: pl.LightningModule, loss: Tensor, count: Tensor | int) -> None:
        """Add the mean `loss` of `count` items; with the last batch of the epoch, log 'train/loss' and start anew.

        'train/lr', logged beside it, is the rate of the epoch's last update, that of the first group of parameters.

        A count that lies on a GPU is not looked at.
        """
        self._total = self._total + loss.detach() * count
        self._count = self._count + count
        if task.trainer.is_last_batch:
            rate = torch.tensor(float(task.trainer.optimizers[0].param_groups[0]["lr"]), dtype=torch.float64)
            values = {"train/loss": self._total / self._count, "train/lr": rate}
            task.log_dict(values, on_step=False, on_epoch=True, batch_size=1)
            self._total, self._count = 0.0, 0
