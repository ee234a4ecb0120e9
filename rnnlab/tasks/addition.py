"""Training of an adder: cross-entropy per character, scored by whole answers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task


class AdditionTask(Task):
    """Learn to answer questions of `AdditionData`.

    Logged for 'val/' and 'test/', all as sums over counts: 'loss' in nats per character; 'exact_match', the share of
    answers without any wrong character; 'char_accuracy', the share of right characters. The latter counts the padding
    at the end of answers, as the Keras example did, and is therefore the higher number. 'train/loss' is the mean over
    the epoch, while the weights move.

    Args:
        model: question ids (B, T) -> logits (B, A, V).
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/exact_match", "max")

    def __init__(self, model: nn.Module, optim: OptimiserFactory, schedule: ScheduleFactory | None = None) -> None:
        super().__init__(model, optim, schedule, "loss", "exact_match", "char_accuracy")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        questions, answers = batch
        loss = _loss(self.model(questions), answers)
        return self.train_loss.add(self, loss, len(questions))

    def check(self, batch: tuple[Tensor, Tensor]) -> None:
        """Raise ValueError unless the model's logits for a batch are one row for each character of the answers."""
        questions, answers = batch
        logits = self.model(questions)
        if logits.shape[:-1] != answers.shape:
            raise ValueError(f"the model answers {tuple(logits.shape)} and the answers are {tuple(answers.shape)}")

    def measure(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        questions, answers = batch
        logits = self.model(questions)
        is_right = logits.argmax(dim=-1) == answers  # (B, A)
        self.means[split].update(
            loss=_loss(logits, answers, reduction="none"), exact_match=is_right.all(dim=1), char_accuracy=is_right
        )

    def predict_step(self, batch: tuple[Tensor, ...] | Tensor, batch_index: int = 0) -> Tensor:
        """Return the most likely answer, ids int64 (B, A), of question ids (B, T), alone or first in a batch."""
        questions = batch if isinstance(batch, Tensor) else batch[0]
        return self.model(questions).argmax(dim=-1)


def _loss(logits: Tensor, answers: Tensor, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy in nats per character of logits (B, A, V) and answers (B, A)."""
    return cross_entropy(logits.flatten(0, 1), answers.flatten(), reduction=reduction)
