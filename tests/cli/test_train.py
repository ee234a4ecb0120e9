"""What a run leaves behind."""

import csv
import json
import math

import pytest
import torch
import yaml

from rnnlab.cli.main import main
from tests.cli.conftest import TINY
from tests.covering import few
from tests.runs import same_weights


def read_rows(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_directory_holds_the_records(addition_run):
    files = {path.relative_to(addition_run).as_posix() for path in addition_run.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "metrics.csv",
        "metrics.json",
        "run.log",
        "checkpoints/best.ckpt",
        "checkpoints/best.ckpt.sha256",
        "checkpoints/last.ckpt",
        "checkpoints/last.ckpt.sha256",
        "figures/learning_curves.png",
    }
    assert (addition_run / "figures/learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert "epoch   2/2" in (addition_run / "run.log").read_text()


def test_config_is_resolved_and_says_where_it_came_from(addition_run):
    config = yaml.safe_load((addition_run / "config.yaml").read_text())
    assert config["name"] == "addition/lstm"
    assert config["data"]["seed"] == config["seed"] == 0
    assert "${" not in (addition_run / "config.yaml").read_text()
    provenance = config["provenance"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["command"][:3] == ["rnnlab", "train", f"paths.run_dir='{addition_run}'"]
    assert " rnnlab train 'paths.run_dir=" in (addition_run / "run.log").read_text().splitlines()[0]
    assert provenance.keys() >= {"id", "git_commit", "git_dirty", "command", "started", "device"}


def test_metrics_csv_has_one_row_an_epoch(addition_run):
    rows = read_rows(addition_run)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert rows[0].keys() >= {"step", "train/loss", "val/loss", "val/exact_match", "time/epoch_s", "time/fit_s"}
    assert all(math.isfinite(float(cell)) for row in rows for cell in row.values())
    assert float(rows[0]["time/fit_s"]) < float(rows[1]["time/fit_s"])


def test_metrics_json_of_addition(addition_run):
    metrics = json.loads((addition_run / "metrics.json").read_text())
    expected = {"val/exact_match", "test/exact_match", "test/char_accuracy", "time/epoch_s", "time/fit_s"}
    assert metrics.keys() >= expected | {"best_epoch", "epochs"}
    rows = read_rows(addition_run)
    best = rows[metrics["best_epoch"] - 1]
    assert (
        metrics["val/exact_match"] == float(best["val/exact_match"]) == max(float(r["val/exact_match"]) for r in rows)
    )
    assert not [key for key in metrics if key.endswith("_last_epoch")]  # they stand in metrics.csv


def test_metrics_json_of_a_series(series_run):
    metrics = json.loads((series_run / "metrics.json").read_text())
    assert metrics.keys() >= {
        "val/mse_last",
        "test/mse_last",
        "test/rmse",
        "baseline/naive/test/rmse",
    }
    assert not metrics.keys() & {"val/mse", "test/mse", "val/loss"}  # other names of mse_last
    assert (series_run / "figures/forecasts.png").exists()


@pytest.mark.slow
def test_two_sine_prints_its_baselines(tmp_path, capsys):
    words = ["experiment=forecasting/one_step_gru", "rnn.hidden_size=4", "trainer.max_epochs=1", "logger=csv"]
    small = ["data.num_steps=10", "+trainer.limit_train_batches=5", "trainer.accelerator=cpu"]
    assert main(["train", f"run_dir={tmp_path / 'run'}", *words, *small]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(tmp_path / "run")
    assert all(f"\n{key} " in out for key in ("test/mse_last", "baseline/naive/val/mse_last"))
    assert "best baseline ols not beaten: test/mse_last " in out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics.keys() >= {
        "val/mse_last",
        "test/mse_last",
        "baseline/naive/val/mse_last",
        "baseline/ols/test/mse_last",
    }
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} == {"learning_curves.png", "forecasts.png"}


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoint_is_plain_data_and_weights(name, addition_run):
    checkpoint = torch.load(addition_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    config = checkpoint["rnnlab"]["config"]
    assert config == yaml.safe_load((addition_run / "config.yaml").read_text())
    assert all(isinstance(value, torch.Tensor) for value in checkpoint["state_dict"].values())


def test_samples_are_printed_with_a_mark(tmp_path, capsys):
    assert main(["train", f"run_dir={tmp_path / 'run'}", "logger=csv", *TINY, "callbacks.samples.num_samples=3"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " Q " in line]
    assert len(lines) == 2 * 3
    assert all("☑" in line or "☒" in line for line in lines)


def test_equal_seeds_give_equal_weights(addition_run, tmp_path):
    for seed in (0, 1):
        words = [f"run_dir={tmp_path / str(seed)}", "logger=csv", "callbacks=none", *TINY, f"seed={seed}"]
        assert main(["train", *words]) == 0
    assert same_weights(addition_run, tmp_path / "0") and not same_weights(addition_run, tmp_path / "1")


def test_default_directory_is_named_after_experiment_and_time(tmp_path, capsys):
    root = tmp_path / "runs"
    assert main(["train", f"paths.root={root}", "logger=csv", "callbacks=none", *TINY]) == 0
    (run_dir,) = (root / "addition" / "lstm").iterdir()
    assert capsys.readouterr().out.splitlines()[-1] == str(run_dir)


def test_debug_group_shortens_the_run(tmp_path):
    words = [f"run_dir={tmp_path / 'run'}", "debug=limit", *(word for word in TINY if "max_epochs" not in word)]
    assert main(["train", *words]) == 0
    assert [row["step"] for row in read_rows(tmp_path / "run")] == ["5", "10"]
    assert not (tmp_path / "run" / "wandb").exists()


def test_cfg_shows_the_configuration(capsys):
    assert main(["train", "--cfg", "job", "rnn=gru"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["rnn"]["_target_"] == "rnnlab.nn.GRU"


def test_a_finished_run_is_not_resumed(addition_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in addition_run.rglob("*")}
    assert main(["train", f"run_dir={addition_run}", "resume=true"]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in addition_run.rglob("*")} == before


@pytest.mark.parametrize("name", few(["lr=0.1", "a,b", "it's", "[b]run[/b]", "(1)", "a b"], ["it's"]))
def test_a_directory_may_have_any_name(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rnnlab.cli.fit._fit", lambda *_: None)
    run_dir = tmp_path / name
    assert main(["train", f"run_dir={run_dir}", "logger=csv", "callbacks=none", *TINY]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run_dir)
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["paths"]["run_dir"] == str(run_dir)


def test_a_run_that_diverges_at_once_has_no_best_checkpoint(tmp_path, capsys):
    words = ["experiment=forecasting/one_step_gru", "rnn.hidden_size=4", "trainer.max_epochs=1", "logger=csv"]
    small = ["data.num_steps=10", "+trainer.limit_train_batches=5", "trainer.accelerator=cpu", "optim=sgd"]
    ruin = ["optim.lr=1e38", "schedule=constant", "trainer.gradient_clip_val=null"]
    assert main(["train", f"run_dir={tmp_path / 'run'}", *words, *small, *ruin]) == 1
    assert "training diverged: val/mse_last was not finite after any epoch" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")} == {"last.ckpt"}
    assert math.isnan(float(read_rows(tmp_path / "run")[0]["val/mse_last"]))


def test_rows_hold_what_was_measured_in_their_epoch(tmp_path):
    words = [f"run_dir={tmp_path / 'run'}", "logger=csv", *TINY, "+trainer.check_val_every_n_epoch=2"]
    assert main(["train", *words, "trainer.max_epochs=3"]) == 0
    rows = read_rows(tmp_path / "run")
    assert [bool(row["val/loss"]) for row in rows] == [False, True, False]
    assert all(row["train/loss"] for row in rows)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["best_epoch"] == 2 and not any(key.startswith("val/") and "last_epoch" in key for key in metrics)


def test_rows_of_a_run_stopped_within_an_epoch(tmp_path):
    """The second epoch ends after two batches of seven: its loss and clip rate are not those of the first."""
    words = [f"run_dir={tmp_path / 'run'}", "logger=csv", *TINY, "trainer.max_epochs=-1", "+trainer.max_steps=8"]
    assert main(["train", *words]) == 0
    first, second = read_rows(tmp_path / "run")
    assert first["train/loss"] and first["val/loss"] and (first["step"], second["step"]) == ("6", "8")
    assert not any(second[key] for key in ("train/loss", "train/clip_rate", "val/loss"))


def test_a_run_too_short_to_be_validated_is_measured_by_its_last_checkpoint(tmp_path, capsys):
    words = [f"run_dir={tmp_path / 'run'}", "logger=csv", "callbacks=none", *TINY]
    assert main(["train", *words, "trainer.max_epochs=-1", "+trainer.max_steps=3"]) == 0
    assert "val/exact_match was never measured in training" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")} == {"last.ckpt"}
    assert math.isfinite(json.loads((tmp_path / "run" / "metrics.json").read_text())["test/loss"])
