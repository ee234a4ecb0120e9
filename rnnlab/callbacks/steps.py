"""What a network that answers at each step got right, by length, and the automaton in its states."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.files import write_text
from rnnlab.callbacks.pictures import has_test
from rnnlab.decoding.sampling import evaluating

if TYPE_CHECKING:
    from rnnlab.analysis.automaton import Automaton

_MOST_STEPS = 20_000  # that an automaton is read out of


class StepReport(pl.Callback):
    """Write lengths.csv, right sequences of the test part by length, and draw figures/automaton.png, of validation.

    lengths.csv has a row for each of the data's `length_bounds`: sequences of so many steps at most and more than in
    the row before, how many were right at each step, and how many there are.

    Args:
        max_states: clusters of states that the automaton is read out of, before those that act alike become one; 0 for
            no automaton.
    """

    def __init__(self, max_states: int = 20) -> None:
        self.max_states = max_states

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        data: Any = trainer.datamodule
        if has_test(metrics):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["length", "right", "total"])
            writer.writerows([bound, *counts] for bound, counts in right_by_length(data, task).items())
            write_text(Path(trainer.default_root_dir) / "lengths.csv", text.getvalue())
        if self.max_states:
            from rnnlab.analysis.automaton import automaton_picture

            machine, states = automaton_of(data, task, self.max_states)
            metrics["automaton/states"] = len(machine.following)
            metrics["automaton/agreement"] = machine.agreement
            title = f"The automaton in the states, validation part ({run_name(trainer)})"
            save_figure(
                trainer, "automaton", automaton_picture(machine, states, data.symbols, data.tags.symbols, title)
            )


def right_by_length(data: Any, task: Any) -> dict[int, tuple[int, int]]:
    """Return for each of `data.length_bounds` how many test sequences up to it are right, and how many there are."""
    counts = {bound: (0, 0) for bound in data.length_bounds}
    with evaluating(task.model), torch.inference_mode():
        for batch in data.test_dataloader():
            batch = type(batch)(*(part.to(task.device) for part in batch))
            is_right = (task.model.decode(batch) == batch.tags) | (batch.tags < 0)
            for length, right in zip(batch.lengths.tolist(), is_right.all(dim=1).tolist(), strict=True):
                bound = min(bound for bound in counts if bound >= length)
                counts[bound] = counts[bound][0] + right, counts[bound][1] + 1
    return counts


def automaton_of(data: Any, task: Any, max_states: int) -> tuple[Automaton, np.ndarray]:
    """Return the automaton in the recurrent layers' outputs on the validation part, and these before each step (N, H).

    The output before the first step of a sequence is taken to be zero, as the state is.
    """
    from rnnlab.analysis.automaton import read_out

    before, symbols, answers, after = [], [], [], []
    found = 0
    with evaluating(task.model), torch.inference_mode():
        for one in range(len(data.splits["val"])):
            batch = data.splits["val"][one]
            batch = type(batch)(*(part.to(task.device) for part in batch))
            states = task.model.rnn(batch.segments)[0][:, 0].cpu().numpy()  # (T, H)
            after.append(states)
            before.append(np.concatenate([np.zeros_like(states[:1]), states[:-1]]))
            symbols.append(data.splits["val"].sequences[one].symbols.astype(np.int64))
            answers.append(task.model.decode(batch)[0].cpu().numpy())
            found += len(states)
            if found > _MOST_STEPS:
                break
    states = np.concatenate(before)
    return read_out(states, *map(np.concatenate, (symbols, answers, after)), max_states), states
