"""Runs of several processes on the command line: one writer, one end, and who has started them."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from rnnlab.cli import processes
from rnnlab.cli.errors import UsageError
from rnnlab.cli.main import main
from rnnlab.sweeps import ledger
from tests.cli.conftest import TINY
from tests.runs import PATIENCE_S, weights

TWO = [*TINY, "logger=csv", "trainer.devices=2", "trainer.strategy=ddp"]


def children_of(pid):
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "rnnlab.cli.follower"], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def epochs(run_dir):
    path = run_dir / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that was left alone."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", f"run_dir={run_dir}", *TWO, "trainer.max_epochs=40"]) == 0
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", processes.PARENT} & os.environ.keys()  # of the next run, too
    assert not torch.distributed.is_initialized() and not children_of(os.getpid())
    return run_dir


def test_one_process_writes_and_one_alone_measures_again(whole, tmp_path, capsys):
    assert epochs(whole) == 40 and (whole / "metrics.json").exists() and (whole / "figures").is_dir()
    assert (whole / "run.log").read_text(encoding="utf-8").count("epoch  40/40") == 1
    assert main(["evaluate", f"run_dir={whole}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["follower", "first"])
def test_a_process_that_is_killed_ends_all_and_the_run_goes_on_bit_for_bit(whole, victim, tmp_path):
    run_dir = tmp_path / "run"
    words = [sys.executable, "-m", "rnnlab", "train", f"run_dir={run_dir}", *TWO, "trainer.max_epochs=40"]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while epochs(run_dir) < 2:
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.02)
    (child,) = children_of(first.pid)
    os.kill(child if victim == "follower" else first.pid, signal.SIGKILL)
    _, told = first.communicate(timeout=PATIENCE_S)
    deadline = time.monotonic() + 30
    while is_alive(child):
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.1)
    if victim == "follower":
        assert first.returncode == 1
        assert "process 1 of 2 was ended by SIGKILL, and the run with it" in told and told.count("\n") == 1
    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 0
    torch.testing.assert_close(weights(run_dir), weights(whole), rtol=0, atol=0)


@pytest.mark.slow
def test_a_run_that_had_no_time_left_goes_on_bit_for_bit(whole, tmp_path):
    run = [f"run_dir={tmp_path / 'run'}", *TWO, "trainer.max_epochs=40"]
    assert main(["train", *run, "trainer.max_time=00:00:00:01"]) == 0
    assert 0 < epochs(tmp_path / "run") < 40 and (tmp_path / "run" / "metrics.json").exists()
    assert main(["train", *run, "trainer.max_time=null", "resume=true"]) == 0
    torch.testing.assert_close(weights(tmp_path / "run"), weights(whole), rtol=0, atol=0)


def test_what_cannot_share_is_refused(tmp_path, capsys):
    words = [*TWO, f"run_dir={tmp_path / 'run'}", "callbacks=[addition,gradient_flow]"]
    assert main(["train", *words]) == 2
    assert "GradientFlow sees one process alone: it needs trainer.devices=1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and not children_of(os.getpid())


def test_processes_that_torchrun_or_srun_starts_are_known(monkeypatch):
    assert processes.started_by() is None and processes.rank() == 0
    with monkeypatch.context() as patch:
        for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}.items():
            patch.setenv(name, value)
        patch.setenv("MASTER_PORT", "29500")
        assert processes.started_by() == "torchrun" and processes.rank() == 3
        trainer = {"accelerator": "cpu", "devices": 2}
        with pytest.raises(UsageError, match="torchrun has started 4 processes, and trainer.devices x .* is 2"):
            with processes.crew({"trainer": trainer}):
                pass
    given = {"JOB_ID": "17", "STEP_ID": "2", "STEP_NUM_TASKS": "4", "PROCID": "3", "LOCALID": "1", "NODEID": "1"}
    for name, value in {**given, "STEP_NODELIST": "gpu[08-09]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert processes.started_by() == "srun" and processes.rank() == 3
    assert processes._outside() == {
        **{"RANK": "3", "LOCAL_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "4"},
        **{"MASTER_ADDR": "gpu08", "MASTER_PORT": "16702"},
    }
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # a job of its own, as launchers start them
    assert processes.started_by() is None


def test_processes_are_counted_by_their_devices():
    assert processes.count({}) == processes.count({"devices": "auto", "accelerator": "cpu"}) == 1
    assert processes.count({"devices": 2, "num_nodes": 3}) == 6 and processes.count({"devices": [0, 3]}) == 2


TASK = """
import sys
from pathlib import Path
from rnnlab.cli.job import run_job
from rnnlab.sweeps.jobs import Job
sys.exit(run_job(Path(sys.argv[1]), Job("seed=0", sys.argv[2:])))
"""


def tasks(command):
    """Run a command in two processes as `srun` starts them, and return their exit codes."""
    job = {
        "JOB_ID": str(os.getpid()),
        "STEP_ID": "0",
        "STEP_NUM_TASKS": "2",
        "NODEID": "0",
        "STEP_NODELIST": "localhost",
    }
    given = {**os.environ, **{f"SLURM_{name}": value for name, value in job.items()}, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(command, env={**given, "SLURM_PROCID": number, "SLURM_LOCALID": number}) for number in "01"
    ]
    try:
        return [process.wait(timeout=PATIENCE_S) for process in both]
    finally:
        for process in both:
            process.kill()


@pytest.mark.slow
def test_the_tasks_of_one_job_train_together_and_end_together(tmp_path):
    """Also where nothing is left to train, which only the first one sees, and where it fails."""
    command = [sys.executable, "-c", TASK, str(tmp_path), *TWO]
    assert tasks(command) == [0, 0] and tasks(command) == [0, 0]
    assert [line["state"] for line in ledger.read(tmp_path)[0]] == ["started", "epoch", "epoch", "finished"]
    assert tasks([*command[:3], str(tmp_path / "broken"), *TWO, "optim.lr=-1"]) == [2, 2]  # seen before the first step
    train = [sys.executable, "-m", "rnnlab", "train", *TWO, f"run_dir={tmp_path / 'seed=0'}"]
    assert tasks([*train, "resume=true"]) == [0, 0]  # finished already
    assert tasks(train)[0] == 2  # it is not empty
    assert tasks([*train, "--cfg", "job"]) == [0, 0]
