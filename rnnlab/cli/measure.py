"""Final numbers of a model beside the baselines of its data."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl

from rnnlab.analysis.baselines import verdict
from rnnlab.callbacks.console import readable
from rnnlab.cli.build import Run


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


def measure(run: Run) -> dict[str, float]:
    """Return validation and, if there is such data, test metrics of the task as it is, and the baselines.

    Loggers are told nothing: these numbers are no points of the curves of training.
    """
    metrics: dict[str, float] = {}
    has_test = "test" in run.data.splits
    loggers, run.trainer.loggers = run.trainer.loggers, []
    try:
        for measure_split in (run.trainer.validate, run.trainer.test) if has_test else (run.trainer.validate,):
            with interruptible(run.trainer):
                results_by_loader = measure_split(run.task, datamodule=run.data, verbose=False)
            for results in results_by_loader:
                metrics.update({key: float(value) for key, value in results.items()})
    finally:
        run.trainer.loggers = loggers
    return {**metrics, **run.data.baselines()}


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
