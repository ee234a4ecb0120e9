"""Training of encoders and decoders: cross-entropy of the next symbol, scored by whole answers.

B batch, S source symbols, U target symbols, V symbols of the target vocabulary.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.baselines import score_answer
from rnnlab.data.pair_rows import PairBatch
from rnnlab.decoding import Hypothesis, translate
from rnnlab.decoding.sampling import check_integer, check_number
from rnnlab.decoding.symbols import PADDING
from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import SearchTask
from rnnlab.tasks.union import gathered


class Seq2SeqTask(SearchTask):
    """Learn to answer the sources of a data module of `rnnlab.data` whose batches are `PairBatch`.

    Logged for 'val/' and 'test/', each pair counting as often as its weight says: 'loss' in nats a target symbol, the
    end being one; 'exact_match', the share of answers that are one of the right ones; 'symbol_error', the edits to the
    nearest right answer over its symbols; 'unseen_accuracy', the share of right answers to sources that never occur in
    training, left out where all are such or none is. Where the data's `error_names` says so, the share of wrong answers
    and the symbol error have these two names, as 'wer' and 'per' of pronunciations. 'train/loss' is the mean over the
    epoch, while the weights move.

    While a model trains, validation takes the likeliest symbol each time; `beam` is for what is measured at the end of
    a run, by `rnnlab evaluate`, and for `predict`.

    Args:
        model: with `forward(batch)`, `encode`, `initial_state` and `step` as `rnnlab.models.EncoderDecoder` has them.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        label_smoothing: share of each symbol's probability that is spread over all (Szegedy et al., 2016), in training.
        teacher_forcing: how likely the true symbol is read in training, and not what the model itself expects.
        last_teacher_forcing: the same at the end of training, approached along a straight line; None keeps it.
        beam: hypotheses of the search.
        length_penalty: see `rnnlab.decoding.beam.normalisation`.
        n_best: answers to a source in `predict_step`, at most `beam`.
        max_length: symbols of an answer, at most; None for twice those of the longest source of a batch and 20 more.
            Where the model can write fewer, as many.

    Raises:
        ValueError: an argument is out of range, or the model cannot be trained on symbols of its own.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
        by_length: for each split measured so far, the weight of right answers and of all, by length of the source.
    """

    monitor = ("val/exact_match", "max")

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        label_smoothing: float = 0.0,
        teacher_forcing: float = 1.0,
        last_teacher_forcing: float | None = None,
        beam: int = 1,
        length_penalty: float = 0.0,
        n_best: int = 1,
        max_length: int | None = None,
    ) -> None:
        super().__init__(model, optim, schedule, "loss", "exact_match", "unseen_accuracy", "symbol_error", "unseen")
        self.label_smoothing = check_share("label_smoothing", label_smoothing)
        last = teacher_forcing if last_teacher_forcing is None else last_teacher_forcing
        self.teacher_forcing = (
            check_share("teacher_forcing", teacher_forcing),
            check_share("last_teacher_forcing", last),
        )
        if min(self.teacher_forcing) < 1 and not getattr(model, "reads_own", False):
            raise ValueError(f"task.teacher_forcing below 1 is for recurrent decoders, not for {type(model).__name__}")
        self.set_search(beam, n_best)
        check_number("task.length_penalty", length_penalty)
        if max_length is not None:
            check_integer("task.max_length", max_length, 1)
        self.length_penalty, self.max_length = length_penalty, max_length
        self.by_length: dict[str, dict[int, tuple[float, float]]] = {}
        self._right: Counter[int] = Counter()
        self._all: Counter[int] = Counter()

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        first, last = self.teacher_forcing
        rate = (
            first
            if first == last
            else on_a_line(first, last, self.global_step, self.trainer.estimated_stepping_batches)
        )
        logits = self.model(batch) if rate == 1 else self.model(batch, teacher_forcing=rate)
        losses, count = symbol_losses(logits, batch.target, self.label_smoothing), (batch.target != PADDING).sum(dim=1)
        total = (batch.weight * count).sum()
        loss = (batch.weight * losses.sum(dim=1)).sum() / total
        return self.train_loss.add(self, loss, total)

    def check(self, batch: PairBatch) -> None:
        """Raise ValueError unless the model's logits for a batch are one row for each symbol of the targets."""
        logits = self.model(batch)
        if logits.shape[:-1] != batch.target.shape:
            raise ValueError(f"the model's logits are {tuple(logits.shape)}, for targets {tuple(batch.target.shape)}")

    def measure(self, batch: PairBatch, split: str) -> None:
        losses = symbol_losses(self.model(batch), batch.target)
        weight, is_symbol = batch.weight.double(), batch.target != PADDING
        self.means[split].update(loss=losses[is_symbol], weight=weight.unsqueeze(1).expand_as(losses)[is_symbol])
        if losses.isfinite().all():
            is_right, edits, sizes = self._scores(batch, split)
        else:  # a model that diverged has no answers
            is_right = edits = sizes = torch.full_like(weight, torch.nan)
        means = self.means[split]
        means.update(exact_match=is_right, unseen=batch.unseen, weight=weight)
        means.update(symbol_error=edits / sizes.clamp(min=1), weight=weight * sizes)
        if batch.unseen.any():
            means.update(unseen_accuracy=is_right[batch.unseen], weight=weight[batch.unseen])
        for length, right, share in zip(batch.source_lengths.tolist(), is_right.tolist(), weight.tolist(), strict=True):
            self._right[length] += share * right
            self._all[length] += share

    def _scores(self, batch: PairBatch, split: str) -> tuple[Tensor, ...]:
        """Return whether each answer is right, its edits to the nearest right one and that one's symbols, each (B,)."""
        data: Any = self.trainer.datamodule
        beam = 1 if self.trainer.state.fn == TrainerFn.FITTING else self.beam
        answers = [best[0].ids for best in self.answers(batch, beam, 1)]
        truths = data.references(split, batch.rows)
        scores = [score_answer(answer, right) for answer, right in zip(answers, truths, strict=True)]
        return torch.tensor(scores, dtype=torch.float64, device=self.device).unbind(dim=1)

    def report(self, split: str) -> dict[str, Any]:
        data: Any = self.trainer.datamodule
        values = self.means[split].report()
        if not 0 < values.pop("unseen") < 1:
            values.pop("unseen_accuracy", None)
        if data.error_names:
            of_answers, of_symbols = data.error_names
            values |= {of_answers: 1 - values["exact_match"], of_symbols: values.pop("symbol_error")}
        right, total = (sum(gathered(counts), Counter()) for counts in (self._right, self._all))
        self.by_length[split] = {length: (right[length], total[length]) for length in sorted(total)}
        self._right, self._all = Counter(), Counter()
        return values

    def predict_step(self, batch: PairBatch, batch_index: int = 0) -> list[list[Hypothesis]]:
        """Return the `n_best` best answers to each source, best first."""
        return self.answers(batch, self.beam, self.n_best)

    def answers(self, batch: PairBatch, beam: int, n_best: int) -> list[list[Hypothesis]]:
        """Return the `n_best` best answers to each source by a search of that width, best first."""
        limit = 2 * batch.source.shape[1] + 20 if self.max_length is None else self.max_length
        most = getattr(self.model, "longest_target", None)
        limit = limit if most is None else min(limit, most)
        return translate(
            self.model,
            batch.source,
            batch.source_lengths,
            max_length=limit,
            beam=beam,
            n_best=n_best,
            length_penalty=self.length_penalty,
        )


def on_a_line(first: float, last: float, step: int, num_steps: float) -> float:
    """Return the value at a step, counted from 0, of `num_steps`, on the way from the first to the last."""
    return first + (last - first) * min(1.0, step / max(1.0, num_steps - 1))


def symbol_losses(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each symbol of targets (B, U) in nats, (B, U), zero in padding."""
    losses = cross_entropy(
        at_least_float32(logits).flatten(0, 1),
        target.flatten(),
        ignore_index=PADDING,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.view_as(target)


def check_share(name: str, value: float) -> float:
    """Return a setting of a task as a float, or raise ValueError unless it is a number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"task.{name} must be a number from 0 to 1, got {value!r}")
    return float(value)
