"""Final numbers of a model beside the baselines of its data."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from rnnlab.analysis.baselines import verdict
from rnnlab.callbacks.console import console, readable
from rnnlab.cli import checkpoints
from rnnlab.cli.build import Run, build
from rnnlab.cli.moved import refound


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Turn Lightning's answer to Ctrl-C, to exit with code 1 and be deaf to more of it, back into what it was."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, handler)
        if trainer.interrupted:
            raise type(error.__context__)() from None  # Ctrl-C or SIGTERM
        raise


def restored(
    config: dict[str, Any], run_dir: Path, ckpt: str, says_notes: bool = True
) -> tuple[Run, dict[str, Any], Path]:
    """Return a run with the weights of a checkpoint, for measuring, the checkpoint, and its path.

    Args:
        config: the run's, perhaps under other settings.
        run_dir: the run.
        ckpt: 'best', 'last' or the path of a checkpoint.
        says_notes: whether to print how the data were read.

    Raises:
        UsageError: no such checkpoint, or a setting that cannot be.
    """
    path = checkpoints.checkpoint_path(run_dir, ckpt)
    checkpoint = checkpoints.load_checkpoint(path)
    run = build(refound(config), checkpoint=checkpoint)
    checkpoints.restore(run.data, run.task, checkpoint, path)
    for note in run.data.notes if says_notes else ():
        console.print(note, markup=False)
    return run, checkpoint, path


def warn_of_other_data(overrides: Iterable[str]) -> None:
    """Say that a test part under other settings of the data may hold what the run was trained on."""
    if any(
        word.startswith("data.") and not word.startswith(("data.batch_size=", "data.baselines")) for word in overrides
    ):
        console.print("note: with other data than the run's, its test split may hold what the run was trained on")


def measure(run: Run, with_test: bool = True) -> dict[str, float]:
    """Return validation and, if there is such data, test metrics of the task as it is, and the baselines.

    Without the test, nothing is told of it: its baselines are left out as well.
    """
    return {**measured(run, with_test), **baselines(run, with_test)}


def measured(run: Run, with_test: bool = True) -> dict[str, float]:
    """Return validation and, if there is such data, test metrics of the task as it is.

    Loggers are told nothing: these numbers are no points of the curves of training.
    """
    metrics: dict[str, float] = {}
    has_test = with_test and "test" in run.data.splits
    loggers, run.trainer.loggers = run.trainer.loggers, []
    try:
        for measure_split in (run.trainer.validate, run.trainer.test) if has_test else (run.trainer.validate,):
            with interruptible(run.trainer):
                results_by_loader = measure_split(run.task, datamodule=run.data, verbose=False)
            for results in results_by_loader:
                metrics.update({key: float(value) for key, value in results.items()})
    finally:
        run.trainer.loggers = loggers
    return metrics


def baselines(run: Run, with_test: bool = True) -> dict[str, float]:
    """Return what the network must beat, by metric name."""
    return {key: value for key, value in run.data.baselines().items() if with_test or "/test/" not in key}


def compare(metrics: dict[str, float], monitor: str) -> list[str]:
    """Return lines of rich markup: every validation and test number, those to compare them with, and the verdict.

    Args:
        metrics: as `measure` returns them.
        monitor: the metric that picks the best checkpoint, as 'val/accuracy'.
    """
    lines = []
    styles = {"val/": "", "test/": "bold", "baseline/": "dim", "optimum/": "dim"}
    keys = [key for prefix in styles for key in metrics if key.startswith(prefix)]
    width = max(map(len, keys), default=0)
    for key in keys:
        style, text = styles[key.partition("/")[0] + "/"], f"{key:<{width}}  {readable(metrics[key])}"
        lines.append(f"[{style}]{text}[/{style}]" if style else text)
    if (told := verdict(metrics, monitor)) is not None:
        lines.append(f"[bold]{told}[/bold]")
    return lines
