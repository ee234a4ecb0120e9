"""`resume=auto`: one command that starts a run, goes on with it, or finds it finished."""

import random
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from rnnlab.callbacks.files import is_empty
from rnnlab.cli import rundir
from rnnlab.cli.main import main
from rnnlab.sweeps.lock import locked
from tests.covering import few
from tests.invariants.test_resume import WORDS, assert_equal_runs, kill

pytestmark = pytest.mark.invariant

# Calls one command until it is done, each time in a child that is killed within so many seconds; imports are shared.
STORM = """
import os, random, signal, sys, threading, time
import rnnlab.cli.fit
from rnnlab.cli.main import main

seed, kills, seconds, *words = sys.argv[1:]
draw = random.Random(int(seed))
for attempt in range(int(kills) + 1):
    child = os.fork()
    if not child:
        os._exit(main(["train", *words]))
    if attempt < int(kills):
        time.sleep(draw.uniform(0, float(seconds)))
        os.kill(child, signal.SIGKILL)
    code = os.waitpid(child, 0)[1]
    print(code, flush=True)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert main(["train", f"run_dir={run_dir}", "resume=auto", *WORDS]) == 0
    return run_dir


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_left_alone(undisturbed, tmp_path):
    seed = random.randrange(10**6)
    words = [f"run_dir={tmp_path / 'run'}", "resume=auto", *WORDS]
    command = [sys.executable, "-c", STORM, str(seed), "8", "2.5", *words]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, (seed, result.stdout, result.stderr)
    assert_equal_runs(tmp_path / "run", undisturbed)


# What there is when the process ends, each with what comes before: module, function, end of its second argument, call.
LEFT = {
    "a directory with a lock": ("rnnlab.cli.rundir", "_create_config", "", 1),
    "a part of config.yaml": ("os", "link", "config.yaml", 1),
    "config.yaml": ("rnnlab.cli.fit", "build", "", 1),
    "a log": ("rnnlab.tasks", "AdditionTask.training_step", "", 4),
    "a row of metrics.csv": ("rnnlab.callbacks.files", "os.replace", "last.ckpt", 1),
}


@pytest.mark.parametrize("left", few(LEFT, ("a part of config.yaml",)))
def test_whatever_is_left_before_the_first_checkpoint_is_gone_on_with(left, undisturbed, tmp_path):
    *call, count = LEFT[left]
    words = [f"run_dir={tmp_path / 'a' / 'run'}", "resume=auto", *WORDS]
    kill(call, count, words)
    assert main(["train", *words]) == 0
    assert_equal_runs(tmp_path / "a" / "run", undisturbed)


def test_a_finished_run_says_so_and_is_left_as_it_is(undisturbed, capsys):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    assert main(["train", f"run_dir={undisturbed}", "resume=auto", *WORDS]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before
    assert yaml.safe_load((undisturbed / "config.yaml").read_text())["resume"] is False


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rnn.hidden_size=9"], "rnn.hidden_size is 8"),
        (["data.num_test=60"], "data.num_test is 50"),
        (["logger=wandb"], "logger.wandb._target_ is None"),
        (["trainer.max_epochs=3"], "trainer.max_epochs was 4, got 3: a run that goes on may become longer"),
        (["trainer.max_epochs=5"], "the schedule one_cycle laid out its rates"),
    ],
)
def test_another_configuration_is_refused_whole(words, expected, undisturbed, capsys):
    """Also what is only another default: the command has to be one that could have started the run."""
    assert main(["train", f"run_dir={undisturbed}", "resume=auto", *WORDS, *words]) == 2
    said = capsys.readouterr().err
    assert expected in said and len(said.splitlines()) == 1


def test_a_default_that_differs_is_another_configuration(undisturbed, capsys):
    words = [word for word in WORDS if not word.startswith("rnn.dropout")]
    assert main(["train", f"run_dir={undisturbed}", "resume=auto", *words]) == 2
    assert "rnn.dropout is 0.2" in capsys.readouterr().err


@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_at_work_is_said_to_be_so(exists, undisturbed, tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    if exists:
        (run_dir / "config.yaml").write_bytes((undisturbed / "config.yaml").read_bytes())
    with locked(run_dir):
        assert main(["train", f"run_dir={run_dir}", "resume=auto", *WORDS]) == 2
    said = capsys.readouterr().err
    assert said == f"rnnlab: another process is training in run_dir={run_dir}\n"


def test_a_run_that_another_process_starts_and_ends_in_the_meantime(undisturbed, tmp_path, monkeypatch, capsys):
    run_dir, claim = tmp_path / "run", rundir.claim

    def late(config):
        shutil.copytree(undisturbed, run_dir)  # between our look and our claim
        return claim(config)

    monkeypatch.setattr(rundir, "claim", late)
    assert main(["train", f"run_dir={run_dir}", "resume=auto", *WORDS]) == 0
    assert "is finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_processes_that_start_at_once_train_once(undisturbed, tmp_path):
    words = ["train", f"run_dir={tmp_path / 'run'}", "resume=auto", *WORDS]

    def call(_):
        return subprocess.run([sys.executable, "-m", "rnnlab", *words], capture_output=True, text=True)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(call, range(3)))
    refusals = [result for result in results if result.returncode != 0]
    assert len(refusals) < 3 and {result.returncode for result in refusals} <= {2}
    assert all(re.fullmatch(r"rnnlab: another process is training in run_dir=\S+\n", r.stderr) for r in refusals)
    assert len(re.findall("rnnlab train", (tmp_path / "run" / "run.log").read_text())) == 1
    assert_equal_runs(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["resume=maybe"], "resume must be true, false or auto, got 'maybe'"),
        (["resume=1"], "resume must be true, false or auto, got 1"),
        (["resume=auto"], "resume=auto needs run_dir=DIR, where the run is, or is to be"),
        (["resume=true"], "resume=true needs run_dir=DIR, the run to go on with"),
    ],
)
def test_bad_words(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *WORDS, *words]) == 2
    assert capsys.readouterr().err == f"rnnlab: {expected}\n"
    assert is_empty(tmp_path)


def test_a_directory_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "mine").write_text("")
    assert main(["train", f"run_dir={tmp_path}", "resume=auto", *WORDS]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
