"""The SLURM that the tests start runs jobs, and leaves nothing behind, even if its owner is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cluster.slurm import running_in

pytestmark = pytest.mark.cluster

OWNER = """
import sys, time
from pathlib import Path
from tests.cluster.slurm import Slurm

with Slurm(Path(sys.argv[1])) as slurm:
    assert slurm.ask("sbatch", "--output=/dev/null", "--wrap", "sleep 600")
    while "R" not in slurm.ask("squeue", "-h", "-o", "%t"):
        time.sleep(0.1)
    print("runs", flush=True)
    time.sleep(600)
"""


def test_jobs_run(slurm):
    assert slurm.ask("srun", "echo", "here") == "here\n"


def test_a_killed_owner_leaves_nothing(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "runs\n"
        assert running_in(tmp_path)
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.communicate()
    deadline = time.monotonic() + 20
    while running_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_in(tmp_path) == []
