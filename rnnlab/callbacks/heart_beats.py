"""What a delineator finds in electrocardiograms, as a picture at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch

from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.decoding.sampling import evaluating

if TYPE_CHECKING:
    from rnnlab.analysis.heart_beats import Strip

_SECONDS = 10.0  # of a strip


class HeartBeats(pl.Callback):
    """Draw figures/beats.png: signal, points found, true ones and durations of QRS.

    Args:
        num_records: validation records in the picture.
    """

    def __init__(self, num_records: int = 5) -> None:
        self.num_records = num_records

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.heart_beats import heart_beats

        strips = strips_of(trainer.datamodule, task, self.num_records)
        save_figure(trainer, "beats", heart_beats(strips, f"Beats of the validation part ({run_name(trainer)})"))


def strips_of(data: Any, task: Any, num_strips: int, queries: Any = None) -> list[Strip]:
    """Return stretches of ten seconds with what a delineator finds in them.

    Args:
        data: a module of electrocardiograms.
        task: whose model answers.
        num_strips: so many first records of the validation part, from little noise to much; or, of the lead that the
            queries hold, so many stretches, evenly spaced.
        queries: of `data.read_queries`.
    """
    with evaluating(task.model), torch.inference_mode():
        return _of_records(data, task, num_strips) if queries is None else _of_lead(data, task, num_strips, queries)


def _of_records(data: Any, task: Any, num_strips: int) -> list[Strip]:
    from rnnlab.analysis.heart_beats import Strip

    chosen = [record for _, record in zip(range(num_strips), data.records("val"), strict=False)]
    strips = []
    for record in sorted(chosen, key=lambda record: record.level):
        signal = torch.from_numpy(data.features_of(record.signal, record.rate))
        found = task.beats_of(task.model(signal.unsqueeze(0).to(task.device))[:, 0])
        name = f"noise {record.level:.1f}, {record.rate} samples a second"
        strips.append(Strip(name, record.signal, record.rate, 0.0, *found, data.marks_of(record)))
    return strips


def _of_lead(data: Any, task: Any, num_strips: int, queries: Any) -> list[Strip]:
    from rnnlab.analysis.heart_beats import Strip

    (stream,) = data.query_batches(queries)
    lead = stream.lead
    found, truth = task.predict_step(stream), data.known_beats(queries)
    size = min(lead.num_samples, round(_SECONDS * lead.rate))
    starts = np.unique(np.linspace(0, lead.num_samples - size, num_strips).astype(int)).tolist()
    parts: list[list[np.ndarray]] = [[] for _ in starts]
    place = 0
    for piece in lead.pieces():
        for start, part in zip(starts, parts, strict=True):
            part.append(piece[max(0, start - place) : max(0, start + size - place)])
        place += len(piece)
    signals = [np.concatenate(part) for part in parts]
    return [
        Strip(lead.name, signal, lead.rate, start / lead.rate, *found, truth)
        for start, signal in zip(starts, signals, strict=True)
    ]
