"""Who queues a run again that a batch system stops, the setting `preemption`, so that no two do.

`submitit` does so for jobs of a sweep, and is set there. `lightning` is for a script of one's own around
`srun rnnlab train ... resume=auto`: at SIGUSR1 the run is queued again by `scontrol`, as Lightning would do it, but
once it has ended in order, and without Lightning's checkpoints of its own. `none` leaves it to the user.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from rnnlab.callbacks.console import console
from rnnlab.cli.errors import UsageError

CHOICES = ("none", "lightning")


def check(config: dict[str, Any]) -> None:
    """Refuse a setting that would not do what it says.

    Raises:
        UsageError: it is none of the choices, or a run that is queued again could not go on.
    """
    preemption = config["preemption"]
    if preemption == "submitit":
        raise UsageError("preemption=submitit goes with a sweep: -m hydra/launcher=submitit_slurm")
    if preemption not in CHOICES:
        raise UsageError(f"preemption must be {' or '.join(CHOICES)}, got {preemption!r}")
    if preemption == "lightning" and config["resume"] != "auto":
        raise UsageError("preemption=lightning needs resume=auto and run_dir=DIR, where the run goes on each time")


def requeue() -> None:
    """Put this SLURM job back into the queue; one process does so for all of a job, and none outside SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    console.print(f"SLURM job {job} goes back into the queue")  # said first: SLURM may end this process at once
    try:
        result = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        refused = result.stderr.strip() if result.returncode else ""
    except OSError as error:
        refused = str(error)
    if refused:
        console.print(f"SLURM job {job} is not queued again: {refused}")
