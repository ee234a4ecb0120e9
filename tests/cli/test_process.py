"""What only a process of its own can show: Ctrl-C, and a screen that knows ASCII only."""

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import TINY

# Sends itself a signal, as Ctrl-C and `kill` do, in the second epoch.
INTERRUPTED = """
import os, signal, sys
from rnnlab.cli.main import main
from rnnlab.tasks import AdditionTask

step = AdditionTask.{step}
count = 0

def interrupted(*args):
    global count
    count += 1
    if count == 8:
        os.kill(os.getpid(), signal.{name})
    return step(*args)

AdditionTask.{step} = interrupted
sys.exit(main(sys.argv[1:]))
"""
ENDS = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "terminated"), "SIGUSR1": (138, "terminated")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "step", "logger"),
    [
        ("SIGINT", "training_step", "csv"),
        ("SIGINT", "training_step", "wandb"),
        ("SIGINT", "test_step", "csv"),
        ("SIGTERM", "training_step", "wandb"),
        ("SIGTERM", "test_step", "csv"),
        ("SIGUSR1", "training_step", "csv"),
    ],
)
def test_a_stopped_run_says_how_to_go_on(name, step, logger, tmp_path):
    run_dir, (exit_code, word) = tmp_path / "a run", ENDS[name]
    words = ["train", f"run_dir={run_dir}", "callbacks=none", f"logger={logger}", *TINY, "data.num_test=600"]
    code = INTERRUPTED.format(step=step, name=name)
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    last = f"rnnlab: {word}; go on with: rnnlab train 'run_dir={run_dir}' resume=true"
    assert (result.returncode, result.stderr.splitlines()[-1]) == (exit_code, last), result.stderr
    assert (run_dir / "checkpoints" / "last.ckpt").exists()
    assert not (run_dir / "metrics.json").exists() and not (run_dir / ".lock").exists()


@pytest.mark.slow
def test_samples_have_plain_marks_on_an_ascii_screen(tmp_path):
    words = ["train", f"run_dir={tmp_path / 'run'}", "logger=csv", *TINY]
    command = [sys.executable, "-m", "rnnlab.cli.main", *words]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if " Q " in line]
    assert len(lines) == 20 and all(" + " in line or " - " in line for line in lines)
