"""Pruning while a run trains: prune, retrain, prune more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from rnnlab.callbacks.checkpoint import LastAndBest
from rnnlab.callbacks.console import say
from rnnlab.callbacks.early_stop import EarlyStop
from rnnlab.callbacks.ledger import write_rows
from rnnlab.nn import pruning


class Prune(pl.Callback):
    """Raise the sparsity of the recurrent layers step by step, with training in between (Han et al., 2015).

    Before epoch `start`, `start + every_epochs`, ... (counted from 0) the weights of smallest magnitude are masked
    until the next of `amounts` is reached; `rnnlab.nn.pruning.han_schedule` proposes some. Optimiser and schedule go on
    undisturbed: a rate that has fallen to nearly zero by then retrains nothing.

    From each pruning on, only epochs of its amount compete for the best checkpoint, and early stopping begins anew: the
    final numbers of the run are those of the last amount reached, of its last epoch where none was validated.
    pruning.csv has a row for each amount, 0 among them: epochs trained, sparsity by weight, last and best value of the
    task's `monitor` metric. 'sparsity/total' is logged every epoch, sparsity by weight after each pruning; metrics.json
    has both for the checkpoint that was measured.

    Checkpoints hold plain weights with zeros in them, which load into a model that knows nothing of pruning; the masks
    are in the callback's state. The task's parameters are plain again when training ends.

    Args:
        amounts: shares of zeros, ascending, each above 0 and below 1.
        every_epochs: epochs of retraining at each amount; the last one has what remains of the training.
        start: epochs of training before the first pruning; None for `every_epochs`.
        scope: "layer", the share holds in each weight, or "global", in all of them together.
        names: how the names of the weights to prune begin.

    Raises:
        ValueError: an argument out of range.
    """

    excludes = ("WeightAverage",)  # whose copy of the weights would have to be pruned beside them

    def __init__(
        self,
        amounts: Sequence[float],
        every_epochs: int,
        start: int | None = None,
        scope: str = "layer",
        names: Sequence[str] = pruning.WEIGHTS,
    ) -> None:
        levels = [0.0, *amounts]
        if len(levels) == 1 or levels[-1] >= 1 or any(a >= b for a, b in zip(levels, levels[1:], strict=False)):
            raise ValueError(f"amounts must ascend between 0 and 1, got {list(amounts)}")
        if every_epochs < 1 or (start is not None and start < 0):
            raise ValueError(f"every_epochs must be at least 1 and start at least 0, got {every_epochs} and {start}")
        if scope not in pruning.SCOPES:
            raise ValueError(f"scope must be one of {', '.join(pruning.SCOPES)}, got {scope!r}")
        self.levels, self.every_epochs, self.scope, self.names = levels, every_epochs, scope, tuple(names)
        self.start = every_epochs if start is None else start
        self.rows: list[dict[str, float]] = []  # one for each amount so far
        self.masks: dict[str, Tensor] = {}

    def _amount(self, epoch: int) -> float:
        """Return the sparsity at which an epoch is trained."""
        done = 0 if epoch < self.start else (epoch - self.start) // self.every_epochs + 1
        return self.levels[min(done, len(self.levels) - 1)]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # After the optimiser was made, which has to see the parameters in their usual order when it is restored.
        pruning.set_masks(pl_module, self.masks)
        if trainer.max_epochs not in (None, -1) and self._amount(trainer.max_epochs - 1) != self.levels[-1]:
            reached = self._amount(trainer.max_epochs - 1)
            say(f"note: {trainer.max_epochs} epochs end at a sparsity of {reached:g}, before {self.levels[-1]:g}")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        amount = self._amount(trainer.current_epoch)
        if not self.rows or self.rows[-1]["amount"] != amount:
            self._start_level(trainer, pl_module, amount)
        pl_module.log("sparsity/total", self.rows[-1]["sparsity/total"], on_step=False, on_epoch=True, batch_size=1)

    def _start_level(self, trainer: pl.Trainer, pl_module: pl.LightningModule, amount: float) -> None:
        if self.rows:
            self._report(pl_module)
        found = pruning.magnitude_prune(pl_module, amount, self.names, self.scope) if amount else self._now(pl_module)
        self.masks = {name: mask.cpu() for name, mask in pruning.masks(pl_module).items()}
        by_weight = {f"sparsity/{name}": share for name, share in found.items()}
        self.rows.append({"amount": amount, "epochs": 0, **by_weight})
        for logger in trainer.loggers:
            logger.log_metrics(by_weight, trainer.global_step)
        if amount:
            say(f"pruned to {amount:.1%}: " + ", ".join(f"{name} {share:.1%}" for name, share in found.items()))
        # A metric of the former amount is none of this one's, also where this epoch is not validated.
        trainer.callback_metrics.clear()
        for callback in trainer.callbacks:
            if isinstance(callback, LastAndBest | EarlyStop):
                callback.restart()

    def _now(self, pl_module: pl.LightningModule) -> dict[str, float]:
        return pruning.sparsity(pl_module, self.names)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row, (metric, mode) = self.rows[-1], pl_module.monitor
        row["epochs"] += 1
        if metric in trainer.callback_metrics:
            value = row[metric] = float(trainer.callback_metrics[metric])
            if math.isfinite(value):
                best = row.get(f"{metric}_best", value)
                row[f"{metric}_best"] = max(best, value) if mode == "max" else min(best, value)
        self._write(trainer)

    def on_epoch_dropped(self, trainer: pl.Trainer, step: int) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            write_rows(Path(trainer.default_root_dir) / "pruning.csv", self.rows)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(pl_module)

    def _report(self, pl_module: pl.LightningModule) -> None:
        row, (metric, _) = self.rows[-1], pl_module.monitor
        best = row.get(f"{metric}_best", math.nan)
        value = f"{metric} {row[metric]:.5g}, best {best:.5g}" if metric in row else "not validated"
        say(f"sparsity {row['sparsity/total']:.1%} for {row['epochs']} epochs: {value}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pruning.finish_pruning(pl_module)

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        metrics.update({f"sparsity/{name}": share for name, share in self._now(task).items()})

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["state_dict"] = pruning.plain_state_dict(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "masks": self.masks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.masks = state_dict["rows"], state_dict["masks"]
