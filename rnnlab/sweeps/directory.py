"""A sweep's directory: sweep.yaml, what was asked for; ledger.jsonl, what became of it; each job's folder and log."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml

from rnnlab.sweeps import ledger
from rnnlab.sweeps.jobs import Job
from rnnlab.sweeps.lock import JOB_LOCK, locked

SWEEP = "sweep.yaml"
RUNNING = ("started", "epoch")  # states of a job that is at work, or died without a word
_FINISHED = "metrics.json"  # of a run, which writes it last


def claim(sweep_dir: Path, jobs: Sequence[Job], record: dict[str, Any]) -> None:
    """Make a directory a sweep's, or find that it is this sweep's already; and queue the jobs that it lacks.

    Two processes that do so at once make one sweep.

    Args:
        sweep_dir: where to.
        jobs: all of the sweep.
        record: what to keep in sweep.yaml; `words`, the command, tells sweeps apart.

    Raises:
        ValueError: the directory holds something else, or the sweep of another command.
        OSError: it cannot be written.
    """
    sweep_dir.mkdir(parents=True, exist_ok=True)
    if not (sweep_dir / SWEEP).exists() and (strange := _strangers(sweep_dir)):
        raise ValueError(f"sweep_dir={sweep_dir} holds no sweep, but {strange[0]}: choose another directory")
    with ledger.exclusive(sweep_dir) as file:
        if not (sweep_dir / SWEEP).exists():
            part = sweep_dir / f".{SWEEP}.part"
            part.write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
            os.replace(part, sweep_dir / SWEEP)
        elif (words := read(sweep_dir)["words"]) != record["words"]:
            raise ValueError(f"sweep_dir={sweep_dir} is the sweep of another command: {_difference(words, record)}")
        there = {line["job"] for line in ledger.read(sweep_dir)[0]}
        new = [job for job in jobs if job.name not in there]
        ledger.write(file, [{"job": job.name, "state": "queued", "overrides": job.overrides} for job in new])


def _strangers(sweep_dir: Path) -> list[str]:
    return sorted(path.name for path in sweep_dir.iterdir() if path.name[0] != "." and path.name != ledger.LEDGER)


def _difference(words: Sequence[str], record: dict[str, Any]) -> str:
    gone = [word for word in words if word not in record["words"]]
    new = [word for word in record["words"] if word not in words]
    if not gone and not new:
        return "its words are in another order"
    return "; ".join(
        f"{text} {' '.join(part)}" for text, part in (("it has", gone), ("the command line has", new)) if part
    )


def read(sweep_dir: Path) -> dict[str, Any]:
    """Return what sweep.yaml holds.

    Raises:
        ValueError: there is none, or it is not one of ours.
    """
    path = sweep_dir / SWEEP
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{sweep_dir} holds no sweep: {path} is missing") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict) or "words" not in record:
        raise ValueError(f"{path} is not the record of a sweep")
    return record


def log_path(sweep_dir: Path, job: str) -> Path:
    """Return where the output of a job goes: beside the folders of the jobs, for a run begins in an empty one."""
    return sweep_dir / "logs" / f"{job}.log"


def write_log(sweep_dir: Path, job: str) -> None:
    """Send what this process prints to the log of a job from now on."""
    path = log_path(sweep_dir, job)
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)


def is_finished(sweep_dir: Path, job: str) -> bool:
    """Tell whether a job's run has its final numbers: the ledger tells the story, and the run itself what is true."""
    return (sweep_dir / job / _FINISHED).exists()


def settle(sweep_dir: Path, story: ledger.Story) -> None:
    """Write down what a process that was killed could not: that its job has finished."""
    for job in story.jobs:
        if story.state(job) != "finished" and is_finished(sweep_dir, job):
            note_end(story, job, "finished", told=("finished",))
    story.update()


def note_end(story: ledger.Story, job: str, state: str, told: Collection[str] = ledger.OVER, **more: Any) -> bool:
    """Write down the end of a job whose process could not do so itself.

    Args:
        story: of the sweep.
        job: its name.
        state: how it has ended, and `more`: what else its line says.
        told: states after which there is nothing more to say.

    Returns:
        Whether the job has ended: another process may be at it, of this launcher or another.
    """

    def is_told() -> bool:
        news = [line["state"] for line in ledger.read(story.sweep_dir, story.end)[0] if line["job"] == job]
        return (news or [story.state(job)])[-1] in told

    if is_told():
        return True
    run_dir = story.sweep_dir / job
    try:
        with locked(run_dir, JOB_LOCK) if run_dir.exists() else nullcontext():  # without a folder none has begun
            if not is_told():  # by a process that was just ending
                ledger.append(story.sweep_dir, job, state, **more)
    except BlockingIOError:
        return False
    return True


def take_up(story: ledger.Story, again: Collection[str] = ()) -> list[Job]:
    """Return the jobs that are to run, in the order in which they were queued.

    Args:
        story: of the sweep.
        again: states of jobs that have ended and are to be run again; what a finished one has made is set aside, in
            `NAME~1`, `NAME~2` and so on.
    """
    ended = {name: line["state"] for name, line in story.jobs.items() if line["state"] in ledger.OVER}
    for name in (name for name, state in ended.items() if state in again and state == "finished"):
        run_dir = story.sweep_dir / name
        names = (run_dir.with_name(f"{name}~{number}") for number in itertools.count(1))
        run_dir.rename(next(path for path in names if not path.exists()))
        ledger.append(story.sweep_dir, name, "queued")
    story.update()
    names_left = [name for name in story.jobs if name not in ended or ended[name] in again]
    return [Job(name, story.jobs[name]["overrides"], story.end) for name in names_left]


def count_states(story: ledger.Story, jobs: Iterable[str]) -> dict[str, int]:
    """Return how many of the jobs are in each state, the most telling first; what has begun is running."""
    states = [story.state(job) or "missing" for job in jobs]
    states = ["running" if state in RUNNING else state for state in states]
    order = ("finished", "failed", "pruned", "running", "interrupted", "requeued", "queued", "missing")
    return {state: states.count(state) for state in order if state in states}
