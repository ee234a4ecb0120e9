"""Callbacks that stand beside a task's own, and the options of debug: each does what it is for, also after a kill."""

import pytest
import torch

from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli.main import main
from rnnlab.tasks import AdditionTask
from tests.cli.conftest import TINY

WORDS = [*TINY, "trainer.max_epochs=4", "schedule=constant", "logger=csv"]


def load(run_dir, name):
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_equal(run_dir, other):
    for name in ("last", "best"):
        found, expected = load(run_dir, name), load(other, name)
        for key in {"state_dict", "current_model_state"} & expected.keys():
            assert found[key].keys() == expected[key].keys()
            assert all(torch.equal(value, found[key][part]) for part, value in expected[key].items())
    without_times = [
        [{key: value for key, value in row.items() if not key.startswith("time/")} for row in read_rows(path)]
        for path in (run_dir / "metrics.csv", other / "metrics.csv")
    ]
    assert without_times[0] == without_times[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("early_stopping", ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=10"]),
        ("ema", ["callbacks.ema.decay=0.9", "callbacks.ema.start=1"]),
        ("swa", ["callbacks.swa.start=1"]),
        ("lr_monitor", ["logger=tensorboard", "+trainer.log_every_n_steps=2"]),
        ("model_summary", []),
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(name, words, tmp_path, monkeypatch):
    command = ["train", *WORDS, f"callbacks=[none,{name}]", *words, "resume=auto"]
    assert main([*command, f"run_dir={tmp_path / 'whole'}"]) == 0
    step, calls = AdditionTask.training_step, []

    def failing(*args):
        calls.append(1)
        return step(*args) if len(calls) < 15 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(AdditionTask, "training_step", failing)
        stopped = main([*command, f"run_dir={tmp_path / 'run'}"])
    assert stopped == (0 if name == "early_stopping" else 1)
    if name == "early_stopping":  # killed between its last epoch and its final numbers
        (tmp_path / "run" / "metrics.json").unlink()
    assert main([*command, f"run_dir={tmp_path / 'run'}"]) == 0
    assert_equal(tmp_path / "run", tmp_path / "whole")
    if name == "early_stopping":
        assert len(read_rows(tmp_path / "run" / "metrics.csv")) == 2


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_what_is_kept_is_the_average_that_was_validated(name, tmp_path, monkeypatch):
    """Measured again, each checkpoint has the numbers of its epoch, before the first average as after it."""
    validated = {}
    measured = AdditionTask.on_validation_epoch_end

    def watched(task):
        if task.trainer.state.fn == "fit":
            validated[task.trainer.current_epoch] = {key: value.clone() for key, value in task.state_dict().items()}
        measured(task)

    monkeypatch.setattr(AdditionTask, "on_validation_epoch_end", watched)
    for epochs in (2, 4):
        run_dir = tmp_path / str(epochs)
        words = [f"callbacks=[none,{name}]", f"callbacks.{name}.start=2", f"trainer.max_epochs={epochs}"]
        assert main(["train", *WORDS, *words, f"run_dir={run_dir}"]) == 0
        for file in ("last", "best"):
            kept = load(run_dir, file)
            assert all(torch.equal(value, kept["state_dict"][key]) for key, value in validated[kept["epoch"]].items())
            same = all(torch.equal(v, kept["current_model_state"][k]) for k, v in kept["state_dict"].items())
            assert same == (kept["epoch"] < 2 or (name == "swa" and kept["epoch"] == 2))


def test_an_average_of_epochs_is_their_mean(tmp_path):
    """Of the two last epochs of four: their weights are those of runs of three and of four epochs without averages."""
    for epochs in (3, 4):
        words = ["callbacks=none", f"trainer.max_epochs={epochs}", f"run_dir={tmp_path / str(epochs)}"]
        assert main(["train", *WORDS, *words]) == 0
    words = ["callbacks=[none,swa]", "callbacks.swa.start=2", f"run_dir={tmp_path / 'swa'}"]
    assert main(["train", *WORDS, *words]) == 0
    third, fourth = (load(tmp_path / epochs, "last")["state_dict"] for epochs in ("3", "4"))
    for key, value in load(tmp_path / "swa", "last")["state_dict"].items():
        torch.testing.assert_close(value, (third[key] + fourth[key]) / 2)


def test_a_run_stops_when_it_does_not_improve(tmp_path, capsys):
    words = ["callbacks=[addition,early_stopping]", "callbacks.early_stopping.patience=2", "optim.lr=1e-30"]
    assert main(["train", *WORDS, "trainer.max_epochs=9", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert "stopped early: val/exact_match was at its best" in capsys.readouterr().out
    assert len(read_rows(tmp_path / "run" / "metrics.csv")) == 3


def test_rates_of_single_updates_reach_a_logger(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["callbacks=[none,lr_monitor]", "logger=tensorboard", "+trainer.log_every_n_steps=3"]
    assert main(["train", *WORDS, *words, f"run_dir={tmp_path / 'run'}"]) == 0
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("lr-Adam")] == list(range(2, 24, 3))
    assert [event.step for event in board.Scalars("train/loss_step")] == list(range(2, 24, 3))


def test_losses_of_single_updates_are_those_of_their_batches(tmp_path):
    """Also where gradients are gathered, of which Lightning hands on a share."""
    words = ["callbacks=none", "+trainer.log_every_n_steps=1", "trainer.max_epochs=1", "optim.lr=1e-9"]
    assert main(["train", *WORDS, *words, "trainer.accumulate_grad_batches=2", f"run_dir={tmp_path / 'run'}"]) == 0
    (epoch,) = read_rows(tmp_path / "run" / "metrics.csv")
    for row in read_rows(tmp_path / "run" / "steps.csv", "step"):
        assert row["train/loss_step"] == pytest.approx(epoch["train/loss"], rel=0.1)  # nothing is learnt


def test_a_summary_is_printed(tmp_path, capsys):
    words = ["callbacks=[none,model_summary]", "trainer.max_epochs=1"]
    assert main(["train", *WORDS, *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert "Trainable params" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["callbacks=[none,early_stoping]"], "did you mean 'early_stopping'"),
        (["callbacks=[none,early_stopping]", "callbacks.early_stopping.patience=0"], "patience must be an integer"),
        (["callbacks=[none,early_stopping]", "callbacks.early_stopping.min_delta=-1"], "min_delta must be a number"),
        (
            ["callbacks=[none,early_stopping]", "+callbacks.early_stopping.monitor=val/los"],
            "EarlyStop: it watches val/exact_match (max), which picks the best checkpoint",
        ),
        (["callbacks=[none,ema]", "callbacks.ema.decay=1.5"], "decay must lie between 0 and 1, got 1.5"),
        (["callbacks=[none,swa]", "callbacks.swa.start=-1"], "start must be an integer of at least 0, got -1"),
        (["callbacks=[none,swa,ema]"], "WeightAverage does not go with another WeightAverage"),
        (["callbacks=[none,lr_monitor]"], "LearningRateMonitor among the callbacks needs a logger"),
    ],
)
def test_refusals(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *WORDS, *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "steps"), [("fdr", [1]), ("profiler", [6]), ("limit", [5, 10]), ("overfit", [1, 2])])
def test_debug(name, steps, tmp_path):
    words = [word for word in TINY if not word.startswith("trainer.max_epochs")]
    words += ["trainer.max_epochs=2"] if name == "overfit" else []
    assert main(["train", *words, f"debug={name}", f"run_dir={tmp_path / 'run'}"]) == 0
    assert [row["step"] for row in read_rows(tmp_path / "run" / "metrics.csv")] == steps
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert "metrics.json" in files and "wandb" not in files
    assert ("fit-profile.txt" in files) == (name == "profiler")
