"""Jobs of a sweep in a pool of processes that joblib keeps on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

from rnnlab.sweeps import directory, ledger
from rnnlab.sweeps.board import Board
from rnnlab.sweeps.jobs import Job, Refused
from rnnlab.sweeps.local import BUSY, RunJob, share_of_cores

_LOOK_S = 0.2  # between two looks at the ledger
_ASK_AGAIN_S = 1.0  # how long jobs that another launcher runs are left alone
_TRIES = 3  # pools that may break one after the other before a job has begun


class Joblib:
    """Run jobs in joblib's pool of processes, loky's, which are used again for job after job.

    A process that is killed takes the pool with it: jobs that were running are interrupted, the others begin in a new
    one. Processes end with their launcher.

    Args:
        n_jobs: at a time, as joblib counts: -1 for as many as there are cores, -2 for one less.

    Raises:
        ValueError: joblib is not installed, or `n_jobs` is 0.
    """

    def __init__(self, n_jobs: int = -1) -> None:
        try:
            import joblib
        except ImportError:
            raise ValueError('hydra/launcher=joblib needs joblib: pip install "rnnlab[sweep]"') from None
        if n_jobs == 0:
            raise ValueError("n_jobs must be 1 or more, or -1 for all cores, got 0")
        self.n_jobs = max(1, joblib.effective_n_jobs(n_jobs))

    def threads(self) -> int | None:
        """Return how many threads a job should compute with, its share of the cores; None to leave it to torch."""
        return share_of_cores(self.n_jobs)

    def launch(self, sweep_dir: Path, jobs: Sequence[Job], run: RunJob, board: Board) -> None:
        """Run jobs, and return when none is running or left, as `Local.launch`.

        Raises:
            Refused: processes end before they have begun with a job, again and again.
        """
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool

        todo, broken = {job.name: job for job in jobs}, 0
        while todo:
            board.update()
            start, ended, is_broken = board.story.end, set[str](), False
            pool = ProcessPoolExecutor(self.n_jobs, initializer=_begin)
            try:
                futures = {pool.submit(_work, run, sweep_dir, job, os.getpid()): job for job in todo.values()}
                while futures:
                    done, _ = wait(futures, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                    board.update()
                    for future in done:
                        job = futures.pop(future).name
                        if isinstance(future.exception(), BrokenProcessPool):
                            is_broken = True
                        elif future.result() != BUSY:
                            ended.add(job)
            finally:
                pool.shutdown(wait=True, kill_workers=True)
                killed = _note_killed(board, start)
            broken = 0 if ended or killed else broken + is_broken
            if not ended and not killed:
                if broken == _TRIES:
                    raise Refused(f"processes end before they have begun with a job; logs are in {sweep_dir / 'logs'}")
                time.sleep(_ASK_AGAIN_S)
            todo = {name: job for name, job in todo.items() if name not in ended | killed}


def _note_killed(board: Board, start: int) -> set[str]:
    """Write down which of the jobs that began behind a byte of the ledger were killed, and return them."""
    board.update()
    began = {line["job"] for line in ledger.read(board.story.sweep_dir, start)[0] if line["state"] == "started"}
    reason = "its process, or another one of the pool, was killed"
    left = {job for job in began if board.story.state(job) in directory.RUNNING}  # some are another launcher's
    return {job for job in left if directory.note_end(board.story, job, "interrupted", reason=reason)}


def _begin() -> None:
    """Stop this process of the pool, as `kill` would, when the one that launched it is gone."""

    def follow(launcher: int = os.getppid()) -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


def _work(run: RunJob, sweep_dir: Path, job: Job, launcher: int) -> int:
    """Run a job in a process of the pool, with its output in a file."""
    directory.write_log(sweep_dir, job.name)
    code = run(sweep_dir, job)
    if os.getppid() != launcher:  # the signal has ended the job in order; nobody waits for another one
        os._exit(code)
    return code
