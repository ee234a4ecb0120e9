"""Training of a generator: the mean squared error of all steps of a sequence."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from rnnlab.data.checks import check_integer
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task


class GenerationTask(Task):
    """Learn to write the sequences of `WaveData`, each from its vector.

    Logged for 'val/' and 'test/': 'mse' over all steps of all sequences. 'train/loss' is the same over an epoch, while
    the weights move.

    Args:
        model: vectors (B, C), and perhaps `num_steps`, -> sequences (B, T), as `rnnlab.models.VectorGenerator`.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        num_steps: of the answers of `predict_step`; None for as many as were trained.

    Raises:
        ValueError: an argument is out of range.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/mse", "min")

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        num_steps: int | None = None,
    ) -> None:
        super().__init__(model, optim, schedule, "mse")
        self.num_steps = None if num_steps is None else check_integer("task.num_steps", num_steps, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        vectors, sequences = batch
        loss = mse_loss(self.model(vectors), sequences)
        return self.train_loss.add(self, loss, sequences.numel())

    def check(self, batch: tuple[Tensor, Tensor]) -> None:
        """Raise ValueError unless the model's sequences have the shape of the right ones."""
        vectors, sequences = batch
        written = self.model(vectors)
        if written.shape != sequences.shape:
            raise ValueError(f"the model writes {tuple(written.shape)}, and the sequences are {tuple(sequences.shape)}")

    def measure(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        vectors, sequences = batch
        self.means[split].update(mse=(self.model(vectors) - sequences).double().square())

    def predict_step(self, batch: tuple[Tensor, ...], batch_index: int = 0) -> Tensor:
        """Return the sequences (B, T) of vectors (B, C), the first in a batch."""
        return self.model(batch[0], num_steps=self.num_steps)
