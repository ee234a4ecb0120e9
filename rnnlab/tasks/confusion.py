"""Which class is taken for which, counted over validation and test. K classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from rnnlab.tasks.union import summed


class ClassScore(NamedTuple):
    """How well one class is found; NaN where the number of items to divide by is 0."""

    precision: float
    recall: float
    f1: float
    support: int


class Confusions(nn.Module):
    """Counts of 'val' and 'test': those of the running measurement, and those of the last one that was reported.

    Args:
        num_classes: K.

    Attributes:
        tables: for each split reported so far, how often which class was given for which, int64 (K, K), a row for each
            true class that can be given.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.counts = nn.ModuleDict(
            {split: MulticlassConfusionMatrix(num_classes + 1, validate_args=False) for split in ("val", "test")}
        )
        self.tables: dict[str, Tensor] = {}
        self._astray: dict[str, Tensor] = {}  # how often each class was given for an unknown one, int64 (K,)

    def update(self, split: str, predicted: Tensor, true: Tensor) -> None:
        """Count items of a split, each tensor int64 (N,); a true class below 0 is one that cannot be given."""
        true = true.where(true >= 0, self.num_classes)  # the last row is of unknown classes
        self.counts[split].update(predicted, true)

    def report(self, split: str, has_diverged: bool) -> Tensor:
        """Return the mean of F1 over the classes that occur or were given, float64 (), and start anew.

        A model that diverged gives no class: nothing is counted, and the mean is NaN.
        """
        counts = summed(self.counts[split].confmat).cpu() * (not has_diverged)
        self.counts[split].reset()
        self.tables[split], self._astray[split] = counts[:-1, :-1], counts[-1, :-1]
        return torch.tensor([score.f1 for score in self.scores(split)], dtype=torch.float64).nanmean()

    def scores(self, split: str) -> list[ClassScore]:
        """Return the scores of each class at the last report; one given for an unknown one was given wrongly.

        Raises:
            ValueError: the split was not measured.
        """
        if split not in self.tables:
            raise ValueError(f"{split!r} was not measured; measured: {', '.join(self.tables) or 'nothing'}")
        table = self.tables[split]
        right, true = table.diag().double(), table.sum(dim=1)
        predicted = table.sum(dim=0) + self._astray.get(split, 0)
        rates = torch.stack([right / predicted, right / true, 2 * right / (true + predicted)], dim=1)  # 0/0 is NaN
        return [ClassScore(*rate, support) for rate, support in zip(rates.tolist(), true.tolist(), strict=True)]
