"""What a model makes of pairs of sequences: single answers after every epoch, and pictures at the end."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from rnnlab.callbacks.console import say
from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.files import write_text
from rnnlab.callbacks.samples import MarkedSamples
from rnnlab.decoding.sampling import evaluating
from rnnlab.decoding.symbols import END

if TYPE_CHECKING:
    from rnnlab.analysis.alignment import Alignment


class PairSamples(MarkedSamples):
    """Print validation sources with their answers, see `MarkedSamples`.

    Args:
        num_samples: sources an epoch.
    """

    columns = ["epoch", "source", "answer", "prediction", "is_correct"]

    def __init__(self, num_samples: int = 8) -> None:
        super().__init__(num_samples)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from rich.markup import escape

        data: Any = trainer.datamodule
        rows = self.choose(trainer, len(data.pairs["val"]))
        if not rows:
            return
        answered = answer_rows(data, pl_module, rows)
        sources = [data.source_text(one.source) for one in answered]
        width = max(map(len, sources))
        for source, (_, ids, truth, is_correct) in zip(sources, answered, strict=True):
            answer = data.target_text(ids)
            right = "" if is_correct else f"   right: {truth}"
            question = escape(f"{source:<{width}}")
            say(f"    {question}  {self.marked(is_correct, escape(answer + right))}")
            self.rows.append([trainer.current_epoch, source, truth, answer, is_correct])


class PairReport(pl.Callback):
    """Write lengths.csv and draw figures/by_length.png and, of a model that attends, figures/attention.png.

    lengths.csv has the weight of right answers and of all for each length of a source, of the last part measured:
    test or, where there is none, validation.

    Args:
        num_maps: validation sources in the picture of attention, chosen evenly by length.
    """

    def __init__(self, num_maps: int = 6) -> None:
        self.num_maps = num_maps

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.alignment import attention_maps, score_by_length

        split = "test" if "test" in task.by_length else "val"
        counts = task.by_length[split]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["length", "right", "total"])
        writer.writerows([length, right, total] for length, (right, total) in counts.items())
        write_text(Path(trainer.default_root_dir) / "lengths.csv", text.getvalue())
        name = run_name(trainer)
        save_figure(trainer, "by_length", score_by_length({name: counts}, f"Exact match by length, {split} part"))
        maps = alignments(trainer.datamodule, task, self.num_maps)
        if maps:
            save_figure(trainer, "attention", attention_maps(maps, f"Attention, validation part ({name})"))


def alignments(data: Any, task: Any, num_maps: int, queries: Any = None) -> list[Alignment]:
    """Return what the answers to some sources looked at; nothing of a model without attention.

    Args:
        data: a module of pairs, set up unless there are queries.
        task: whose model answers.
        num_maps: sources: the first ones of the queries or, without, of the validation part, spread evenly over it as
            it is ordered by length.
        queries: of `data.read_queries`.
    """
    if getattr(task.model, "attention", True) is None:
        return []
    if queries is not None:
        asked = [row for batch in data.query_batches(queries) for row in _rows(task, batch)]
        return [_alignment(data, task, source, answer, None) for source, answer in asked[:num_maps]]
    lengths = [len(pair.source) for pair in data.pairs["val"]]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    places = np.linspace(0, len(order) - 1, min(num_maps, len(order))).astype(int)
    answered = answer_rows(data, task, [order[place] for place in dict.fromkeys(places.tolist())])
    return [_alignment(data, task, one.source, one.answer, None if one.is_correct else one.truth) for one in answered]


class Answered(NamedTuple):
    """A validation source with the model's answer.

    Attributes:
        source, answer: ids.
        truth: a right answer, as text.
        is_correct: whether the answer is one of the right ones.
    """

    source: list[int]
    answer: list[int]
    truth: str
    is_correct: bool


def answer_rows(data: Any, task: Any, rows: Sequence[int]) -> list[Answered]:
    """Return the answers of a task's model, one symbol after the other, to rows of the validation part."""
    batch = data.splits["val"][list(rows)]
    result = []
    for (source, answer), right in zip(_rows(task, batch), data.references("val", batch.rows), strict=True):
        result.append(Answered(source, answer, data.target_text(right[0]), answer in right))
    return result


def _rows(task: Any, batch: Any) -> list[tuple[list[int], list[int]]]:
    """Return source and answer of each row of a batch, without padding and end."""
    with evaluating(task.model), torch.inference_mode():
        found = task.answers(_on(batch, task.device), beam=1, n_best=1)
    sources = [row[:length] for row, length in zip(batch.source.tolist(), batch.source_lengths.tolist(), strict=True)]
    return [(source, list(best[0].ids)) for source, best in zip(sources, found, strict=True)]


def _alignment(data: Any, task: Any, source: list[int], answer: list[int], truth: str | None) -> Alignment:
    from rnnlab.analysis.alignment import Alignment

    batch = _on(Asked(torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([[*answer, END]])), task.device)
    with evaluating(task.model), torch.inference_mode():
        weights = task.model.attention_weights(batch)[0].float().cpu().numpy()
    symbols = [*data.target_symbols.decode(answer), "end"]
    return Alignment(data.source_symbols.decode(source), symbols, weights, truth)


class Asked(NamedTuple):
    """What a model reads of a batch of pairs."""

    source: Tensor
    source_lengths: Tensor
    target: Tensor


def _on(batch: Any, device: torch.device) -> Any:
    """Return a batch on a device."""
    return type(batch)(*(part.to(device) for part in batch))
