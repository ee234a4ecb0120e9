"""Training of a character language model: cross-entropy, scored in nats and bits over every character of a part."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.data import Window
from rnnlab.data.checks import check_integer
from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.carry import Carry, WindowedTask, read_window
from rnnlab.tasks.dynamic import check_rates, evaluate_dynamically
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.union import gathered


class CharLMTask(WindowedTask):
    """Learn to predict the characters of `TextData`, in windows whose state is carried from one to the next.

    Logged for 'val/' and 'test/': 'loss' in nats and 'bits' in bits per character, and 'perplexity', the
    number of equally likely characters that would cost as much. All come from a sum over all characters of the part,
    divided by their number, and each character is predicted in the state that those before it left. 'train/loss' is
    the mean over the epoch, while the weights move. Of labelled texts, a model measured outside its training has
    'bits/LABEL' too, of the texts of each label.

    Args:
        model: ids (B, W) and a state -> logits (B, W, V) and a state, as `rnnlab.models.CharLM` does.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        dynamic_lr: rate of dynamic evaluation, 'val/bits_dynamic', done whenever a model is measured outside its
            training: for the final numbers of a run, and by `rnnlab evaluate`. None: not done.
        dynamic_decay: how fast it forgets, see `evaluate_dynamically`.
        dynamic_steps: steps of its windows.

    Raises:
        ValueError: a setting of dynamic evaluation is out of range.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        dynamic_lr: float | None = None,
        dynamic_decay: float = 0.0,
        dynamic_steps: int = 20,
    ) -> None:
        super().__init__(model, optim, schedule, "loss")
        if dynamic_lr is not None:
            check_rates(dynamic_lr, dynamic_decay)
        self.dynamic_lr, self.dynamic_decay = dynamic_lr, dynamic_decay
        self.dynamic_steps = check_integer("task.dynamic_steps", dynamic_steps, 1)
        self.evaluation_carry = Carry()
        self._by_label: dict[str, Tensor] = {}  # nats and characters of each label so far, (2, K), by split

    def training_step(self, batch: Window, batch_index: int) -> Tensor:
        loss = _nats(read_window(self.model, batch, self.carry), batch.targets, reduction="mean")
        return self.train_loss.add(self, loss, (batch.targets >= 0).sum())

    def check(self, batch: Window) -> None:
        """Raise ValueError unless the model gives logits for each character of a window."""
        logits = read_window(self.model, batch, Carry())
        if logits.shape[:2] != batch.targets.shape:
            raise ValueError(
                f"the model's logits are {tuple(logits.shape)} and the characters {tuple(batch.targets.shape)}"
            )

    def measure(self, batch: Window, split: str) -> None:
        nats = _nats(read_window(self.model, batch, self.evaluation_carry), batch.targets, reduction="none")
        scored = batch.targets.flatten() >= 0
        self.means[split].update(loss=nats[scored])
        if batch.labels is not None and self.trainer.state.fn != "fit":
            labels, size = batch.labels.flatten()[scored].cpu(), self.model.num_labels
            sums = torch.bincount(labels, nats[scored].double().cpu(), size), torch.bincount(labels, minlength=size)
            self._by_label[split] = self._by_label.get(split, 0) + torch.stack(sums)

    def predict_step(self, batch: Window, batch_index: int = 0) -> Tensor:
        """Return how likely each label is for texts, float64 (B, K), all of them being as likely beforehand.

        That is Bayes' rule: a text is the more of a label, the better a model that is told the label expects it.

        Raises:
            ValueError: the model is told none.
        """
        if self.model.condition is None:
            raise ValueError("a model with model.condition=null knows no labels, which is what is asked for")
        rows, device = len(batch.inputs), batch.inputs.device
        nats = [
            _nats(self.model.of(torch.tensor([label], device=device))(batch.inputs), batch.targets, reduction="none")
            for label in range(self.model.num_labels)
        ]
        return torch.stack([-each.double().view(rows, -1).sum(1) for each in nats], dim=1).softmax(1)

    def report(self, split: str) -> dict[str, Any]:
        loss = self.means[split].report()["loss"]
        values = {"loss": loss, "bits": loss / math.log(2), "perplexity": loss.exp()}
        found = [sums for sums in gathered(self._by_label.pop(split, None)) if sums is not None]
        if found:
            named = zip(self.trainer.datamodule.labels, *sum(found), strict=True)
            values |= {f"bits/{label}": nats / count / math.log(2) for label, nats, count in named if count}
        if self.dynamic_lr is not None and self.trainer.state.fn != "fit":
            nats = torch.tensor(self._dynamic_nats(split), dtype=torch.float64)
            values |= {"bits_dynamic": nats / math.log(2), "perplexity_dynamic": nats.exp()}
        return values

    def _dynamic_nats(self, split: str) -> float:
        """Return the nats per character of a copy of the model that goes on learning from the part it is scored on."""
        data = self.trainer.datamodule
        with torch.inference_mode(False), torch.enable_grad():
            return evaluate_dynamically(
                copy.deepcopy(self.model),
                data.windows(split, self.dynamic_steps),
                data.windows("train", data.tbptt_steps),
                lr=self.dynamic_lr,
                decay=self.dynamic_decay,
            )


def _nats(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Return the cross-entropy of logits (B, W, V) and targets (B, W), whose negative ones are left out."""
    return cross_entropy(at_least_float32(logits).flatten(0, 1), targets.flatten(), reduction=reduction)
