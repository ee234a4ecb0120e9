"""Random numbers as a function of (seed, epoch)."""

from __future__ import annotations

import random

import lightning.pytorch as pl
import numpy as np
import torch


def reseed(seed: int, epoch: int = -1, rank: int = 0) -> None:
    """Seed Python, numpy and torch (all devices) for one epoch, or for building when `epoch` is -1, of a process."""
    words = np.random.SeedSequence([seed, epoch + 1, rank]).generate_state(3)  # a last word of 0 changes nothing
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))


class Reseed(pl.Callback):
    """Reseed at the start of every training epoch; processes that train together draw different numbers.

    No generator state has to travel in checkpoints: a resumed run draws what an uninterrupted one would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        reseed(self.seed, trainer.current_epoch, trainer.global_rank)
