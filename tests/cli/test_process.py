"""What only a process of its own can show: Ctrl-C, and a screen that knows ASCII only."""

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import TINY
from tests.covering import few

# Sends itself SIGINT, as Ctrl-C does, in the second epoch.
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
        os.kill(os.getpid(), signal.SIGINT)
    return step(*args)

AdditionTask.{step} = interrupted
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("step", "logger"),
    few(
        [("training_step", "csv"), ("training_step", "wandb"), ("test_step", "csv")],
        [("training_step", "csv")],
        several=True,
    ),
)
def test_ctrl_c_says_so_and_exits_130(step, logger, tmp_path):
    words = ["train", f"run_dir={tmp_path / 'run'}", "callbacks=none", f"logger={logger}", *TINY, "data.num_test=600"]
    code = INTERRUPTED.format(step=step)
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (130, "rnnlab: interrupted"), result.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_samples_have_plain_marks_on_an_ascii_screen(tmp_path):
    words = ["train", f"run_dir={tmp_path / 'run'}", "logger=csv", *TINY]
    command = [sys.executable, "-m", "rnnlab.cli.main", *words]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if " Q " in line]
    assert len(lines) == 20 and all(" + " in line or " - " in line for line in lines)
