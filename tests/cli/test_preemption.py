"""A run that was stopped before its time limit puts its own SLURM job back; here SLURM is a script."""

import os
import signal
import subprocess
import sys

import pytest

from rnnlab.cli import preemption
from rnnlab.cli.errors import UsageError

SAYS, REFUSES = "", "echo 'Job is gone' >&2; exit 1"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Let `scontrol` write what it is asked, and then do as it is told here."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for key in [key for key in os.environ if key.startswith("SLURM_")]:
        monkeypatch.delenv(key)

    def write(then):
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho \"$@\" >> '{tmp_path}/asked'\n{then}\n")
        (tmp_path / "scontrol").chmod(0o755)
        return tmp_path / "asked"

    return write


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({"JOB_ID": "7"}, "7"),
        ({"JOB_ID": "9", "ARRAY_JOB_ID": "8", "ARRAY_TASK_ID": "3"}, "8_3"),
        ({"JOB_ID": "7", "PROCID": "1"}, None),
        ({}, None),
    ],
)
def test_one_process_asks_for_its_job(variables, job, scontrol, monkeypatch, capsys):
    for key, value in variables.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    asked = scontrol(SAYS)
    preemption.requeue()
    assert (asked.read_text() if asked.exists() else "") == (f"requeue {job}\n" if job else "")
    assert capsys.readouterr().out == (f"SLURM job {job} goes back into the queue\n" if job else "")


def test_a_refusal_is_told(scontrol, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    scontrol(REFUSES)
    preemption.requeue()
    assert "SLURM job 7 is not queued again: Job is gone\n" in capsys.readouterr().out


def test_what_is_said_is_said_before_the_end(scontrol, monkeypatch):
    """SLURM ends the process that asks, often before `scontrol` returns."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    scontrol("kill -KILL $PPID")
    asks = [sys.executable, "-c", "from rnnlab.cli import preemption; preemption.requeue()"]
    ended = subprocess.run(asks, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "SLURM job 7 goes back into the queue\n"


def test_a_run_that_could_not_go_on_is_refused():
    with pytest.raises(UsageError, match="needs resume=auto"):
        preemption.check({"preemption": "lightning", "resume": True})
