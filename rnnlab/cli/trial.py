"""One trial of a search: a job of a sweep whose study says what it tries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rnnlab.cli import job
from rnnlab.cli.errors import UsageError
from rnnlab.cli.instantiate import instantiate
from rnnlab.sweeps import directory, ledger, study
from rnnlab.sweeps.jobs import Job
from rnnlab.sweeps.lock import JOB_LOCK, is_locked


def run_trial(sweep_dir: Path, trial: Job) -> int:
    """Train one trial of a search, or go on with it, and return an exit code as `run_job` does."""
    return job.in_ledger(sweep_dir, trial, lambda: _train(sweep_dir, trial))


def _train(sweep_dir: Path, one: Job) -> None:
    import optuna

    from rnnlab.callbacks.trial_report import Pruned, TrialReport

    search = directory.read(sweep_dir)["search"]
    number = int(one.name.partition("=")[2])
    opened = _opened(sweep_dir, search, number)
    trial = study.trial_of(opened, one.name, space_of(search))
    states, tried = optuna.trial.TrialState, study.words_of(trial.params)
    ledger.append(sweep_dir, one.name, "epoch", epoch=0, tried=tried)
    try:
        watchers = [TrialReport(trial, search["metric"])]
        job.train(sweep_dir, Job(one.name, [*one.overrides, *tried]), watchers)
        reached = number_of(sweep_dir, one.name, search["metric"])
    except Pruned as error:
        opened.tell(trial, state=states.PRUNED)
        raise job.NotWorthIt(str(error)) from error
    except Exception:
        opened.tell(trial, state=states.FAIL)
        raise
    opened.tell(trial, reached)


def _opened(sweep_dir: Path, search: dict[str, Any], number: int) -> Any:
    """Return the study with sampler and pruner; each trial draws numbers of its own, the same whenever it is tried."""
    sampler, pruner = dict(search["sampler"]), search["pruner"]
    sampler.setdefault("seed", 1000 * search["seed"] + number)
    made = instantiate(pruner) if pruner else instantiate({"_target_": "optuna.pruners.NopPruner"})
    return study.open_study(sweep_dir, search, instantiate(sampler), made)


def space_of(search: dict[str, Any]) -> study.Space:
    """Return the space as sweep.yaml keeps it."""
    kinds: dict[bool, Any] = {True: study.Range, False: study.Choice}
    return {key: kinds["low" in part](**part) for key, part in search["space"].items()}


def number_of(sweep_dir: Path, name: str, metric: str) -> float:
    """Return the final number of a finished trial.

    Raises:
        UsageError: the run has no such number.
    """
    metrics = json.loads((sweep_dir / name / "metrics.json").read_text(encoding="utf-8"))
    if metric not in metrics:
        raise UsageError(f"search.metric={metric} is none of the final numbers, {', '.join(sorted(metrics))}")
    return float(metrics[metric])


def settle(sweep_dir: Path, search: dict[str, Any], story: ledger.Story) -> None:
    """Tell the study what killed processes could not; trials that another launcher has at work are its own."""

    def outcome(name: str) -> float | str | None:
        if is_locked(sweep_dir / name, JOB_LOCK):
            return None
        story.update()
        if directory.is_finished(sweep_dir, name):
            return number_of(sweep_dir, name, search["metric"])
        return {"failed": "fail", "pruned": "pruned"}.get(story.state(name) or "")

    if any(is_locked(sweep_dir / name, JOB_LOCK) for name in story.jobs):
        study.settle(study.open_study(sweep_dir, search), outcome, lost=None)  # one may be told its job just now
    else:
        study.settle(study.open_study(sweep_dir, search), outcome, lost="fail")
