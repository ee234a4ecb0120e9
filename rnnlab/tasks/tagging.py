"""Training of a tagger: cross-entropy or a CRF's likelihood, scored over the tokens that have a tag.

B batch, T time, K tags.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.data.batches import IGNORED
from rnnlab.data.sentences import TaggedBatch
from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.confusion import ClassScore, Confusions
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task, monitored

MONITORS = {"accuracy": "max", "sentence_accuracy": "max", "macro_f1": "max", "loss": "min"}
_GROUPS = ("unseen", "homophones")  # fields of a batch: tokens that are scored by themselves, too


class TaggingTask(Task):
    """Learn to tag the sentences of a data module whose batches are `TaggedBatch`, `SegmentBatch` or `StepBatch`.

    Logged for 'val/' and 'test/', all as sums over counts of tokens that have a tag, padding excluded: 'loss' in nats a
    token, with a CRF those of the sentence shared out evenly; 'accuracy'; 'accuracy_unseen', over tokens whose form
    never occurs in train, and 'accuracy_homophones', over words that sound like another one, left out if there are
    none; 'sentence_accuracy', the share of sentences without a wrong tag;
    'macro_f1', the mean of F1 over the tags that occur or were given. 'train/loss' is the mean over the epoch, while
    the weights move. A tag that training does not have cannot be given: its token counts as wrong, and has no part in
    the loss; 'unknown_tags' is the share of such tokens, left out if there are none.

    Args:
        model: batch -> emissions (B, T, K), with `num_tags`, `crf` and `best_tags` as `rnnlab.models.Tagger` has them.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        monitor: the metric of the validation part that picks the best checkpoint: accuracy, sentence_accuracy,
            macro_f1 or loss.

    Raises:
        ValueError: another `monitor`.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
        confusion: for each split measured so far, 'val' or 'test', how often which tag was given for which at the last
            measurement, int64 (K, K), a row for each true tag that can be given.
    """

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        monitor: str = "accuracy",
    ) -> None:
        groups = (f"accuracy_{name}" for name in _GROUPS)
        names = ("loss", "accuracy", *groups, "sentence_accuracy", "unknown_tags")
        super().__init__(model, optim, schedule, *names)
        self.monitor = monitored(monitor, MONITORS)
        self.confusions = Confusions(model.num_tags)
        self.confusion = self.confusions.tables

    def training_step(self, batch: TaggedBatch, batch_index: int) -> Tensor:
        count = (batch.tags >= 0).sum()
        loss = self._losses(self.model(batch), batch).sum() / count.clamp(min=1)  # sentences may be without any tag
        return self.train_loss.add(self, loss, count)

    def check(self, batch: TaggedBatch) -> None:
        """Raise ValueError unless the model scores each tag of the data at each token of a batch."""
        emissions = self.model(batch)
        if emissions.shape != (*batch.tags.shape, self.model.num_tags):
            raise ValueError(
                f"the model's emissions are {tuple(emissions.shape)}, for tokens {tuple(batch.tags.shape)} and "
                f"{self.model.num_tags} tags"
            )
        if batch.tags.max() >= self.model.num_tags:
            raise ValueError(f"the data have a tag {int(batch.tags.max())}, the model {self.model.num_tags} tags")

    def _losses(self, emissions: Tensor, batch: TaggedBatch) -> Tensor:
        """Return the negative log-likelihood of each sentence's tags (B,), in nats."""
        if self.model.crf is not None:
            return self.model.crf.loss(emissions, batch.tags, batch.lengths)
        tags = batch.tags.masked_fill(batch.tags < 0, IGNORED)
        losses = cross_entropy(
            at_least_float32(emissions).flatten(0, 1), tags.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.view_as(batch.tags).sum(dim=1)

    def measure(self, batch: TaggedBatch, split: str) -> None:
        emissions = self.model(batch)
        has_tag, is_known = batch.tags != IGNORED, batch.tags >= 0
        predicted = self.model.best_tags(emissions, batch.lengths)
        is_right = predicted == batch.tags
        shares = self._losses(emissions, batch) / is_known.sum(
            dim=1
        )  # (B,), for each token of the sentence that counts
        means = self.means[split]
        means.update(
            loss=shares.unsqueeze(1).expand_as(is_known)[is_known],
            accuracy=is_right[has_tag],
            sentence_accuracy=(is_right | ~has_tag).all(dim=1)[has_tag.any(dim=1)],
            unknown_tags=~is_known[has_tag],
        )
        for name in _GROUPS:
            if name in batch._fields and (group := getattr(batch, name) & has_tag).any():
                means.update(**{f"accuracy_{name}": is_right[group]})
        self.confusions.update(split, predicted[has_tag], batch.tags[has_tag])

    def report(self, split: str) -> dict[str, Any]:
        values = self.means[split].report()
        values["macro_f1"] = self.confusions.report(split, bool(values["accuracy"].isnan()))
        if not values["unknown_tags"] > 0:
            del values["unknown_tags"]
        return values

    def per_tag(self, split: str) -> dict[str, ClassScore]:
        """Return the scores of each tag, by its name, at the last measurement of a split.

        Raises:
            ValueError: it was not measured.
        """
        return dict(zip(self.trainer.datamodule.tags, self.confusions.scores(split), strict=True))

    def predict_step(self, batch: TaggedBatch, batch_index: int = 0) -> Tensor:
        """Return the best tags, int64 (B, T); what stands in padding is of no meaning."""
        return self.model.decode(batch)
