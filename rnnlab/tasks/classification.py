"""Training of a classifier: one class a sequence, by cross-entropy. B batch, K classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.confusion import ClassScore, Confusions
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task, monitored

_UNKNOWN = -1  # the class of a sequence that cannot be given
MONITORS = {"accuracy": "max", "macro_f1": "max", "loss": "min"}


class ClassificationTask(Task):
    """Learn the class of each sequence of a data module of `rnnlab.data` with batches `ClassBatch`.

    Logged for 'val/' and 'test/': 'loss' in nats a sequence, each counting alike; 'accuracy'; 'macro_f1', the mean of
    F1 over the classes that occur or were given. 'train/loss' is the mean over the epoch of what is minimised, while
    the weights move. A class that training does not have cannot be given: its sequence counts as wrong, and has no part
    in the loss; 'unknown_classes' is the share of such sequences, left out if there are none.

    Args:
        model: values (T, B, I), lengths (B,) -> scores (B, K), with `num_classes`, as `rnnlab.models.Classifier`.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        class_weights: "balanced": in training a sequence counts N / (K n), N sequences, n of its class, so that rare
            classes count as much as others; None: all alike.
        label_smoothing: share of each target that is spread over all classes in training, in [0, 1).
        monitor: the metric of the validation part that picks the best checkpoint: accuracy, macro_f1 or loss.

    Raises:
        ValueError: an argument is out of range.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
        confusion: for each split measured so far, 'val' or 'test', how often which class was given for which at the
            last measurement, int64 (K, K), a row for each true class that can be given.
    """

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        class_weights: str | None = None,
        label_smoothing: float = 0.0,
        monitor: str = "accuracy",
    ) -> None:
        super().__init__(model, optim, schedule, "loss", "accuracy", "unknown_classes")
        if class_weights not in (None, "balanced"):
            raise ValueError(f"task.class_weights must be balanced or null, got {class_weights!r}")
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise ValueError(f"task.label_smoothing must lie in [0, 1), got {label_smoothing!r}")
        self.class_weights, self.label_smoothing = class_weights, label_smoothing
        self.monitor = monitored(monitor, MONITORS)
        self.confusions = Confusions(model.num_classes)
        self.confusion = self.confusions.tables
        self._weights: Tensor | None = None  # of the classes (K,)

    def on_fit_start(self) -> None:
        if self.class_weights == "balanced":
            counts = self.trainer.datamodule.class_counts()
            self._weights = (counts.sum() / (len(counts) * counts)).to(self.device)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        scores = at_least_float32(self.model(batch.values, batch.lengths))
        weights = None if self._weights is None else self._weights.to(scores.dtype)
        loss = cross_entropy(scores, batch.labels, weights, label_smoothing=self.label_smoothing)
        count = len(batch.labels) if weights is None else weights[batch.labels].sum()
        return self.train_loss.add(self, loss, count)

    def check(self, batch: Any) -> None:
        """Raise ValueError unless the model scores each class of the data."""
        scores = self.model(batch.values, batch.lengths)
        if scores.shape != (len(batch.labels), self.model.num_classes):
            raise ValueError(
                f"the model's scores are {tuple(scores.shape)}, for {len(batch.labels)} sequences and "
                f"{self.model.num_classes} classes"
            )
        if batch.labels.max() >= self.model.num_classes:
            raise ValueError(f"the data have a class {int(batch.labels.max())}, the model {self.model.num_classes}")

    def measure(self, batch: Any, split: str) -> None:
        scores = at_least_float32(self.model(batch.values, batch.lengths))
        is_known, predicted = batch.labels >= 0, scores.argmax(dim=1)
        losses = cross_entropy(scores, batch.labels, ignore_index=_UNKNOWN, reduction="none")
        self.means[split].update(loss=losses[is_known], accuracy=predicted == batch.labels, unknown_classes=~is_known)
        self.confusions.update(split, predicted, batch.labels)

    def report(self, split: str) -> dict[str, Any]:
        values = self.means[split].report()
        values["macro_f1"] = self.confusions.report(split, bool(values["accuracy"].isnan()))
        if not values["unknown_classes"] > 0:
            del values["unknown_classes"]
        return values

    def per_class(self, split: str) -> dict[str, ClassScore]:
        """Return the scores of each class, by its name, at the last measurement of a split.

        Raises:
            ValueError: it was not measured.
        """
        return dict(zip(self.trainer.datamodule.classes, self.confusions.scores(split), strict=True))

    def predict_step(self, batch: Any, batch_index: int = 0) -> Tensor:
        """Return the probability of each class, float32 (B, K)."""
        return self.model(batch.values, batch.lengths).float().softmax(dim=1)
