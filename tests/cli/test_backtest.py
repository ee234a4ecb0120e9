"""`rnnlab evaluate backtest.folds=N`: files, models trained anew for each fold, and what is refused."""

import csv
import json
import shutil

import pytest

from rnnlab.cli.main import main


@pytest.fixture
def run(table_run, tmp_path):
    """A copy of a run, whose test part has 12 rows, with a horizon of 3."""
    return shutil.copytree(table_run, tmp_path / "run")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_by_step_and_a_picture(run, capsys):
    assert main(["evaluate", f"run_dir={run}", "backtest.folds=4"]) == 0
    told = capsys.readouterr().out
    assert "fold 4 of 4, from 1956-10" in told and "baseline seasonal_naive" in told and "Diebold-Mariano" in told
    rows = read(run / "backtest.csv")
    assert {(row["method"], row["step"]) for row in rows} == {
        (method, step) for method in ("model", "naive", "seasonal_naive") for step in ("all", "1", "2", "3")
    }
    assert all(
        0 <= float(row["coverage_80"]) <= 1 and float(row["crps"]) > 0 for row in rows if row["method"] == "model"
    )
    result = json.loads((run / "backtest.json").read_text())
    assert result["starts"] == ["1956-01", "1956-04", "1956-07", "1956-10"]
    assert float(rows[0]["mse"]) == pytest.approx(result["errors"]["model"]["mse"])
    assert (run / "backtest.png").stat().st_size > 1000


def test_every_window_of_test_as_a_fold_is_the_test(run):
    """With stride 1 and as many folds as there are windows, errors are those of the final test."""
    assert main(["evaluate", f"run_dir={run}", "backtest.folds=10", "backtest.stride=1"]) == 0
    errors = json.loads((run / "backtest.json").read_text())["errors"]
    final = json.loads((run / "metrics.json").read_text())
    for name in ("mse", "mase", "crps", "coverage_80", "rmse_level"):
        assert errors["model"][name] == pytest.approx(final[f"test/{name}"], rel=1e-5)
    assert errors["naive"]["smape"] == pytest.approx(final["baseline/naive/test/smape"])


@pytest.mark.slow
def test_models_trained_anew_know_what_lies_before_each_fold(run, capsys):
    words = ["evaluate", f"run_dir={run}", "backtest.folds=2", "backtest.retrain=true", "trainer.accelerator=cpu"]
    assert main(words) == 0
    trained = sorted((run / "retrained").iterdir())
    assert [path.name.rpartition("_")[0] for path in trained] == ["last_3_rows", "last_6_rows"]
    first = json.loads((run / "backtest.json").read_text())
    assert first["retrain"] and first["starts"] == ["1956-07", "1956-10"]
    capsys.readouterr()
    assert main(words) == 0  # nothing is trained again
    assert capsys.readouterr().out.count("is finished already") == 2
    assert json.loads((run / "backtest.json").read_text()) == first
    assert main([*words, "rnn.hidden_size=3"]) == 0  # other models, beside these
    assert len(list((run / "retrained").iterdir())) == 4 and (run / "backtest_2.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["backtest.folds=5"], "forecast 15 rows with a horizon of 3, and the test part has 12: fewer folds"),
        (["backtest.folds=4", "backtest.stride=4"], "forecast 15 rows"),
        (["backtest.folds=0"], "backtest.folds must be an integer of at least 1, got '0'"),
        (["backtest.folds=2", "backtest.stride=x"], "backtest.stride must be an integer of at least 1"),
        (["backtest.folds=2", "backtest.retrain=yes"], "backtest.retrain must be true or false"),
        (["backtest.stride=2"], "backtest.stride need backtest.folds=N"),
        (["backtest.fold=2"], "there is no backtest.fold: a back-test has backtest.folds"),
        (["backtest.folds=30", "backtest.retrain=true"], "the train part has at most"),
        (["backtest.folds=2", "backtest.retrain=true", "ckpt=last"], "there is no use for ckpt=last"),
    ],
)
def test_refused_in_one_line(run, words, message, capsys):
    before = sorted(path for path in run.rglob("*"))
    assert main(["evaluate", f"run_dir={run}", *words]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert sorted(path for path in run.rglob("*")) == before


def test_runs_on_other_data_have_none(series_run, capsys):
    assert main(["evaluate", f"run_dir={series_run}", "backtest.folds=2"]) == 2
    assert "is for runs on tables (data=table)" in capsys.readouterr().err
