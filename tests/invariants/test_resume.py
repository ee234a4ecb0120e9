"""A run killed with SIGKILL and resumed ends with the weights of one that was left alone, bit for bit on CPU."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from rnnlab.callbacks import LastAndBest
from rnnlab.cli.main import main
from rnnlab.tasks import AdditionTask
from tests.covering import few
from tests.runs import same_weights

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
from rnnlab.tasks import AdditionTask
sys.exit(main(["train", *words]))
"""

# Six batches an epoch. Name of the moment: module, function, end of its second argument, which call, epochs on record.
REPLACE = ("rnnlab.callbacks.files", "os.replace")
KILL_POINTS = {
    "first_epoch": ("rnnlab.tasks", "AdditionTask.training_step", "", 4, 0),
    "third_epoch": ("rnnlab.tasks", "AdditionTask.training_step", "", 16, 2),
    "before_the_first_checkpoint": (*REPLACE, "last.ckpt", 1, 1),
    "between_record_and_checkpoint": (*REPLACE, "last.ckpt", 3, 3),
    "between_checkpoint_and_checksum": (*REPLACE, "last.ckpt.sha256", 6, 3),
    "before_the_final_numbers": (*REPLACE, "metrics.json", 1, 4),
}

# Training step of the task, keys that take a file, words. All draw dropout masks; the first carries its state, the last
# draws which symbols are true ones.
SMALL = ["logger=csv", "callbacks=none", "trainer.max_epochs=3", "trainer.accelerator=cpu"]
TEXT_RUNS = {
    "characters": (
        "CharLMTask.training_step",
        [("data.path", "text")],
        ["experiment=char_lm/tinyshakespeare", "rnn.hidden_size=8", "data.batch_size=5", "data.tbptt_steps=80"],
    ),
    "plateau": (
        "CharLMTask.training_step",
        [("data.path", "text")],
        [
            *("experiment=char_lm/tinyshakespeare", "rnn.hidden_size=8", "data.batch_size=5", "data.tbptt_steps=80"),
            *("schedule=plateau", "schedule.patience=0", "optim.lr=1e-7"),
        ],
    ),
    "labels": (
        "CharLMTask.training_step",
        [("data.path", "labelled")],
        [
            *("experiment=char_lm/labelled", "data=labelled_text", "data.tbptt_steps=7", "data.batch_size=40"),
            *("rnn.hidden_size=8", "model.dropout=0.2"),
        ],
    ),
    "tags": (
        "TaggingTask.training_step",
        [("data.train", "conllu"), ("data.val", "conllu")],
        ["experiment=pos_tagging/ewt", "rnn.hidden_size=4", "model.char_hidden=4", "data.max_tokens=24"],
    ),
    "pairs": (
        "Seq2SeqTask.training_step",
        [("data.train", "pairs")],
        [
            *("experiment=seq2seq/dates", "data=pairs", "rnn.hidden_size=4", "data.max_tokens=80"),
            *("model.dropout=0.2", "task.last_teacher_forcing=0.5"),
        ],
    ),
    "sounds": (
        "CTCTask.training_step",
        [],
        [
            *("experiment=ctc/morse", "data.num_train=60", "data.num_val=4", "data.num_test=4", "data.max_frames=700"),
            *("data.min_speed=25", "data.max_symbols=4", "rnn.hidden_size=4", "rnn.dropout=0.2", "model.dropout=0.2"),
            "model.band_dropout=0.1",
        ],
    ),
    "beats": (
        "DelineationTask.training_step",
        [],
        [
            *("experiment=ecg/delineation", "rnn.hidden_size=4", "model.dropout=0.2", "data.num_train=60"),
            *("data.batch_size=4", "data.seconds=3", "data.num_val=4", "data.num_test=4"),
        ],
    ),
    "series": (
        "SeriesForecastingTask.training_step",
        [("data.path", "table")],
        [
            *("experiment=forecasting/table", "data.window=12", "data.val_size=12", "data.test_size=12"),
            *("data.batch_size=2", "rnn.hidden_size=4", "model.dropout=0.2", "model.series_size=2"),
        ],
    ),
}


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


