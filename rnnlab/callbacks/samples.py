"""A look at single answers after every epoch, as in the original addition example."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.console import can_print, say
from rnnlab.callbacks.table import SampleTable

_MARKS, _PLAIN_MARKS = {True: "☑", False: "☒"}, {True: "+", False: "-"}
_COLOURS = {True: "green", False: "red"}


class MarkedSamples(SampleTable):
    """Base of callbacks that print some rows of validation after every epoch, a green or red mark beside each.

    The rows change from epoch to epoch, as a function of the epoch alone, and are kept for a W&B table.

    Args:
        num_samples: rows an epoch.
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = num_samples

    def choose(self, trainer: pl.Trainer, num_rows: int) -> list[int]:
        """Return the numbers of this epoch's rows, none where the model diverged: it has no answers."""
        if not math.isfinite(trainer.callback_metrics.get("val/loss", 0.0)):
            return []
        count = min(self.num_samples, num_rows)
        return np.random.default_rng(trainer.current_epoch).choice(num_rows, count, replace=False).tolist()

    @staticmethod
    def marked(is_correct: bool, text: str) -> str:
        """Return the markup of a mark in its colour, and a text behind it."""
        marks = _MARKS if can_print("".join(_MARKS.values())) else _PLAIN_MARKS
        return f"[{_COLOURS[is_correct]}]{marks[is_correct]}[/{_COLOURS[is_correct]}] {text}"


class Samples(MarkedSamples):
    """Print validation questions with their answers, see `MarkedSamples`.

    Args:
        num_samples: questions an epoch.
    """

    columns = ["epoch", "question", "answer", "prediction", "is_correct"]

    def __init__(self, num_samples: int = 10) -> None:
        super().__init__(num_samples)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule
        questions, answers = data.splits["val"]
        chosen = torch.tensor(self.choose(trainer, len(questions)), dtype=torch.int64)
        if not len(chosen):
            return
        pl_module.eval()
        with torch.inference_mode():
            logits = pl_module.model(questions[chosen].to(pl_module.device))  # (B, digits+1, V)
        pl_module.train()
        for question_ids, answer_ids, predicted_ids in zip(
            questions[chosen], answers[chosen], logits.argmax(-1).cpu(), strict=True
        ):
            question, answer = data.question_text(question_ids), data.answer_text(answer_ids)
            predicted = data.answer_text(predicted_ids)
            is_correct = predicted == answer
            told = f"Q {question:<{data.question_length}} T {answer:<{data.answer_length}}"
            say(f"    {told} {self.marked(is_correct, predicted)}")
            self.rows.append([trainer.current_epoch, question, answer, predicted, is_correct])
