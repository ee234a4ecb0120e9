"""Launchers run the same jobs as `local`, and say what they cannot do; tests/cluster has what only a cluster shows."""

import json
import os
import shutil
import signal
import sys

import pytest

from rnnlab.cli.main import main
from rnnlab.cli.sweeping import compose_first
from rnnlab.sweeps import ledger
from rnnlab.sweeps.batch import SubmititLocal
from rnnlab.sweeps.board import Board
from rnnlab.sweeps.jobs import Job, Refused
from rnnlab.sweeps.ledger import Story
from rnnlab.sweeps.lock import JOB_LOCK, locked
from rnnlab.sweeps.pool import Joblib
from tests.cli.conftest import TINY
from tests.covering import few

SMALL = ["logger=csv", "callbacks=none", *TINY]


def sweep(sweep_dir, *words):
    return ["train", "-m", f"sweep_dir={sweep_dir}", *SMALL, *words]


@pytest.mark.parametrize("name", few(["joblib", "submitit_local"], ["joblib"]))
def test_a_failed_job_reaches_the_caller(name, tmp_path, capsys):
    assert main(sweep(tmp_path / "s", "data.batch_size=64,4000", f"hydra/launcher={name}", "max_jobs=2")) == 1
    captured, story = capsys.readouterr(), Story(tmp_path / "s")
    assert [story.state(f"data.batch_size={size}") for size in (64, 4000)] == ["finished", "failed"]
    assert "2 jobs: 1 finished, 1 failed" in captured.out
    assert "rnnlab: data.batch_size=4000 failed: " in captured.err.splitlines()[-1]
    assert "Traceback" in (tmp_path / "s" / "logs" / "data.batch_size=4000.log").read_text()


@pytest.mark.parametrize(
    ("launcher", "key"),
    [
        ("local", "max_jobs"),
        ("joblib", "n_jobs"),
        ("submitit_local", "max_jobs"),
        ("submitit_slurm_node", "array_parallelism"),
    ],
)
def test_max_jobs_is_said_to_every_launcher(launcher, key):
    for how in ([f"hydra/launcher={launcher}", "max_jobs=3"], ["max_jobs=3", f"hydra/launcher={launcher}"]):
        assert compose_first([], how)[1]["launcher"][key] == 3


@pytest.mark.slow
def test_queued_jobs_run_a_copy_of_the_code(tmp_path):
    assert main(sweep(tmp_path / "s", "hydra/launcher=submitit_local")) == 0
    (code,) = (tmp_path / "s" / "code").iterdir()
    assert (code / "conf" / "train.yaml").exists() and (code / "rnnlab_kernels").is_dir()
    assert json.loads((code / "git.json").read_text()).keys() == {"git_commit", "git_dirty"}
    (pickle,) = (tmp_path / "s" / "submitit").glob("*_submitted.pkl")
    assert "finished" == Story(tmp_path / "s").state("run") and pickle.stat().st_size < 2000


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["hydra/launcher=submitit_sulrm"],
            "no hydra/launcher is called 'submitit_sulrm', did you mean 'submitit_slurm'",
        ),
        (["hydra/launcher=submitit_local", "hydra.launcher.timeout=1"], "did you mean 'hydra.launcher.timeout_min'"),
        (["hydra/launcher=submitit_local", "preemption=lightning"], "preemption must be submitit or none in a sweep"),
        (["hydra/launcher=submitit_local", "code=old"], "code must be copy or clean or live"),
        (["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=0"], "signal_delay_s=30 must be less than"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "n_jobs must be 1 or more"),
    ],
)
def test_bad_input_writes_nothing(words, expected, tmp_path, capsys):
    refused(sweep(tmp_path / "s", *words), expected, tmp_path, capsys)


def test_no_slurm_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    refused(
        sweep(tmp_path / "s", "hydra/launcher=submitit_slurm"), "there is no SLURM on this machine", tmp_path, capsys
    )


@pytest.mark.parametrize(("package", "launcher"), [("joblib", "joblib"), ("submitit", "submitit_local")])
def test_the_extra_is_named(package, launcher, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    refused(sweep(tmp_path / "s", f"hydra/launcher={launcher}"), 'pip install "rnnlab[sweep]"', tmp_path, capsys)


def test_processes_that_end_before_they_have_begun(tmp_path):
    """As those do that cannot import what a job needs, or have no memory for it."""
    jobs = [Job("seed=0", []), Job("seed=1", [])]
    for job in jobs:
        ledger.append(tmp_path, job.name, "queued", overrides=[])
    story = Story(tmp_path)
    with pytest.raises(Refused, match=f"processes end before they have begun with a job; logs are in {tmp_path}"):
        Joblib(1).launch(tmp_path, jobs, die, Board(story, list(story.jobs)))


def die(sweep_dir, job):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_leaves_the_jobs_of_another_launcher_alone(tmp_path):
    (tmp_path / "seed=0").mkdir()
    for name in ("seed=0", "seed=1"):
        ledger.append(tmp_path, name, "queued", overrides=[])
    story = Story(tmp_path)
    with locked(tmp_path / "seed=0", JOB_LOCK):
        Joblib(1).launch(tmp_path, [Job("seed=1", [])], work_beside_another, Board(story, list(story.jobs)))
    assert {name: line["state"] for name, line in Story(tmp_path).jobs.items()} == {
        "seed=0": "started",
        "seed=1": "finished",
    }


def work_beside_another(sweep_dir, job):
    ledger.append(sweep_dir, "seed=0", "started")  # as the other one does just now
    ledger.append(sweep_dir, job.name, "finished")
    return 0


def test_submitit_waits_for_the_job_of_another_launcher(tmp_path, monkeypatch):
    """Its own process may end meanwhile, by its time limit."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "seed=0").mkdir()
    for state in ("queued", "started"):
        ledger.append(tmp_path, "seed=0", state, overrides=[])
    story = Story(tmp_path)
    with locked(tmp_path / "seed=0", JOB_LOCK):
        SubmititLocal(code="live").launch(tmp_path, [Job("seed=0", [])], die_at_first, Board(story, list(story.jobs)))
    assert [line["state"] for line in ledger.read(tmp_path)[0]] == ["queued", "started", "finished"]


def die_at_first(sweep_dir, job):
    try:
        (sweep_dir / "first").touch(exist_ok=False)
    except FileExistsError:
        ledger.append(sweep_dir, job.name, "finished")  # as the other one does meanwhile
        return 0
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["preemption=submitit"], "goes with a sweep"),
        (["preemption=slurm"], "preemption must be none or lightning"),
        (["preemption=lightning"], "needs resume=auto"),
    ],
)
def test_preemption_of_a_single_run(words, expected, tmp_path, capsys):
    refused(["train", f"run_dir={tmp_path / 's'}", *SMALL, *words], expected, tmp_path, capsys)


def refused(words, expected, tmp_path, capsys):
    usr1 = signal.getsignal(signal.SIGUSR1)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and expected in captured.err
    assert not (tmp_path / "s").exists() and signal.getsignal(signal.SIGUSR1) == usr1