@pytest.mark.parametrize("moment", few(KILL_POINTS, ("third_epoch",)))
def test_killed_run_resumes_to_the_same_weights(moment, uninterrupted, tmp_path):
    *call, count, num_rows = KILL_POINTS[moment]
    run_dir = tmp_path / "killed"
    words = [f"run_dir={run_dir}", *WORDS]
    kill(call, count, words)
    assert not (run_dir / "metrics.json").exists()
    assert len(read_rows(run_dir)) == num_rows

    assert main(["train", f"run_dir={run_dir}", "resume=true"]) == 0
    assert_equal_runs(run_dir, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT_RUNS)
def test_killed_runs_on_text_resume_to_the_same_weights(name, tmp_path, request):
    step, files, words = TEXT_RUNS[name]
    given = {kind: request.getfixturevalue(f"{kind}_file") for _, kind in files}
    words = [*words, *(f"{key}={given[kind]}" for key, kind in files), *SMALL]
    assert main(["train", f"run_dir={tmp_path / 'whole'}", *words]) == 0
    kill(("rnnlab.tasks", step, ""), count=30, words=[f"run_dir={tmp_path / 'killed'}", *words])
    assert 0 < len(read_rows(tmp_path / "killed")) < 3
    assert main(["train", f"run_dir={tmp_path / 'killed'}", "resume=true"]) == 0
    assert_equal_runs(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 16])
def test_killed_runs_of_so_many_steps_resume_to_the_same_weights(count, tmp_path):
    words = [*WORDS, "trainer.max_epochs=-1", "+trainer.max_steps=20"]
    assert main(["train", f"run_dir={tmp_path / 'whole'}", *words]) == 0
    step = ("rnnlab.tasks", "AdditionTask.training_step", "")
    kill(step, count, [f"run_dir={tmp_path / 'killed'}", *words])
    assert main(["train", f"run_dir={tmp_path / 'killed'}", "resume=true"]) == 0
    assert_equal_runs(tmp_path / "killed", tmp_path / "whole")


def test_slurm_changes_nothing(uninterrupted, tmp_path, monkeypatch):
    """Lightning's own checkpoint of a requeued job is neither written nor read, and its signals are left alone."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    (tmp_path / "run" / "hpc_ckpt_1.ckpt").write_bytes(b"of a requeued job")
    for name, value in {"NTASKS": "1", "JOB_ID": "7", "JOB_NAME": "job", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    usr1 = []
    monkeypatch.setattr(
        LastAndBest, "on_fit_end", lambda *_: usr1.append(signal.getsignal(signal.SIGUSR1)), raising=False
    )
    assert main(["train", f"run_dir={tmp_path / 'run'}", "resume=true"]) == 0
    assert_equal_runs(tmp_path / "run", uninterrupted)
    assert usr1 and all(getattr(one, "__module__", None) == "rnnlab.cli.stopping" for one in usr1)


@pytest.mark.slow
def test_a_longer_training_is_that_of_a_run_that_was_longer_from_the_start(tmp_path, capsys):
    words = [*WORDS, "schedule=constant"]
    for name, epochs in {"long": 4, "short": 2}.items():
        assert main(["train", f"run_dir={tmp_path / name}", *words, f"trainer.max_epochs={epochs}"]) == 0
    again = ["train", f"run_dir={tmp_path / 'short'}", "resume=true"]
    assert main([*again, "trainer.max_epochs=4"]) == 0
    assert_equal_runs(tmp_path / "short", tmp_path / "long")
    assert main(again) == 0 and "is finished already" in capsys.readouterr().out
    assert main([*again, "trainer.max_epochs=3"]) == 2
    assert "trainer.max_epochs was 4, got 3" in capsys.readouterr().err


def kill(call, count, words):
    """Train in a process that kills itself before the given call."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, *call, str(count), *words], capture_output=True, text=True
    )
    assert result.returncode == -signal.SIGKILL, result.stderr


def assert_equal_runs(run_dir, uninterrupted):
    for name in ("last", "best"):
        assert same_weights(uninterrupted, run_dir, name), name
    assert read_rows(run_dir) == read_rows(uninterrupted)
    expected, found = (json.loads((path / "metrics.json").read_text()) for path in (uninterrupted, run_dir))
    of_the_process = ("time/", "memory/")
    assert {k: v for k, v in expected.items() if not k.startswith(of_the_process)} == {
        k: v for k, v in found.items() if not k.startswith(of_the_process)
    }
    assert not list(run_dir.rglob(".*.part"))


