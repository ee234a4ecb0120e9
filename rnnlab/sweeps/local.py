"""Jobs of a sweep on this machine, some at a time: each a process of its own, forked from one that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rnnlab.sweeps import directory, ledger
from rnnlab.sweeps.board import Board
from rnnlab.sweeps.jobs import Job

RunJob = Callable[[Path, Job], int]
BUSY = 75  # exit code of a job that another process is at: EX_TEMPFAIL of sysexits.h
_IMPORTED = ["rnnlab.cli.fit", "rnnlab.data", "rnnlab.models", "rnnlab.tasks"]
_GRACE_S = 60.0  # for a job that is told to stop, to leave its files in order
_LOOK_S = 0.2  # between two looks at the ledger
_ASK_AGAIN_S = 1.0  # how long a job that another launcher runs is left alone


class Local:
    """Run jobs in processes of this machine.

    A job that is killed takes no other with it, and jobs end with their launcher, however that ends.

    Args:
        max_jobs: at a time; None for one, or one on each GPU.

    Raises:
        ValueError: `max_jobs` is no positive integer.
    """

    def __init__(self, max_jobs: int | None = None) -> None:
        if max_jobs is not None and (not isinstance(max_jobs, int) or isinstance(max_jobs, bool) or max_jobs < 1):
            raise ValueError(f"max_jobs must be an integer of at least 1, got {max_jobs!r}")
        self.gpus = _visible_gpus()
        self.max_jobs = max_jobs or max(1, len(self.gpus))

    def threads(self) -> int | None:
        """Return how many threads a job should compute with, its share of the cores; None to leave it to torch."""
        return share_of_cores(self.max_jobs)

    def launch(self, sweep_dir: Path, jobs: Sequence[Job], run: RunJob, board: Board) -> None:
        """Run jobs, and return when none is running or left; the ledger says how each ended.

        Args:
            sweep_dir: the sweep.
            jobs: those to run.
            run: what to run in a process of its own, a function that can be found by its name.
            board: shows the sweep.
        """
        context = _context()
        todo, later = deque(jobs), deque[tuple[float, Job]]()
        slots, running = set(range(self.max_jobs)), dict[int, tuple[Any, Job, int]]()
        try:
            while todo or later or running:
                while later and later[0][0] <= time.monotonic():
                    todo.append(later.popleft()[1])
                while todo and slots:
                    job, slot = todo.popleft(), slots.pop()
                    if directory.is_finished(sweep_dir, job.name):
                        slots.add(slot)
                        continue
                    process = context.Process(target=_work, args=(run, sweep_dir, job, *self._place(slot)))
                    process.start()
                    running[process.sentinel] = process, job, slot
                for sentinel in _wait(list(running)):
                    process, job, slot = running.pop(sentinel)
                    slots.add(slot)
                    process.join()
                    if process.exitcode == BUSY:
                        later.append((time.monotonic() + _ASK_AGAIN_S, job))
                    else:
                        board.update()
                        _note_death(board.story, job.name, process.exitcode)
                board.update()
        finally:
            _stop([process for process, _, _ in running.values()])

    def _place(self, slot: int) -> tuple[Path, dict[str, str]]:
        """Return working directory and environment of a job: this process's, which its server may not share."""
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        return Path.cwd(), {**os.environ, **gpu}


def share_of_cores(num_jobs: int) -> int | None:
    """Return how many threads each of so many jobs should compute with; None to leave it to torch."""
    if num_jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, available_cores() // num_jobs)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _note_death(story: ledger.Story, job: str, code: int) -> None:
    """Write down the end of a job that could not do so itself."""
    if code < 0:
        directory.note_end(story, job, "interrupted", reason=f"killed by {signal.Signals(-code).name}")
    elif 0 < code <= 128:
        directory.note_end(story, job, "failed", error=f"its process ended with exit code {code}", code=code)


def _wait(sentinels: list[int]) -> list[Any]:
    """Return those of the running processes that have ended, after a moment if there are none."""
    if sentinels:
        return wait(sentinels, timeout=_LOOK_S)
    time.sleep(_LOOK_S)
    return []


def _context() -> Any:
    """Return what makes processes: forked from a server that has imported what jobs need, and never used it.

    A process that has computed with threads, or has a CUDA context, must not be forked; this one has done neither.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def _visible_gpus() -> list[str]:
    """Return the names of the GPUs that jobs may use, without waking CUDA in this process."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number, _ in enumerate(devices.iterdir())] if devices.is_dir() else []


def _work(run: RunJob, sweep_dir: Path, job: Job, cwd: Path, environment: dict[str, str]) -> None:
    """Run a job in this process, with its output in a file, and end with its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the launcher, too, which then stops its jobs
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    directory.write_log(sweep_dir, job.name)
    sys.exit(run(sweep_dir, job))


def _end_with_launcher() -> None:
    """Stop this process, as `kill` would, when the one that launched it is gone."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(processes: list[Any]) -> None:
    """Ask processes to end, wait for them, and kill those that do not."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
