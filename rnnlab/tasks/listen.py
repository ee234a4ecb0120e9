"""Training of encoders and decoders on sounds: cross-entropy of the next symbol, scored as CTC is.

T frames, B batch, F features, U symbols of a target.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.functional import pad

from rnnlab.data.sound_rows import LongSound, Recording, SoundRows
from rnnlab.decoding import Hypothesis, translate
from rnnlab.decoding.sampling import check_integer, check_number
from rnnlab.decoding.symbols import END, PADDING
from rnnlab.models.listener import SHIFT
from rnnlab.tasks.rates import ErrorRates
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.seq2seq import check_share, symbol_losses
from rnnlab.tasks.task import SearchTask


class Listening(NamedTuple):
    """What `rnnlab.models.Listener` reads of a batch of sounds.

    Attributes:
        source: float32 (B, T, F).
        source_lengths: int64 (B,), frames.
        target: int64 (B, U + 1), symbols, END, then `PADDING`.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor


class ListenTask(SearchTask):
    """Learn to transcribe the sounds of a data module of `rnnlab.data` whose batches are `SoundBatch`, by attention.

    Logged for 'val/' and 'test/': 'loss' in nats a symbol, the end being one; the error rates of `CTCTask`, so that
    both can be compared. 'train/loss' is the mean over the epoch, while the weights move. While a model trains,
    validation takes the likeliest symbol each time.

    Args:
        model: as `rnnlab.models.Listener`.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        label_smoothing: see `rnnlab.tasks.Seq2SeqTask`.
        beam: hypotheses of what is measured at the end, of `rnnlab evaluate` and `predict`.
        length_penalty: see `rnnlab.decoding.search.normalisation`.
        n_best: texts of a sound in `predict_step`, at most `beam`.
        max_length: symbols of a text, at most; None for one each 0.1 seconds of ten frames.

    Raises:
        ValueError: an argument is out of range.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/cer", "min")

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        label_smoothing: float = 0.0,
        beam: int = 4,
        length_penalty: float = 0.0,
        n_best: int = 1,
        max_length: int | None = None,
    ) -> None:
        super().__init__(model, optim, schedule, "loss")
        self.label_smoothing = check_share("label_smoothing", label_smoothing)
        self.set_search(beam, n_best)
        check_number("task.length_penalty", length_penalty)
        if max_length is not None:
            check_integer("task.max_length", max_length, 1)
        self.length_penalty, self.max_length = length_penalty, max_length
        self.rates = ErrorRates()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        heard = listening(batch)
        losses, total = symbol_losses(self.model(heard), heard.target, self.label_smoothing), _count(heard)
        loss = losses.sum() / total
        return self.train_loss.add(self, loss, total)

    def check(self, batch: Any) -> None:
        """Raise ValueError unless the model's logits for a batch are one row for each symbol of the targets."""
        heard = listening(batch)
        logits = self.model(heard)
        if logits.shape[:-1] != heard.target.shape:
            raise ValueError(f"the model's logits are {tuple(logits.shape)}, for targets {tuple(heard.target.shape)}")

    def measure(self, batch: Any, split: str) -> None:
        heard = listening(batch)
        losses = symbol_losses(self.model(heard), heard.target)
        self.means[split].update(loss=losses[heard.target != PADDING])
        if not losses.isfinite().all():  # a model that diverged has no answers
            return
        data: Any = self.trainer.datamodule
        beam = 1 if self.trainer.state.fn == TrainerFn.FITTING else self.beam
        answers = [best[0].ids for best in self.answers(batch, beam, 1)]
        self.rates.update(split, data, answers, data.references(split, batch.rows))

    def report(self, split: str) -> dict[str, Any]:
        data: Any = self.trainer.datamodule
        values: dict[str, Any] = self.means[split].report()
        return values | self.rates.report(split, data.error_names, bool(values["loss"].isnan()))

    def predict_step(self, batch: Any, batch_index: int = 0) -> list[list[Hypothesis]]:
        """Return the `n_best` best texts of each sound, best first."""
        if isinstance(batch, LongSound):  # attention may look at any part of it
            batch = SoundRows([Recording(torch.cat(list(batch.parts())), [])])[0]
        return self.answers(batch, self.beam, self.n_best)

    def answers(self, batch: Any, beam: int, n_best: int) -> list[list[Hypothesis]]:
        """Return the `n_best` best texts of each sound by a search of that width, best first."""
        limits = (batch.lengths // 10 + 2).tolist() if self.max_length is None else self.max_length
        found = translate(
            self.model,
            batch.features.transpose(0, 1),
            batch.lengths,
            max_length=limits,
            beam=beam,
            n_best=n_best,
            length_penalty=self.length_penalty,
        )
        return [[best._replace(ids=[number - SHIFT for number in best.ids]) for best in row] for row in found]


def listening(batch: Any) -> Listening:
    """Return a batch of sounds as `Listener` reads it."""
    places = torch.arange(batch.target.shape[1] + 1, device=batch.target.device)
    target = pad(batch.target + SHIFT, (0, 1))
    target = torch.where(places < batch.target_lengths.unsqueeze(1), target, PADDING)
    target = torch.where(places == batch.target_lengths.unsqueeze(1), END, target)
    return Listening(batch.features.transpose(0, 1), batch.lengths, target)


def _count(heard: Listening) -> Tensor:
    return (heard.target != PADDING).sum()