def test_resume_accepts_the_repeated_command(uninterrupted, capsys):
    assert main(["train", f"run_dir={uninterrupted}", *WORDS, "resume=true"]) == 0
    assert "is finished already" in capsys.readouterr().out


class Clock:
    """Time that passes with training steps only, a second each."""

    def __init__(self, monkeypatch):
        self.now, step = 0, AdditionTask.training_step

        def stepped(*args):
            self.now += 1
            return step(*args)

        monkeypatch.setattr(AdditionTask, "training_step", stepped)
        monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.mark.parametrize("how", ["true", "auto"])
@pytest.mark.parametrize(
    ("first", "then", "epochs"),
    [(15, "00:00:01:00", 2), (4, "00:00:01:00", 0), (18, "null", 3)],
    ids=["within an epoch", "within the first epoch", "with an epoch"],
)
def test_a_run_that_had_no_time_left_goes_on(first, then, epochs, how, uninterrupted, tmp_path, monkeypatch, capsys):
    """It ends with what whole epochs there were, or with what it had of the first one; six steps an epoch."""
    Clock(monkeypatch)
    run_dir = tmp_path / "run"
    command = ["train", f"run_dir={run_dir}", *WORDS]
    assert main([*command, f"trainer.max_time=00:00:00:{first:02d}"]) == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["best_epoch"] <= metrics["epochs"] == len(read_rows(run_dir)) == max(epochs, 1)
    assert ("is not kept" in capsys.readouterr().out) == (first == 15)
    kept = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] + 1 == max(epochs, 1)
    assert main([*command, f"trainer.max_time=00:00:00:{first:02d}", f"resume={how}"]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert main([*command, f"trainer.max_time={then}", f"resume={how}"]) == 0
    assert_equal_runs(run_dir, uninterrupted)
    assert main([*command, f"trainer.max_time={then}", f"resume={how}"]) == 0
    assert "is finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_nothing_tells_of_an_epoch_that_is_not_kept(tmp_path, monkeypatch):
    """Though it begins a new amount of pruning, at which the search for the best epoch begins anew."""
    pruned = ["callbacks.prune.start=2", "callbacks.prune.amounts=[0.5]", "callbacks.samples.num_samples=1"]
    steps = ["+trainer.log_every_n_steps=1", "schedule=constant"]
    words = [*WORDS, "callbacks=[addition,prune,gradient_flow]", *pruned, *steps]
    two, four, run = ([f"run_dir={tmp_path / name}", *words] for name in ("two", "four", "run"))
    assert main(["train", *two, "trainer.max_epochs=2"]) == 0
    assert main(["train", *four]) == 0
    Clock(monkeypatch)
    tables = []
    monkeypatch.setattr("rnnlab.callbacks.table.log_table", lambda *given: tables.append(given[-1]))
    assert main(["train", *run, "trainer.max_time=00:00:00:15"]) == 0
    assert {row[0] for row in tables[-1]} == {0, 1}
    assert_equal_records(tmp_path / "run", tmp_path / "two")
    assert main(["train", *run, "trainer.max_time=null", "resume=true"]) == 0
    assert_equal_records(tmp_path / "run", tmp_path / "four")


def assert_equal_records(run_dir, other):
    assert_equal_runs(run_dir, other)
    for name in ("gradient_flow.csv", "pruning.csv", "steps.csv"):
        assert (run_dir / name).read_text() == (other / name).read_text(), name


@pytest.mark.slow
def test_a_compiled_run_goes_on(tmp_path):
    words = [*WORDS, "schedule=constant", "compile={backend:aot_eager}"]
    whole, run = (["train", f"run_dir={tmp_path / name}", *words] for name in ("whole", "run"))
    assert main([*whole, "trainer.max_epochs=3"]) == 0
    assert main([*run, "trainer.max_epochs=1"]) == 0
    assert main([*run, "trainer.max_epochs=3", "resume=true"]) == 0
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_ended_within_an_epoch_by_its_steps_cannot_become_longer(tmp_path, capsys):
    command = ["train", f"run_dir={tmp_path / 'run'}", *WORDS, "trainer.max_epochs=-1", "schedule=constant"]
    assert main([*command, "+trainer.max_steps=8"]) == 0
    assert main([*command, "+trainer.max_steps=20", "resume=true"]) == 2
    assert "trainer.max_steps was 8, got 20: the run ended within an epoch" in capsys.readouterr().err
