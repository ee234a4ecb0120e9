"""What submitit runs on a node: one job of a sweep, which is put back into the queue when its time there is up."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rnnlab.sweeps import directory, ledger
from rnnlab.sweeps.jobs import Job
from rnnlab.sweeps.local import BUSY, RunJob

_ASK_AGAIN_S = 5.0  # how long a job that another process runs is left alone


class Submitted:
    """A job in the queue: it runs, and ends with the job's exit code.

    Signals end the run in order, as they do outside a queue; its epochs are saved as they end, so what is lost is the
    one that was running. Only then submitit is told of the signal before a time limit, and queues the job again. What
    SLURM takes a node from, for a job of higher priority or because the node fails, SLURM queues again by itself.

    Args:
        run: trains a job and returns its exit code; 128 and its number for a signal.
        sweep_dir: the sweep, as the nodes see it.
        job: to run.
        requeues: whether submitit may queue the job again.
    """

    def __init__(self, run: RunJob, sweep_dir: Path, job: Job, requeues: bool) -> None:
        self.run, self.sweep_dir, self.job, self.requeues = run, sweep_dir, job, requeues

    def __call__(self) -> None:
        directory.write_log(self.sweep_dir, self.job.name)
        out_of_time = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        for number in (signal.SIGTERM, *out_of_time):
            signal.signal(number, signal.SIG_DFL)  # in place of submitit's: the run has handlers of its own
        self._note_restart()
        while (code := self.run(self.sweep_dir, self.job)) == BUSY:
            time.sleep(_ASK_AGAIN_S)
        requeue = out_of_time.get(code - 128)
        if self.requeues and callable(requeue):
            self._requeue(requeue, code - 128)
        sys.exit(code)

    def checkpoint(self) -> Any:
        """Return what submitit queues in place of this: the same, for the run finds its checkpoint by itself."""
        from submitit.helpers import DelayedSubmission

        ledger.append(self.sweep_dir, self.job.name, "requeued", reason="its time was up")
        return DelayedSubmission(self)

    def _requeue(self, requeue: Any, number: int) -> None:
        from submitit.core.utils import UncompletedJobError

        try:
            requeue(number, None)  # ends this process if it may
        except UncompletedJobError as error:
            ledger.append(self.sweep_dir, self.job.name, "interrupted", reason=str(error))

    def _note_restart(self) -> None:
        """Write down that SLURM has put the job back, which only shows when it starts again.

        It puts back, too, what ends just when its node is taken.
        """
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if restarts and os.environ.get("SLURM_PROCID", "0") == "0" and self._is_open():
            reason = f"SLURM took it from its node, restart {restarts}"
            ledger.append(self.sweep_dir, self.job.name, "requeued", reason=reason)

    def _is_open(self) -> bool:
        return ledger.Story(self.sweep_dir).state(self.job.name) not in ("requeued", *ledger.OVER)
