"""A look at single answers after every epoch, as in the original addition example."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.console import can_print, say
from rnnlab.callbacks.table import SampleTable

MARKS, PLAIN_MARKS = {True: "☑", False: "☒"}, {True: "+", False: "-"}


class Samples(SampleTable):
    """Print validation questions with their answers, a green or red mark beside each; keep them for a W&B table.

    The questions change from epoch to epoch, as a function of the epoch alone. The rows travel in checkpoints, so a
    resumed run logs the whole table.

    Args:
        num_samples: questions an epoch.
    """

    columns = ["epoch", "question", "answer", "prediction", "is_correct"]

    def __init__(self, num_samples: int = 10) -> None:
        super().__init__()
        self.num_samples = num_samples

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule
        questions, answers = data.splits["val"]
        epoch = trainer.current_epoch
        count = min(self.num_samples, len(questions))
        chosen = torch.from_numpy(np.random.default_rng(epoch).choice(len(questions), count, replace=False))
        pl_module.eval()
        with torch.inference_mode():
            logits = pl_module.model(questions[chosen].to(pl_module.device))  # (B, digits+1, V)
        pl_module.train()
        marks = MARKS if can_print("".join(MARKS.values())) else PLAIN_MARKS
        for question_ids, answer_ids, predicted_ids in zip(
            questions[chosen], answers[chosen], logits.argmax(-1).cpu(), strict=True
        ):
            question, answer = data.question_text(question_ids), data.answer_text(answer_ids)
            predicted = data.answer_text(predicted_ids)
            is_correct = predicted == answer
            colour = "green" if is_correct else "red"
            mark = f"[{colour}]{marks[is_correct]}[/{colour}]"
            say(f"    Q {question:<{data.question_length}} T {answer:<{data.answer_length}} {mark} {predicted}")
            self.rows.append([epoch, question, answer, predicted, is_correct])
