"""A run killed with SIGKILL and resumed ends with the weights of one that was left alone, bit for bit on CPU."""

import csv
import json
import signal
import subprocess
import sys

import pytest
import torch

from rnnlab.cli.main import main

pytestmark = pytest.mark.invariant

# Dropout draws random numbers in training, so the test also covers generator states.
WORDS = [
    "logger=csv",
    "callbacks=none",
    "data.digits=2",
    "data.num_questions=400",
    "data.num_test=50",
    "data.batch_size=64",
    "rnn.hidden_size=8",
    "rnn.num_layers=2",
    "rnn.dropout=0.2",
    "trainer.max_epochs=4",
    "trainer.accelerator=cpu",
]

# Runs the command line in a process that kills itself just before the given call of a function.
KILLED_RUN = """
import importlib, os, signal, sys

place, name, wanted, count, *words = sys.argv[1:]
owner = importlib.import_module(place)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), 0

def killed(*args, **kwargs):
    global calls
    calls += not wanted or str(args[1]).endswith(wanted)
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

setattr(owner, name, killed)
from rnnlab.cli.main import main
sys.exit(main(["train", *words]))
"""

# Six batches an epoch. Name of the moment: module, function, end of its second argument, which call, epochs on record.
REPLACE = ("rnnlab.callbacks.files", "os.replace")
KILL_POINTS = {
    "first_epoch": ("rnnlab.tasks", "AdditionTask.training_step", "", 4, 0),
    "third_epoch": ("rnnlab.tasks", "AdditionTask.training_step", "", 16, 2),
    "before_the_first_checkpoint": (*REPLACE, "last.ckpt", 1, 1),
    "between_record_and_checkpoint": (*REPLACE, "last.ckpt", 3, 3),
    "before_the_final_numbers": (*REPLACE, "metrics.json", 1, 4),
}


def weights(run_dir, name="last"):
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def read_rows(run_dir):
    path = run_dir / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert main(["train", f"run_dir={run_dir}", *WORDS]) == 0
    return run_dir


@pytest.mark.parametrize("moment", KILL_POINTS)
def test_killed_run_resumes_to_the_same_weights(moment, uninterrupted, tmp_path):
    *call, count, num_rows = KILL_POINTS[moment]
    run_dir = tmp_path / "killed"
    words = [f"run_dir={run_dir}", *WORDS]
    result = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, *call, str(count), *words], capture_output=True, text=True
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not (run_dir / "metrics.json").exists()
    assert len(read_rows(run_dir)) == num_rows

    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 0
    for name in ("last", "best"):
        expected, found = weights(uninterrupted, name), weights(run_dir, name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(value, found[key]) for key, value in expected.items()), name
    assert read_rows(run_dir) == read_rows(uninterrupted)
    expected, found = (json.loads((path / "metrics.json").read_text()) for path in (uninterrupted, run_dir))
    assert {k: v for k, v in expected.items() if not k.startswith("time/")} == {
        k: v for k, v in found.items() if not k.startswith("time/")
    }
    assert not list(run_dir.rglob(".*.part"))


def test_resume_accepts_the_repeated_command(uninterrupted, capsys):
    assert main(["train", f"run_dir={uninterrupted}", *WORDS, "resume=true"]) == 0
    assert "is finished already" in capsys.readouterr().out
