"""Asking a trained model: what `rnnlab predict` and `rnnlab.load` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rnnlab.cli.errors import UsageError


def set_search(task: Any, search: dict[str, int], run_dir: Any) -> None:
    """Set how a task searches for answers.

    Args:
        task: the task.
        search: `n_best` and `beam`, in place of its own; a beam is at least as wide as n_best.
        run_dir: the run, for messages.

    Raises:
        UsageError: it does not search, or not so.
    """
    if not hasattr(task, "set_search"):
        kinds = "models of pairs of sequences and of sounds"
        raise UsageError(f"{' and '.join(search)} are for {kinds}, run_dir={run_dir} holds none")
    n_best = search.get("n_best", task.n_best)
    try:
        task.set_search(search.get("beam", max(task.beam, n_best)), n_best, prefix="")
    except ValueError as error:
        raise UsageError(str(error)) from error


def ask_horizon(data: Any, horizon: int, run_dir: Any) -> None:
    """Ask data of tables of series for so many steps.

    Raises:
        UsageError: it has no such thing.
    """
    if not hasattr(data, "ask_horizon"):
        raise UsageError(f"horizon is for models of tables of series, run_dir={run_dir} holds none")
    data.ask_horizon(horizon)


def notes_on(task: Any, queries: Any) -> Iterable[str]:
    """Return what a user should be told of how questions were read, and of what a task makes of them."""
    return (*queries.notes, *(task.notes_on(queries) if hasattr(task, "notes_on") else ()))


def outputs_of(data: Any, queries: Any, answer: Callable[[Any], Any]) -> list[Any]:
    """Return what a task's `predict_step`, or another way to answer, makes of each batch of questions.

    Raises:
        ValueError: what a model cannot read: more symbols than it has positions for.
    """
    import torch

    with torch.inference_mode():
        return [answer(batch) for batch in data.query_batches(queries)]
