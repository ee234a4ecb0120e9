"""ledger.jsonl: the story of a sweep, one line for each change of a job, written by many processes on many hosts.

A line is a JSON object with `time` (ISO, UTC), `job`, `state`, `host` and `pid`, and what belongs to its state:

| state | more | written by |
| --- | --- | --- |
| queued | overrides | who makes the sweep |
| started | | the job, each time it begins or goes on |
| epoch | epoch (how many are done), epochs (how many there will be), the monitored metric | the job |
| epoch | 0, and `tried`: the words that the study of a search chose | the job, a trial |
| finished | seconds of training and measuring | the job |
| failed | error (its first line), code | the job |
| interrupted | reason | the job, or who saw it die |
| requeued | reason | the job, when a batch system takes it back |
| pruned | reason | the job, a trial of a search that is not worth its time |
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnlab.sweeps.lock import hold

LEDGER = "ledger.jsonl"
OVER = ("finished", "failed", "pruned")  # states after which nothing runs
_OF_ONE_STATE = ("error", "code", "reason", "seconds")  # what later lines of a job do not take over
Line = dict[str, Any]


@contextmanager
def exclusive(sweep_dir: Path) -> Iterator[int]:
    """Hold the ledger alone, and yield its file descriptor for `write`; other writers wait.

    The system lets go of it when the process ends, however it ends.
    """
    file = os.open(sweep_dir / LEDGER, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        hold(file)
        yield file
    finally:
        os.close(file)


def write(file: int, lines: Iterable[Line]) -> None:
    """Append lines to a ledger that is held, each with time, host and process."""
    who = {"host": platform.node(), "pid": os.getpid()}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    text = "".join(json.dumps({"time": now, **line, **who}, ensure_ascii=False) + "\n" for line in lines)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":  # a writer was killed within its line
        text = "\n" + text
    content = text.encode()
    while content:
        content = content[os.write(file, content) :]


def append(sweep_dir: Path, job: str, state: str, **more: Any) -> None:
    """Append the line of one change."""
    with exclusive(sweep_dir) as file:
        write(file, [{"job": job, "state": state, **more}])


def read(sweep_dir: Path, start: int = 0) -> tuple[list[Line], int]:
    """Return the lines from a byte of the ledger on, and the byte after the last of them.

    What a writer that was killed left of a line is passed over, and what one may be writing just now is left for later.
    A ledger that is not there has no lines.
    """
    try:
        with (sweep_dir / LEDGER).open("rb") as file:
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return [], start
    whole = content[: content.rfind(b"\n") + 1]
    return [line for text in whole.splitlines() if (line := _parsed(text)) is not None], start + len(whole)


def _parsed(text: bytes) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "job" in line and "state" in line else None


class Story:
    """What a ledger has told so far, job by job, in the order in which they were queued.

    Attributes:
        jobs: for each job what its lines said, later ones over earlier ones: `state`, `overrides`, `error` ...
        attempts: how often each job was started.

    Args:
        sweep_dir: the sweep.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self.sweep_dir = sweep_dir
        self.jobs: dict[str, Line] = {}
        self.attempts: dict[str, int] = {}
        self.end = 0
        self.update()

    def update(self) -> list[Line]:
        """Read on, and return the lines that are new."""
        lines, self.end = read(self.sweep_dir, self.end)
        for line in lines:
            name = line["job"]
            if line["state"] == "started":
                self.attempts[name] = self.attempts.get(name, 0) + 1
            former = self.jobs.setdefault(name, {})
            for key in _OF_ONE_STATE:
                former.pop(key, None)
            former.update(line)
        return lines

    def state(self, job: str) -> str | None:
        """Return the state of a job, None of one that was never queued."""
        return self.jobs[job]["state"] if job in self.jobs else None
