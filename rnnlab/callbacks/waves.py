"""What a generator writes, beside the waves themselves and past what it was trained on."""

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
    from matplotlib.figure import Figure


class Waves(pl.Callback):
    """Write errors.csv, the error at each step of the test part, and draw figures/waves.png.

    Args:
        num_waves: in the picture, the first of the test part.
    """

    def __init__(self, num_waves: int = 4) -> None:
        self.num_waves = num_waves

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        if not has_test(metrics):
            return
        _, _, errors = longer_waves(trainer.datamodule, task)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", *errors])
        writer.writerows([step, *values] for step, values in enumerate(zip(*errors.values(), strict=True)))
        write_text(Path(trainer.default_root_dir) / "errors.csv", text.getvalue())
        save_figure(trainer, "waves", picture(trainer.datamodule, task, run_name(trainer), self.num_waves))


def longer_waves(data: Any, task: Any) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return what a task's model writes for the longer waves of the test part (N, T'), these, and errors by step.

    The errors are the model's and those of the mean value of training, (T',) each.
    """
    vectors, truth = data.longer["test"]
    with evaluating(task.model), torch.inference_mode():
        written = task.model(vectors.to(task.device), num_steps=truth.shape[1]).double().cpu()
    mean = data.splits["train"][1].double().mean()
    errors = {"model": written - truth, "mean": truth - mean}
    by_step = {name: error.square().mean(dim=0).numpy() for name, error in errors.items()}
    return written.numpy(), truth.numpy(), by_step


def picture(data: Any, task: Any, name: str, num_waves: int) -> Figure:
    """Draw the first waves of the test part with what the model writes, and the error of all by step."""
    from rnnlab.analysis.waves import waves

    written, truth, errors = longer_waves(data, task)
    labels = [
        "  ".join(f"{key} {value:.2f}" for key, value in zip(data.vector_names, vector, strict=True))
        for vector in data.longer["test"][0][:num_waves].tolist()
    ]
    shown = slice(len(labels))
    title = f"Waves of the test part ({name})"
    return waves(written[shown], truth[shown], data.num_steps, errors, data.noise_floor, labels, title)
