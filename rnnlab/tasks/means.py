"""Means over everything a validation or test run has seen: sums over counts, never means of batch means."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric


class Means(nn.Module):
    """Named means over all elements given since the last report, in float64; sums travel between processes.

    Args:
        names: the values that may be given.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict({name: MeanMetric().set_dtype(torch.float64) for name in names})

    def update(self, **values: Tensor) -> None:
        """Add every element of the given tensors, each of any shape, to the mean of its name."""
        for name, value in values.items():
            self.metrics[name].update(value.double())

    def report(self) -> dict[str, Tensor]:
        """Return the means of the names that were given anything, and start anew."""
        result = {name: metric.compute() for name, metric in self.metrics.items() if metric.update_called}
        for metric in self.metrics.values():
            metric.reset()
        return result
