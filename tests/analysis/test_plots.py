"""Figures show what they were given, are labelled, and can be saved without a display."""

import subprocess
import sys

import numpy as np
import pytest

from rnnlab.analysis import plots

ROWS = [
    {"epoch": "0", "train/loss": "2.0", "val/loss": "1.8", "val/exact_match": "0.1", "time/epoch_s": "3"},
    {"epoch": "1", "train/loss": "1.0", "val/loss": "0.9", "val/exact_match": "0.6", "time/epoch_s": "3"},
    {"epoch": "2", "train/loss": "0.5", "val/loss": "", "val/exact_match": "0.9", "time/epoch_s": "3"},
]


def labels(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_learning_curves_have_a_panel_for_each_metric(tmp_path):
    figure = plots.learning_curves(ROWS, title="Adding")
    loss, exact = figure.axes
    assert figure.get_suptitle() == "Adding"
    assert (loss.get_yscale(), exact.get_yscale()) == ("log", "linear")
    assert labels(loss) == ["train", "val"] and labels(exact) == ["val"]
    train, val = loss.get_lines()
    assert train.get_xydata().tolist() == [[1, 2.0], [2, 1.0], [3, 0.5]]
    assert val.get_xydata().tolist() == [[1, 1.8], [2, 0.9]]
    assert all(axis.get_xlabel() == "epoch" and axis.get_ylabel() for axis in figure.axes)
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_learning_curves_show_the_baselines_in_their_panel():
    rows = [{"epoch": 0, "val/mse_last": 0.1, "val/rmse": 30.0, "train/loss": 0.2}]
    baselines = {
        "baseline/naive/val/mse_last": 0.02,
        "baseline/naive/test/mse_last": 0.03,
        "baseline/ols/test/rmse": 15.0,
    }
    last, rmse = plots.learning_curves(rows, baselines).axes  # what is minimised is mse_last
    assert labels(last) == ["train", "val", "naive 0.02"]
    assert labels(rmse) == ["val"]  # test baselines do not compare with a validation curve


def test_baselines_go_to_the_panel_of_their_metric():
    rows = [{"epoch": 0, "val/accuracy": 0.9, "val/accuracy_unseen": 0.7}]
    baselines = {
        "baseline/hmm/val/accuracy": 0.92,
        "baseline/hmm/val/accuracy_unseen": 0.73,
        "baseline/hmm/test/accuracy": 0.9,
    }
    every, unseen = plots.learning_curves(rows, baselines).axes
    assert labels(every) == ["val", "hmm 0.92"] and labels(unseen) == ["val", "hmm 0.73"]
    assert every.get_yscale() == "linear"


def test_learning_curves_need_a_metric():
    with pytest.raises(ValueError, match="no row holds a metric"):
        plots.learning_curves([{"epoch": 0, "time/epoch_s": 1.0}])


def test_forecast_draws_each_series(tmp_path):
    history, future = np.random.default_rng(0).standard_normal((4, 20)), np.ones((4, 3))
    figure = plots.forecast(history, future, future + 0.5, baseline=("naive", future * 0))
    assert len(figure.axes) == 4
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["known", "baseline naive", "truth", "forecast"]
    known, *_, forecast = figure.axes[1].get_lines()
    assert np.array_equal(known.get_ydata(), history[1])
    assert forecast.get_xydata().tolist() == [[20, 1.5], [21, 1.5], [22, 1.5]]
    assert figure.axes[0].get_title() == "series 1: MSE 0.25 (naive 1)"
    figure.savefig(tmp_path / "forecast.png")


def test_forecast_checks_shapes():
    with pytest.raises(ValueError, match=r"expected history \(N, T\)"):
        plots.forecast(np.zeros((2, 5)), np.zeros((2, 3)), np.zeros((2, 1)))


def test_level_forecast_draws_series_forecast_and_error(tmp_path):
    series = np.arange(30.0)
    figure = plots.level_forecast(series, 20, series[20:] + 3, {"naive": series[19:-1]}, unit="passengers (thousands)")
    top, bottom = figure.axes
    assert labels(top) == ["series", "baseline naive, RMSE 1", "forecast, RMSE 3"]
    assert top.get_ylabel() == "passengers (thousands)" and bottom.get_ylabel() == "forecast - truth"
    assert bottom.get_lines()[1].get_ydata().tolist() == [3.0] * 10
    figure.savefig(tmp_path / "level.png")
    months = np.arange("1949-01", "1951-07", dtype="datetime64[M]")
    figure = plots.level_forecast(series, 20, series[20:], times=months)
    figure.savefig(tmp_path / "months.png")
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()][:3] == ["1949", "Apr", "Jul"]
    years = np.arange("1949-01", "1961-01", dtype="datetime64[M]")
    figure = plots.level_forecast(np.arange(144.0), 115, np.arange(29.0), times=years)
    figure.savefig(tmp_path / "years.png")
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()][1:4] == ["1950", "1952", "1954"]


@pytest.mark.parametrize(("first", "count"), [(25, 6), (-1, 3), (0, 0)])
def test_level_forecast_must_lie_within_the_series(first, count):
    with pytest.raises(ValueError, match="do not lie within 30 values"):
        plots.level_forecast(np.arange(30.0), first, np.zeros(count))


def test_matplotlib_is_imported_on_first_use_and_pyplot_never():
    code = (
        "import sys, rnnlab.analysis.plots as plots; assert 'matplotlib' not in sys.modules;"
        "plots.learning_curves([{'epoch': 0, 'val/loss': 1.0}]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
