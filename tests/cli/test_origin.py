"""Weights of another run, and runs that only measure."""

import hashlib
import json
import shutil

import pytest
import torch
import yaml

from rnnlab.cli.main import main
from tests.cli.conftest import TINY

WORDS = ["logger=csv", "callbacks=none", *TINY]


def config_of(run_dir):
    return yaml.safe_load((run_dir / "config.yaml").read_text())


def numbers(run_dir, name="metrics"):
    return json.loads((run_dir / f"{name}.json").read_text())


def test_weights_of_a_run_are_measured_as_they_were(addition_run, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert main(["train", f"run_dir={run_dir}", *WORDS, f"init_from={addition_run}", "train=false"]) == 0
    former, found = numbers(addition_run), numbers(run_dir)
    assert found == {key: former[key] for key in found} and found.keys() >= {"val/loss", "test/exact_match"}
    assert not list(run_dir.rglob("*.ckpt")) and not (run_dir / "metrics.csv").exists()
    record = config_of(run_dir)["provenance"]["init_from"]
    best = addition_run / "checkpoints" / "best.ckpt"
    assert record["sha256"] == hashlib.sha256(best.read_bytes()).hexdigest()
    assert (record["path"], record["run"]) == (str(best), config_of(addition_run)["provenance"]["id"])
    assert main(["train", f"run_dir={run_dir}", *WORDS, f"init_from={addition_run}", "train=false", "resume=auto"]) == 0
    assert "is finished already" in capsys.readouterr().out


def test_training_goes_on_from_other_weights(addition_run, tmp_path, monkeypatch):
    """A rate of nothing keeps them; a run that is stopped before its first epoch begins with them again."""
    words = [f"init_from={addition_run / 'checkpoints' / 'last.ckpt'}", "schedule=constant", "optim.lr=1e-30"]
    command = ["train", f"run_dir={tmp_path / 'run'}", *WORDS, *words, "resume=auto"]
    with monkeypatch.context() as patch:
        patch.setattr("rnnlab.tasks.AdditionTask.training_step", lambda *_: 1 / 0)
        assert main(command) == 1
    assert main(command) == 0
    kept, found = (
        torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run_dir in (addition_run, tmp_path / "run")
    )
    assert all(torch.equal(value, found[key]) for key, value in kept.items())


def test_a_run_does_not_begin_twice_with_different_weights(addition_run, tmp_path, capsys, monkeypatch):
    former = shutil.copytree(addition_run, tmp_path / "former")
    command = ["train", f"run_dir={tmp_path / 'run'}", *WORDS, f"init_from={former}", "resume=auto"]
    with monkeypatch.context() as patch:
        patch.setattr("rnnlab.tasks.AdditionTask.training_step", lambda *_: 1 / 0)
        assert main(command) == 1
    path = former / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).add_(1.0)
    torch.save(checkpoint, path)
    path.with_name("best.ckpt.sha256").unlink()
    capsys.readouterr()
    assert main(command) == 2
    assert f"{path} is not the checkpoint that this run began with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["init_from=RUN", "rnn.hidden_size=9"], "weight_hh_l0 has shape (32, 8) and not (36, 9)"),
        (["init_from=RUN", "rnn=gru"], "weight_hh_l0 has shape (32, 8) and not (24, 8)"),
        (["init_from=RUN", "rnn.num_layers=2"], "weight_ih_l1 is missing"),
        (["init_from=nothing"], "init_from=nothing is neither a run directory nor a checkpoint"),
        (["init_from=."], "init_from=. holds no checkpoint"),
        (["train=false"], "train=false needs init_from=RUN, whose weights are measured, or run_dir=DIR of a run"),
        (["train=maybe"], "train must be true or false, got 'maybe'"),
        (["test=0"], "test must be true or false, got 0"),
        (["trainer.max_time=soon"], "trainer.max_time must be DD:HH:MM:SS"),
        (["+trainer.max_time={hours:1}"], "trainer.max_time must be DD:HH:MM:SS"),
    ],
)
def test_refusals(words, expected, addition_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("RUN", str(addition_run)) for word in words]
    assert main(["train", *WORDS, *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_run_is_measured_again(addition_run, tmp_path, capsys):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    assert main(["train", f"run_dir={run_dir}", "train=false", "rnn.hidden_size=8"]) == 0
    assert main(["train", f"run_dir={run_dir}", "train=false", "test=false"]) == 0
    former, found, other = numbers(run_dir), numbers(run_dir, "evaluate"), numbers(run_dir, "evaluate_2")
    assert all(former[key] == value for key, value in found["metrics"].items())
    assert other["metrics"] == {key: value for key, value in found["metrics"].items() if "test/" not in key}
    assert main(["train", f"run_dir={run_dir}", "train=false", "rnn.hidden_size=9"]) == 2
    assert "rnn.hidden_size is 8" in capsys.readouterr().err


def test_the_test_part_is_left_alone(series_run, tmp_path, monkeypatch):
    """Neither numbers nor baselines nor pictures are of it."""
    config = config_of(series_run)
    monkeypatch.setattr("rnnlab.tasks.ForecastingTask.test_step", lambda *_: 1 / 0)
    words = [word for word in config["provenance"]["overrides"] if not word.startswith("paths.run_dir")]
    assert main(["train", f"run_dir={tmp_path / 'run'}", *words, "test=false"]) == 0
    found = numbers(tmp_path / "run")
    assert not [key for key in found if "test/" in key] and "val/mse_last" in found
    assert [path.name for path in (tmp_path / "run" / "figures").iterdir()] == ["learning_curves.png"]


def test_other_vocabularies_are_told(char_run, text_file, tmp_path, capsys):
    words = [word for word in config_of(char_run)["provenance"]["overrides"] if not word.startswith("paths.run_dir")]
    path = tmp_path / "other.txt"
    text = text_file.read_text()
    path.write_text(text.replace(min(set(text) - set(" \n")), "€"))  # as many symbols, another order
    command = ["train", *words, "logger=csv", "train=false", f"init_from={char_run}"]
    assert main([*command, f"run_dir={tmp_path / 'same'}"]) == 0
    assert "note: characters" not in capsys.readouterr().out
    assert main([*command, f"run_dir={tmp_path / 'run'}", f"data.path={path}"]) == 0
    assert "note: characters of the data differ from those" in capsys.readouterr().out
