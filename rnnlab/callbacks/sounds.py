"""What a model makes of sounds: single texts after every epoch, and what it expected over time at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rnnlab.callbacks.console import say
from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.samples import MarkedSamples
from rnnlab.decoding.alignment import needed_frames
from rnnlab.decoding.sampling import evaluating

if TYPE_CHECKING:
    from rnnlab.analysis.posteriors import Posterior


class SoundSamples(MarkedSamples):
    """Print what validation sounds are taken for, see `MarkedSamples`.

    Args:
        num_samples: sounds an epoch.
    """

    columns = ["epoch", "seconds", "answer", "prediction", "is_correct"]

    def __init__(self, num_samples: int = 6) -> None:
        super().__init__(num_samples)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from rich.markup import escape

        data: Any = trainer.datamodule
        task, part = pl_module, data.splits["val"]
        rows = self.choose(trainer, len(part))
        if not rows:
            return
        batch = _on(part[rows], task.device)
        with evaluating(task.model), torch.inference_mode():
            found = task.answers(batch, beam=1, n_best=1)
        for best, right, length in zip(found, data.references("val", rows), batch.lengths.tolist(), strict=True):
            answer, truth, seconds = data.text(best[0].ids), data.text(right), length * data.frame_seconds
            is_correct = answer == truth
            told = answer if is_correct else f"{answer}   right: {truth}"
            say(f"    {seconds:5.1f} s  {self.marked(is_correct, escape(told))}")
            self.rows.append([trainer.current_epoch, round(seconds, 2), truth, answer, is_correct])


class Posteriors(pl.Callback):
    """Draw figures/posteriors.png: what the model expects over time, best path beside search, and the alignment.

    Args:
        num_sounds: validation sounds in the picture, chosen evenly by length from the shorter half.
    """

    def __init__(self, num_sounds: int = 4) -> None:
        self.num_sounds = num_sounds

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.posteriors import posteriors

        data: Any = trainer.datamodule
        title = f"Posteriors over time, validation part ({run_name(trainer)})"
        save_figure(trainer, "posteriors", posteriors(heard(data, task, self.num_sounds), list(data.symbols), title))


def heard(data: Any, task: Any, num_sounds: int, queries: Any = None) -> list[Posterior]:
    """Return what a model expects over time of some sounds.

    Args:
        data: a module of sounds, set up unless there are queries.
        task: whose model listens, with its own beam.
        num_sounds: the first ones of the queries or, without, of the validation part, spread evenly over its shorter
            half, in which single steps can be told apart.
        queries: of `data.read_queries`.
    """
    if queries is not None:
        found: list[Posterior] = []
        for batch in data.query_batches(queries):  # the longest come last
            if len(found) >= num_sounds:
                break
            if hasattr(batch, "parts"):
                if not found:
                    raise ValueError(f"{batch.name}: has {batch.num_frames} frames, too many to be told apart")
                break
            found += _posteriors(data, task, batch, None)
        return found[:num_sounds]
    part = data.splits["val"]
    order = np.argsort(np.asarray(part.lengths), kind="stable")
    places = np.linspace(0, (len(order) - 1) // 2, min(num_sounds, len(order))).astype(int)
    rows = [int(order[place]) for place in dict.fromkeys(places.tolist())]
    return _posteriors(data, task, part[rows], data.references("val", rows))


def _posteriors(data: Any, task: Any, batch: Any, truths: Sequence[list[int]] | None) -> list[Posterior]:
    from rnnlab.analysis.posteriors import Posterior

    batch = _on(batch, task.device)
    with evaluating(task.model), torch.inference_mode():
        logits, steps = task.model(batch.features, batch.lengths)
        paths = [best[0] for best in task.search(logits, steps, 1, 1)]
        texts = [best[0].ids for best in task.search(logits, steps, task.beam, 1)]
        classes = task.aligned(logits, steps, _fitting(steps, texts, truths)).t().tolist()
        probs = logits.float().softmax(-1).transpose(0, 1).cpu().numpy()  # (B, T', V)
    return [
        Posterior(
            probs[row, :count],
            classes[row][:count],
            paths[row].frames,
            data.text(paths[row].ids),
            data.text(texts[row]),
            None if truths is None else data.text(truths[row]),
            task.model.stack * data.frame_seconds,
        )
        for row, count in enumerate(steps.tolist())
    ]


def _fitting(steps: Tensor, texts: list[list[int]], truths: Sequence[list[int]] | None) -> list[list[int]]:
    """Return the right text of each row, or what the search found where there is none or it has too few steps."""
    if truths is None:
        return texts
    target = pad_sequence([torch.tensor(ids, dtype=torch.int64) for ids in truths], batch_first=True)
    needed = needed_frames(target, torch.tensor([len(ids) for ids in truths])).tolist()
    rows = zip(texts, truths, needed, steps.tolist(), strict=True)
    return [truth if least <= count else text for text, truth, least, count in rows]


def _on(batch: Any, device: torch.device) -> Any:
    """Return a batch on a device."""
    return type(batch)(*(part.to(device) for part in batch))
