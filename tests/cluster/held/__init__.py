"""A plugin of the story: a job stands still where the story wants to meet it."""

import time
from pathlib import Path

import lightning.pytorch as pl


class Hold(pl.Callback):
    """From its third epoch on, wait at the end of each as long as a file lies in `folder` that is named after the rate.

    Args:
        folder: of the files.
        rate: `optim.lr` of the job, its name in the story.
    """

    def __init__(self, folder: str, rate: float) -> None:
        self.path = Path(folder) / str(rate)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        while trainer.current_epoch >= 2 and self.path.exists():
            time.sleep(0.05)
