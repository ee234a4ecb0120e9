"""Rows that a callback gathers while a run trains, and loggers show as a table."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning.pytorch as pl

from rnnlab.callbacks.loggers import log_table


class SampleTable(pl.Callback):
    """Base of callbacks that add to `rows` after every epoch; the table `samples` is logged at the end of a run.

    The rows travel in checkpoints, so a resumed run logs the whole table.
    """

    columns: ClassVar[list[str]]
    watches = True  # and changes nothing that is trained: where processes train together, the first has it alone

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        log_table(trainer, "samples", self.columns, self.rows)

    def on_epoch_dropped(self, trainer: pl.Trainer, step: int) -> None:
        """Nothing of it was written."""

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
