"""Error rates of texts, as tasks of sounds log them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchmetrics.text import CharErrorRate, WordErrorRate

from rnnlab.tasks.union import summed

RATES = {"cer": CharErrorRate, "wer": WordErrorRate, "ler": WordErrorRate}  # ler: of labels written as words


class ErrorRates(nn.Module):
    """Edits of all texts of 'val' and 'test' over their characters, words and symbols: 'cer', 'wer' and 'ler'."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.ModuleDict(
            {split: nn.ModuleDict({name: rate() for name, rate in RATES.items()}) for split in ("val", "test")}
        )

    def update(self, split: str, data: Any, answers: Sequence[list[int]], truths: Sequence[list[int]]) -> None:
        """Add answers, numbers of symbols, and what was right; `data.text` makes texts of them."""
        texts, right = [data.text(ids) for ids in answers], [data.text(ids) for ids in truths]
        for name, rate in self.rates[split].items():
            if name == "ler":
                rate.update(*([" ".join(map(str, ids)) for ids in side] for side in (answers, truths)))
            else:
                rate.update(texts, right)

    def report(self, split: str, names: Sequence[str], has_diverged: bool) -> dict[str, Any]:
        """Return 'cer' and the rates of these names, NaN for a model that diverged, and start anew."""
        values: dict[str, Any] = {}
        for name, rate in self.rates[split].items():
            if name in {"cer", *names}:
                errors, total = summed(torch.stack([rate.errors, rate.total]))
                values[name] = torch.nan if has_diverged else (errors / total).double()
            rate.reset()
        return values
