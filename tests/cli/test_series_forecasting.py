"""A table from the command line: trained with pictures, measured again, forecast beyond its end."""

import csv
import json

from rnnlab.cli.main import main


def test_a_run_has_its_numbers_and_pictures(table_run):
    metrics = json.loads((table_run / "metrics.json").read_text())
    names = ("loss", "mse", "mae", "crps", "rmse_level", "mae_level", "smape", "mase", "rmsse")
    assert {f"test/{name}" for name in (*names, "coverage_80", "coverage_95")} <= set(metrics)
    assert "baseline/seasonal_naive/test/mase" in metrics
    assert {path.name for path in (table_run / "figures").iterdir()} == {
        "calibration.png",
        "forecasts.png",
        "learning_curves.png",
    }


def test_forecasts_beyond_the_end_have_dates_and_intervals(table_run, table_file, tmp_path):
    output = tmp_path / "forecasts.csv"
    assert main(["predict", f"run_dir={table_run}", f"input={table_file}", f"output={output}"]) == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["month"] for row in rows] == ["1957-01", "1957-02", "1957-03"]
    for row in rows:
        ends = [float(row[f"passengers{end}"]) for end in ("_lo95", "_lo80", "", "_hi80", "_hi95")]
        assert ends == sorted(ends) and ends[0] > 0


def test_too_many_steps_are_refused(table_run, table_file, tmp_path, capsys):
    words = ["predict", f"run_dir={table_run}", f"input={table_file}", f"output={tmp_path / 'x.csv'}", "horizon=9"]
    assert main(words) == 2
    assert "the model tells 3 steps, 9 were asked for" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
