"""One job of a sweep: an ordinary run in the sweep's directory, and its lines in the ledger."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rnnlab.cli import processes
from rnnlab.cli.compose import compose
from rnnlab.cli.main import explain
from rnnlab.cli.stopping import Terminated, signals_as_interrupt
from rnnlab.sweeps import directory, ledger
from rnnlab.sweeps.jobs import Job
from rnnlab.sweeps.local import BUSY
from rnnlab.sweeps.lock import JOB_LOCK, locked


class NotWorthIt(Exception):
    """A job was given up: the message says why."""


def run_job(sweep_dir: Path, job: Job) -> int:
    """Train a job of a sweep, or go on with it, and return the exit code it would have as a run of its own.

    Nothing is done where another process is at it, or ended it after its launcher had looked: every job runs once.
    """
    return in_ledger(sweep_dir, job, lambda: train(sweep_dir, job))


def in_ledger(sweep_dir: Path, job: Job, run: Callable[[], None]) -> int:
    """Let `run` train a job, alone and with its lines in the ledger, and return its exit code.

    Of the processes of a job that SLURM starts together, the first one does so for all.
    """
    if processes.rank() > 0:
        from rnnlab.cli.follower import follow

        return follow()
    code = 1
    try:
        code = _alone(sweep_dir, job, run)
        return code
    finally:
        processes.dismiss(code)


def _alone(sweep_dir: Path, job: Job, run: Callable[[], None]) -> int:
    run_dir = sweep_dir / job.name
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with signals_as_interrupt(), locked(run_dir, JOB_LOCK):
            ended = [line for line in ledger.read(sweep_dir, job.told)[0] if line["job"] == job.name]
            if directory.is_finished(sweep_dir, job.name) or (ended and ended[-1]["state"] in ledger.OVER):
                return 0 if not ended else ended[-1].get("code", 0)
            return _told(sweep_dir, job.name, run)
    except BlockingIOError:
        return BUSY
    except KeyboardInterrupt as stop:  # before it began, or after it had ended
        return _reason(stop)[1]
    finally:
        _remove_if_empty(run_dir)


def _told(sweep_dir: Path, name: str, run: Callable[[], None]) -> int:
    ledger.append(sweep_dir, name, "started")
    start = time.perf_counter()
    try:
        run()
    except KeyboardInterrupt as stop:
        reason, code = _reason(stop)
        ledger.append(sweep_dir, name, "interrupted", reason=reason)
        return code
    except NotWorthIt as error:
        ledger.append(sweep_dir, name, "pruned", reason=str(error))
        return 0
    except Exception as error:
        text, code = explain(error)
        traceback.print_exc()
        ledger.append(sweep_dir, name, "failed", error=text, code=code)
        return code
    ledger.append(sweep_dir, name, "finished", seconds=round(time.perf_counter() - start, 3))
    return 0


def train(sweep_dir: Path, job: Job, watchers: Sequence[Any] = ()) -> None:
    """Train the run of a job, or go on with it."""
    from rnnlab.cli import fit

    sys.argv = ["rnnlab", "train", *job.overrides]  # the command that the run notes down
    config, _ = compose(job.overrides)
    config["paths"].update(run_dir=str(sweep_dir / job.name), sweep_dir=str(sweep_dir))
    fit.train({**config, "resume": "auto"}, job.overrides, watchers)


def _reason(stop: KeyboardInterrupt) -> tuple[str, int]:
    """Return what ended a job from outside, and its exit code."""
    return (stop.name, stop.code) if isinstance(stop, Terminated) else ("Ctrl-C", 130)


def _remove_if_empty(run_dir: Path) -> None:
    try:
        run_dir.rmdir()
    except OSError:
        pass  # it holds a run
