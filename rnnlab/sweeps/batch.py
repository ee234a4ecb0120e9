"""Jobs of a sweep by submitit: in SLURM's queue, or in processes of this machine that submitit looks after.

Submitit writes the script of a job, tells it of its time limit, and queues it again; what becomes of jobs the ledger
tells, and not submitit's files in the sweep's folder `submitit`.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnnlab.sweeps import directory, ledger
from rnnlab.sweeps.board import Board
from rnnlab.sweeps.jobs import Job, Refused
from rnnlab.sweeps.local import RunJob
from rnnlab.sweeps.submitted import Submitted

PREEMPTION = ("submitit", "none")
CODE = ("copy", "clean", "live")
_LOOK_S = 0.5  # between two looks at the ledger
_ASK_S = 5.0  # between two looks at SLURM's queue
_MOST_IN_ARRAY = 1000  # SLURM allows 1001 if nothing else is configured


@dataclass
class Batch:
    """What the launchers of submitit have in common; the names are those of hydra-submitit-launcher.

    Args:
        preemption: who queues a job again whose time is up, `submitit` or `none`.
        code: what jobs run, a `copy` of the code of this moment, the same and only if it is that of a commit (`clean`),
            or the code that is there when they start (`live`).
        timeout_min: time limit of a job.
        signal_delay_s: how long before its limit a job is told.
        max_num_timeout: how often a job is queued again after its limit.
        cpus_per_task: cores of a job.
        gpus_per_node: GPUs of a job on each of its nodes.
        tasks_per_node: processes of a job on each of its nodes; for several, give `trainer.devices` as many.
        setup: lines of shell before the job, as `module load cuda`.
        stderr_to_stdout: whether submitit's own files of a job are one.

    Raises:
        ValueError: submitit is not installed, or a setting is none of its values.
    """

    preemption: str = "submitit"
    code: str = "copy"
    timeout_min: int = 60
    signal_delay_s: int = 120
    max_num_timeout: int = 20
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    tasks_per_node: int = 1
    setup: list[str] | None = None
    stderr_to_stdout: bool = False
    code_dir: Path | None = field(default=None, init=False)  # where the copy of the code is

    def __post_init__(self) -> None:
        for name, allowed in (("preemption", PREEMPTION), ("code", CODE)):
            if (value := getattr(self, name)) not in allowed:
                hint = "; lightning is for a script of your own" if value == "lightning" else ""
                raise ValueError(f"{name} must be {' or '.join(allowed)} in a sweep, got {value!r}{hint}")
        if self.timeout_min * 60 <= self.signal_delay_s:
            raise ValueError(
                f"signal_delay_s={self.signal_delay_s} must be less than timeout_min={self.timeout_min} minutes"
            )
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise ValueError('this launcher needs submitit: pip install "rnnlab[sweep]"') from None

    def threads(self) -> int | None:
        """Return how many threads a job should compute with; None to leave it to torch."""
        return self.cpus_per_task

    def _settings(self) -> dict[str, Any]:
        """Return what submitit is told, under its own names."""
        own = ("preemption", "code", "code_dir", "max_num_timeout")
        settings = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name not in own}
        return {name: value for name, value in settings.items() if value is not None}

    def _submitted(self, sweep_dir: Path, job: Job, run: RunJob) -> Submitted:
        return Submitted(run, sweep_dir.absolute(), job, self.preemption == "submitit")

    def _python(self, path: str) -> str:
        """Return the command that runs Python on the code of these jobs; `path` is what else PYTHONPATH holds."""
        code = [f"env PYTHONPATH={shlex.quote(str(self.code_dir))}{path}"] if self.code_dir else []
        return " ".join([*code, shlex.quote(sys.executable)])


@dataclass
class SubmititLocal(Batch):
    """Jobs on this machine as submitit runs them: with time limits, of which they are told, as in a queue.

    Args:
        max_jobs: at a time.
    """

    max_jobs: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_jobs < 1:
            raise ValueError(f"max_jobs must be an integer of at least 1, got {self.max_jobs}")

    def launch(self, sweep_dir: Path, jobs: Sequence[Job], run: RunJob, board: Board) -> None:
        """Run jobs, and return when none is running or left, as `Local.launch`."""
        from submitit import LocalExecutor

        rest = shlex.quote(os.pathsep + os.environ["PYTHONPATH"]) if os.environ.get("PYTHONPATH") else ""
        timeouts = {"max_num_timeout": self.max_num_timeout}
        executor = LocalExecutor(sweep_dir.absolute() / "submitit", python=self._python(rest), **timeouts)
        executor.update_parameters(**{key: value for key, value in self._settings().items() if key != "max_jobs"})
        todo, running = list(jobs), list[tuple[Job, Any]]()
        try:
            while todo or running:
                while todo and len(running) < self.max_jobs:
                    job = todo.pop(0)
                    running.append((job, executor.submit(self._submitted(sweep_dir, job, run))))
                ended = [(job, process) for job, process in running if process.done()]
                board.update()
                for job, process in ended:
                    if not _note_loss(board.story, job.name, f"its process is gone; {process.paths.stderr}"):
                        todo.append(job)  # another launcher is at it, and may be stopped
                running = [pair for pair in running if pair not in ended]
                time.sleep(_LOOK_S)
        finally:
            for _, process in running:
                process.cancel()
            while not all(process.done() for _, process in running):
                time.sleep(_LOOK_S)


@dataclass
class SubmititSlurm(Batch):
    """Jobs in SLURM's queue, as one array; the launcher waits for them, and they do without it.

    Args:
        partition: and the rest as `sbatch` has them.
        array_parallelism: jobs at a time.
        additional_parameters: other options of `sbatch`, by name without the dashes.
        srun_args: options of `srun`, with their dashes.
    """

    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    nodes: int = 1
    mem_gb: float | None = None
    mem_per_cpu: str | None = None
    mem_per_gpu: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    gres: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    exclusive: bool | None = None
    dependency: str | None = None
    comment: str | None = None
    name: str = "rnnlab"
    array_parallelism: int = 256
    additional_parameters: dict[str, Any] | None = None
    srun_args: list[str] | None = None
    use_srun: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if shutil.which("sbatch") is None:
            raise ValueError(
                "there is no SLURM on this machine, sbatch is not found: hydra/launcher=local, joblib or "
                "submitit_local run jobs here"
            )

    def launch(self, sweep_dir: Path, jobs: Sequence[Job], run: RunJob, board: Board) -> None:
        """Put jobs into the queue, but for those that are there, and return when none of them is left.

        Raises:
            Refused: SLURM takes no jobs.
            KeyboardInterrupt: with what becomes of the jobs that are left; nothing happens to them.
        """
        left = {job.name: self._number(board, job) for job in self._submit(sweep_dir, jobs, run, board)}
        asked = time.monotonic()
        try:
            while left:
                board.update()
                left = {job: number for job, number in left.items() if board.story.state(job) not in ledger.OVER}
                if left and time.monotonic() - asked >= _ASK_S:
                    left = self._without_lost(left, sweep_dir, board)
                    asked = time.monotonic()
                time.sleep(_LOOK_S if left else 0)
        except KeyboardInterrupt as stop:
            arrays = sorted({number.partition("_")[0] for number in left.values()})
            told = f"{len(left)} jobs stay in SLURM's queue, `scancel {' '.join(arrays)}` takes them out"
            raise type(stop)(told) from None

    def _without_lost(self, left: dict[str, str], sweep_dir: Path, board: Board) -> dict[str, str]:
        """Return the jobs that are in the queue; what is not, and did not say why, was killed."""
        queue = _queue()
        board.update()  # a job writes its last line before it leaves the queue
        lost = [job for job, number in left.items() if queue is not None and number not in queue]
        for job in lost:
            reason = f"{_last_state(left[job])}; {sweep_dir / 'submitit' / f'{left[job]}_0_log.err'}"
            if _note_loss(board.story, job, reason):  # else another launcher is at it
                del left[job]
        return left

    def _submit(self, sweep_dir: Path, jobs: Sequence[Job], run: RunJob, board: Board) -> list[Job]:
        """Queue the jobs that are not in the queue, and return those that are there then.

        Their numbers are written down before any of them, or another launcher, can write or read.
        """
        from submitit import AutoExecutor

        options = {"python": self._python("${PYTHONPATH:+:$PYTHONPATH}"), "max_num_timeout": self.max_num_timeout}
        executor = AutoExecutor(sweep_dir.absolute() / "submitit", "slurm", **_prefixed(options))
        executor.update_parameters(**_prefixed(self._settings(), but=executor._valid_parameters()))
        with ledger.exclusive(sweep_dir) as file:
            board.story.update()
            news = ledger.read(sweep_dir, min(job.told for job in jobs))[0]
            over = {line["job"] for line in news if line["state"] in ledger.OVER}
            there = _queue()
            if there is None:
                raise Refused("SLURM does not say which jobs are in its queue, squeue fails: none are put there")
            jobs = [job for job in jobs if job.name not in over]
            new = [job for job in jobs if self._number(board, job) not in there]
            for start in range(0, len(new), _MOST_IN_ARRAY):
                part = new[start : start + _MOST_IN_ARRAY]
                with _refusals():
                    queued = executor.submit_array([self._submitted(sweep_dir, job, run) for job in part])
                code = {"code": self.code_dir.name} if self.code_dir else {}
                ledger.write(
                    file,
                    [
                        {"job": job.name, "state": "queued", "slurm": one.job_id, **code}
                        for job, one in zip(part, queued, strict=True)
                    ],
                )
        board.story.update()
        return jobs

    @staticmethod
    def _number(board: Board, job: Job) -> str:
        """Return the number under which SLURM knows a job, '' if it never did."""
        return board.story.jobs[job.name].get("slurm", "")

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        requeue = {"requeue" if self.preemption == "submitit" else "no-requeue": True}
        settings["additional_parameters"] = {**requeue, **(self.additional_parameters or {})}
        return settings


def _prefixed(settings: dict[str, Any], but: Collection[str] = ()) -> dict[str, Any]:
    """Return settings under the names that submitit has for those that only SLURM knows."""
    return {name if name in but else f"slurm_{name}": value for name, value in settings.items()}


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what SLURM says against a job into one line."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        yield
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        said = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()[-1:]
        raise Refused(f"SLURM takes no jobs: {' '.join(said)}") from error


def _queue() -> set[str] | None:
    """Return the numbers of this user's jobs in SLURM's queue, None where it does not answer."""
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(result.stdout.split()) if result.returncode == 0 else None


def _last_state(number: str) -> str:
    """Return how a job left SLURM's queue, as far as SLURM remembers."""
    result = subprocess.run(["scontrol", "show", "job", "--oneliner", number], capture_output=True, text=True)
    words = dict(word.partition("=")[::2] for word in result.stdout.split())
    if "JobState" not in words:
        return f"SLURM knows nothing of its job {number}"
    return f"SLURM job {number} {words['JobState']}, exit code and signal {words.get('ExitCode')}"


def _note_loss(story: ledger.Story, job: str, reason: str) -> bool:
    """Write down that a job has ended, unless it did so itself; tell whether it has."""
    return directory.note_end(story, job, "interrupted", told=(*ledger.OVER, "interrupted"), reason=reason)
