"""TensorBoard and MLflow beside W&B: what they hold of a run, also of one that was stopped and went on."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from lightning.pytorch.loggers import MLFlowLogger

from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli.main import main
from rnnlab.tasks import AdditionTask
from tests.cli.conftest import TINY
from tests.cli.test_wandb import read_records

WORDS = ["logger=[tensorboard,mlflow,wandb]", *TINY, "trainer.max_epochs=3", "+trainer.log_every_n_steps=2"]
EPOCHS, STEPS = ("train/loss", "val/loss", "val/exact_match", "time/epoch_s", "train/lr"), ("train/loss_step",)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run that fails in its second epoch and is gone on with."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", f"run_dir={run_dir}", "resume=auto", "logger.mlflow.log_model=true", "tags=[trial]"]
    with pytest.MonkeyPatch.context() as patch:
        step, calls = AdditionTask.training_step, []

        def failing(*args):
            calls.append(1)
            return step(*args) if len(calls) < 10 else 1 / 0

        patch.setattr(AdditionTask, "training_step", failing)
        assert main([*words, *WORDS]) == 1
    (run,) = runs_of(run_dir)
    assert run.info.status == "FAILED"
    assert main([*words, *WORDS]) == 0
    return run_dir


def client_of(run_dir):
    return MLFlowLogger(tracking_uri=f"sqlite:///{run_dir / 'mlflow.db'}")._mlflow_client


def runs_of(run_dir):
    client = client_of(run_dir)
    return client.search_runs([client.get_experiment_by_name("rnnlab").experiment_id])


@pytest.fixture(scope="module")
def board(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run_dir / "tensorboard")).Reload()


def expected(run_dir, key):
    """Return the points of a curve, by the files of the run."""
    rows = read_rows(run_dir / "steps.csv", "step") if key in STEPS else read_rows(run_dir / "metrics.csv")
    return [(int(row["step"]) - 1, row[key]) for row in rows]


def test_steps_are_on_record_and_agree_with_epochs(run_dir):
    steps, epochs = read_rows(run_dir / "steps.csv", "step"), read_rows(run_dir / "metrics.csv")
    assert [row["step"] for row in steps] == list(range(2, 19, 2)) and len(epochs) == 3
    assert [row["train/lr"] for row in epochs] == [row["train/lr_step"] for row in steps if row["step"] % 6 == 0]


@pytest.mark.parametrize("key", [*EPOCHS, *STEPS])
def test_curves_are_whole_and_without_doubles(key, run_dir, board):
    points = expected(run_dir, key)
    assert [(event.step, event.value) for event in board.Scalars(key)] == [(s, pytest.approx(v)) for s, v in points]
    (run,) = runs_of(run_dir)
    history = sorted(
        {(point.step, point.value) for point in client_of(run_dir).get_metric_history(run.info.run_id, key)}
    )
    assert [step for step, _ in history] == [step for step, _ in points] or key.startswith("time/")
    (path,) = max(run_dir.glob("wandb/offline-run-*"), key=os.path.getmtime).glob("*.wandb")
    rows = [{"/".join(i.nested_key) or i.key: i.value_json for i in r.history.item} for r in read_records(path)]
    shown = sorted({(int(row["trainer/global_step"]), float(row[key])) for row in rows if key in row})
    assert shown == [(step, pytest.approx(value)) for step, value in points]


def test_pictures_settings_and_final_numbers_are_there(run_dir, board):
    final = json.loads((run_dir / "metrics.json").read_text())
    assert "figures/learning_curves" in board.Tags()["images"] and "samples/text_summary" in board.Tags()["tensors"]
    assert board.Scalars("final/test/loss")[-1].value == pytest.approx(final["test/loss"])
    assert yaml.safe_load((run_dir / "tensorboard" / "hparams.yaml").read_text())["data"]["digits"] == 2
    (run,), client = runs_of(run_dir), client_of(run_dir)
    assert run.info.status == "FINISHED" and run.data.params["data/digits"] == "2"
    assert run.data.metrics["final/test/loss"] == final["test/loss"]
    tags, config = run.data.tags, yaml.safe_load((run_dir / "config.yaml").read_text())
    assert (tags["rnnlab.id"], tags["rnnlab.tag.trial"]) == (config["provenance"]["id"], "true")
    found = {
        file.path for name in ("figures", "checkpoints", "") for file in client.list_artifacts(run.info.run_id, name)
    }
    assert found >= {"figures/learning_curves.png", "samples.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert not (run_dir.parent / "mlruns").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["logger=tensorbord"], "did you mean 'tensorboard'"),
        (["logger=[wandb,tensorbord]"], "tensorbord"),
        (["logger=tensorboard", "+logger.tensorboard.version=2"], "logger.tensorboard.version is rnnlab's own"),
        (["logger=tensorboard", "+logger.tensorboard.max_que=2"], "no option 'max_que', did you mean 'max_queue'"),
        (["logger=mlflow", "+logger.mlflow.run_id=2"], "logger.mlflow.run_id is rnnlab's own"),
        (["logger=mlflow", "+logger.mlflow.prefixx=2"], "no option 'prefixx', did you mean 'prefix'"),
        (["logger=mlflow", "logger.mlflow.log_model=all"], "logger.mlflow.log_model must be true or false, got 'all'"),
        (["logger=csv", "+logger.mode=online"], "there is no logger.mode for 'online' to be set"),
        (["logger.mode=online"], "did you mean 'logger.wandb.mode'"),
        (["+trainer.log_every_n_steps=often"], "trainer.log_every_n_steps must be an integer of at least 1"),
    ],
)
def test_refusals(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_missing_packages_are_named(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnnlab.cli.loggers.find_spec", lambda module: None)
    assert main(["train", *TINY, f"logger={name}"]) == 2
    assert f'pip install "rnnlab[{name}]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_importing_rnnlab_loads_no_logger():
    code = "import sys, rnnlab, rnnlab.callbacks.loggers; print({'wandb', 'tensorboard', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
