"""Training of transcribers: symbols in the order of the frames, but not in step with them (Graves et al., 2006).

T frames, B batch, F features, U symbols of a target, V classes, the blank being number 0. A model may read several
frames in one step: what it needs as many steps for are the symbols of a target, and a blank between any two like ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, nll_loss

from rnnlab.data.sound_rows import LongSound
from rnnlab.decoding.alignment import BLANK, align, check_fits, check_targets
from rnnlab.decoding.ctc import Transcript, best_path, best_path_in_parts, prefix_beam, prefix_beam_in_parts
from rnnlab.decoding.following import follow_text
from rnnlab.decoding.language_model import LanguageModel
from rnnlab.decoding.listening import OVERLAP, WINDOW, Span, is_onwards, logits_in_parts, spans_of
from rnnlab.decoding.prefixes import Text
from rnnlab.decoding.sampling import check_number
from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.rates import ErrorRates
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import SearchTask
from rnnlab.tasks.union import is_borrowed, summed

LOSSES = ("ctc", "viterbi")
_MIN_PROB = 1e-3  # of a class that the language model is asked about: it is asked once for each prefix and class
_IGNORED = -100  # the class of a step in padding


class CTCTask(SearchTask):
    """Learn to transcribe the sounds of a data module of `rnnlab.data` whose batches are `SoundBatch`.

    `loss='ctc'` minimises the negative log-likelihood of targets, the sum over all their alignments. `loss='viterbi'`
    takes the best alignment alone: each batch is aligned anew with the network as it is, and the network then trained
    on the class of each frame, by turns, as the classical training of hidden Markov models goes.

    Logged for 'val/' and 'test/': 'loss' in nats a symbol, over all alignments whatever is minimised; 'cer', the edits
    of all texts over their characters; 'wer', over their words; and where the data's `error_names` has 'ler', over
    their symbols. Those that `error_names` leaves out are not logged, but for 'cer', which picks the best checkpoint.
    'train/loss' is the mean over the epoch of what is minimised, in nats a symbol, while the weights move. Rows whose
    loss is infinite are left out of it and of its gradient: 'train/infinite', 'val/infinite' and 'test/infinite' count
    them.

    While a model trains, validation takes the likeliest class of each frame; `beam` is for what is measured at the end
    of a run, by `rnnlab evaluate`, and for `predict`.

    Args:
        model: features (T, B, F), lengths (B,) -> logits (T', B, V), steps (B,), as `rnnlab.models.Transcriber`.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        loss: 'ctc' or 'viterbi'.
        beam: prefixes of the search; 1 for the best path, without a search.
        n_best: texts of a sound in `predict_step`, at most `beam`.
        insertion_bonus, lm_weight: see `rnnlab.decoding.ctc.prefix_beam`.
        language_model: asked by searches; None for none.

    Raises:
        ValueError: an argument is out of range; in training, a target that cannot fit into its steps.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/cer", "min")

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        loss: str = "ctc",
        beam: int = 16,
        n_best: int = 1,
        insertion_bonus: float = 0.0,
        language_model: LanguageModel | None = None,
        lm_weight: float = 0.5,
    ) -> None:
        super().__init__(model, optim, schedule, "loss")
        if loss not in LOSSES:
            raise ValueError(f"task.loss must be {' or '.join(LOSSES)}, got {loss!r}")
        check_number("task.insertion_bonus", insertion_bonus)
        check_number("task.lm_weight", lm_weight)
        self.loss, self.insertion_bonus = loss, insertion_bonus
        self.language_model, self.lm_weight = language_model, lm_weight
        self.set_search(beam, n_best)
        self.rates = ErrorRates()
        self._infinite = self._measured_infinite = (
            0  # rows of training since the epoch began, and of the running measurement
        )

    def only_by_search(self) -> list[str]:
        given = {
            "task.language_model": self.language_model is not None,
            "task.insertion_bonus": self.insertion_bonus > 0,
        }
        return [name for name, is_given in given.items() if is_given]

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        logits, steps = self.model(batch.features, batch.lengths)
        check_fit(steps, batch)
        losses = losses_of(self.loss, logits, steps, batch.target, batch.target_lengths)
        finite = losses != torch.inf
        total = batch.target_lengths[finite].sum()
        loss = losses[finite].sum() / total.clamp(min=1)
        if not is_borrowed(self):
            self._infinite += int((~finite).sum())
        if self.trainer.is_last_batch:
            infinite = summed(torch.tensor(float(self._infinite)))
            self.log("train/infinite", infinite, on_step=False, on_epoch=True, batch_size=1)
            self._infinite = 0
        return self.train_loss.add(self, loss, total)

    def check(self, batch: Any) -> None:
        """Raise ValueError unless the model scores each class of the data, often enough for the targets of a batch."""
        logits, steps = self.model(batch.features, batch.lengths)
        num_classes = logits.shape[-1]
        if logits.shape != (int(steps.max()), len(batch.lengths), num_classes):
            raise ValueError(f"the model's logits are {tuple(logits.shape)}, for steps {steps.tolist()}")
        check_targets(num_classes, batch.target, batch.target_lengths)
        check_fit(steps, batch)

    def measure(self, batch: Any, split: str) -> None:
        logits, steps = self.model(batch.features, batch.lengths)
        losses = losses_of("ctc", logits, steps, batch.target, batch.target_lengths)
        finite, count = losses != torch.inf, batch.target_lengths.double()
        self.means[split].update(loss=(losses.double() / count.clamp(min=1))[finite], weight=count[finite])
        self._measured_infinite += int((~finite).sum())
        if losses.isnan().any():  # a model that diverged has no answers
            return
        data: Any = self.trainer.datamodule
        beam = 1 if self.trainer.state.fn == TrainerFn.FITTING else self.beam
        answers = [best[0].ids for best in self.search(logits, steps, beam, 1)]
        self.rates.update(split, data, answers, data.references(split, batch.rows))

    def report(self, split: str) -> dict[str, Any]:
        data: Any = self.trainer.datamodule
        values: dict[str, Any] = self.means[split].report()
        values |= self.rates.report(split, data.error_names, bool(values["loss"].isnan()))
        infinite, self._measured_infinite = summed(torch.tensor(float(self._measured_infinite))), 0
        if infinite:
            values["infinite"] = infinite
        return values

    def predict_step(self, batch: Any, batch_index: int = 0) -> list[Sequence[Transcript | Text]]:
        """Return the `n_best` best transcripts of each sound, best first, those of a long sound without frames."""
        if isinstance(batch, LongSound):
            return [self._texts(batch)]
        return list(self.answers(batch, self.beam, self.n_best))

    def answers(self, batch: Any, beam: int, n_best: int) -> list[list[Transcript]]:
        """Return the `n_best` best transcripts of each sound by a search of that width, best first."""
        return self.search(*self.model(batch.features, batch.lengths), beam, n_best)

    def search(self, logits: Tensor, steps: Tensor, beam: int, n_best: int) -> list[list[Transcript]]:
        """Return the `n_best` best transcripts of logits (T', B, V) with so many steps (B,), best first."""
        if beam == 1:
            return [[transcript] for transcript in best_path(logits, steps)]
        return prefix_beam(logits, steps, **self._options(beam, n_best))

    def _options(self, beam: int, n_best: int) -> dict[str, Any]:
        return {
            "beam": beam,
            "n_best": n_best,
            "language_model": self.language_model,
            "lm_weight": self.lm_weight,
            "insertion_bonus": self.insertion_bonus,
            "min_prob": 0.0 if self.language_model is None else _MIN_PROB,
        }

    def timed_step(self, batch: Any) -> tuple[list[Sequence[Transcript | Text]], list[list[Span]]]:
        """Return what `predict_step` does, and where each symbol of the best texts was heard."""
        if isinstance(batch, LongSound):
            found, steps = self._texts(batch), int(self.model.output_lengths(torch.tensor(batch.num_frames)))
            classes = follow_text(self._logits(batch), steps, found[0].ids)
            return [found], [spans_of(chain.from_iterable(classes), self.model.stack)]
        logits, steps = self.model(batch.features, batch.lengths)
        found = self.search(logits, steps, self.beam, self.n_best)
        return list(found), self.spans(logits, steps, [best[0].ids for best in found])

    def notes_on(self, queries: Any) -> list[str]:
        """Return what a user should be told of how queries will be read: a network both ways must cut long sounds."""
        sounds = getattr(queries.inputs, "long_sounds", list)()
        if not sounds or is_onwards(self.model):
            return []
        return [
            f"{sound.name}: is read in windows of {WINDOW} frames, {OVERLAP} of them shared with the next one: of "
            f"{sound.num_frames} frames a network that does not go onwards alone cannot have all"
            for sound in sounds
        ]

    def _texts(self, sound: LongSound) -> Sequence[Transcript | Text]:
        if self.beam == 1:
            return [best_path_in_parts(self._logits(sound))]
        return prefix_beam_in_parts(self._logits(sound), **self._options(self.beam, self.n_best))

    def _logits(self, sound: LongSound) -> Iterator[Tensor]:
        return logits_in_parts(self.model, sound.parts())

    def spans(self, logits: Tensor, steps: Tensor, texts: list[list[int]]) -> list[list[Span]]:
        """Return the frames of each symbol on the best alignment of B texts with logits (T', B, V).

        A transcriber says most symbols in a frame or two and is blank in between: what is found is when it is sure of
        a symbol, not how long that sounds.
        """
        classes = self.aligned(logits, steps, texts).t().tolist()
        return [spans_of(row[:count], self.model.stack) for row, count in zip(classes, steps.tolist(), strict=True)]

    def aligned(self, logits: Tensor, steps: Tensor, texts: list[list[int]]) -> Tensor:
        """Return the class of each step on the best alignment of B texts, int64 (T', B); the blank in padding."""
        lengths = torch.tensor([len(ids) for ids in texts], device=steps.device)
        target = torch.full((len(texts), max(1, int(lengths.max()))), BLANK, device=steps.device)
        for row, ids in enumerate(texts):
            target[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return align(logits.float().log_softmax(-1), steps, target, lengths)


def losses_of(kind: str, logits: Tensor, steps: Tensor, target: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the loss of each row in nats, float32 (B,); infinity where no alignment is possible.

    An infinite loss has no gradient, neither to its own row nor to others.

    Args:
        kind: 'ctc', of all alignments, or 'viterbi', of the best one.
        logits: (T', B, V).
        steps: int64 (B,), of each row.
        target: int64 (B, U), zero in padding.
        target_lengths: int64 (B,).
    """
    log_probs = at_least_float32(logits).log_softmax(-1)
    if kind == "viterbi":
        return _alignment_losses(log_probs, steps, target, target_lengths)
    arguments = (target, steps, target_lengths, BLANK, "none")
    losses = ctc_loss(log_probs, *arguments)
    infinite = losses.detach() == torch.inf
    if infinite.any():  # the gradient of such a row is NaN, were it multiplied by zero
        losses = ctc_loss(log_probs, *arguments, zero_infinity=True).masked_fill(infinite, torch.inf)
    return losses


def _alignment_losses(log_probs: Tensor, steps: Tensor, target: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the negative log-probability of the best alignment of each row, (B,)."""
    classes = align(log_probs.detach(), steps, target, target_lengths)  # (T', B)
    beyond = torch.arange(len(classes), device=steps.device).unsqueeze(1) >= steps
    classes = classes.masked_fill(beyond, _IGNORED)
    losses = nll_loss(log_probs.flatten(0, 1), classes.flatten(), ignore_index=_IGNORED, reduction="none")
    return losses.view_as(classes).sum(dim=0)


def check_fit(steps: Tensor, batch: Any) -> None:
    """Raise ValueError, naming the row, if a target of a batch needs more steps than there are (B,)."""
    sounds = zip(batch.rows.tolist(), batch.lengths.tolist(), strict=True)
    names = [f"row {row}, {frames} frames of sound in steps of model.stack" for row, frames in sounds]
    check_fits(steps, batch.target, batch.target_lengths, names)
