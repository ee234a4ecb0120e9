"""What a trial of a search tells its study while it trains, and when it is given up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import lightning.pytorch as pl

if TYPE_CHECKING:
    import optuna


class Pruned(Exception):
    """The trial is not worth its time: others were better at its epoch."""


class TrialReport(pl.Callback):
    """Report the metric after each epoch that measured it, and end the run if the study's pruner says so.

    An epoch that a resumed run trains again is reported once: it gives the same number.

    Args:
        trial: of the study.
        metric: the one that the search is to better.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric
        self.reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        validated = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        if validated and self.metric not in trainer.callback_metrics:
            raise ValueError(f"search.metric={self.metric} is none of what validation measures, {', '.join(validated)}")
        value = float(trainer.callback_metrics.get(self.metric, math.nan))
        epoch = trainer.current_epoch
        if math.isfinite(value) and epoch not in self.reported:
            self.trial.report(value, epoch)
            if self.trial.should_prune():
                raise Pruned(f"{self.metric} of {value:.5g} after epoch {epoch + 1}")
