"""Rolling origins: where folds lie, and that model and baselines are compared on the same values."""

import numpy as np
import pytest
import torch

from rnnlab.baselines import forecast_by, forecast_errors
from rnnlab.data import PanelData
from rnnlab.data.panel import Forecast
from rnnlab.data.panel_backtest import BackTest, fold_origins, make_fold


@pytest.fixture
def data(tmp_path):
    """Two series of 60 and 50 rows, with parts of 12 rows for test."""
    rng = np.random.default_rng(0)
    rows = [
        f"{name},2024-{1 + k // 28:02d}-{1 + k % 28:02d},{value!r}"
        for name, count in (("a", 28), ("b", 25))
        for k, value in enumerate((10 + rng.standard_normal(count).cumsum()).tolist())
    ]
    (tmp_path / "table.csv").write_text("id,day,y\n" + "\n".join(rows) + "\n")
    table = {"targets": ["y"], "time_column": "day", "series_column": "id"}
    settings = {"window": 4, "horizon": 3, "val_size": 4, "test_size": 9, "batch_size": 4}
    data = PanelData(tmp_path / "table.csv", table, **settings, baselines=["naive", "ar"])
    data.setup()
    return data


def test_folds_end_with_each_series(data):
    origins = fold_origins(data, 3, 2)
    assert [fold.tolist() for fold in origins] == [[[0, 21], [1, 18]], [[0, 23], [1, 20]], [[0, 25], [1, 22]]]
    assert fold_origins(data, 4, 2)[0].tolist() == [[0, 19], [1, 16]]  # the first row of test
    with pytest.raises(ValueError, match="forecast 11 rows with a horizon of 3, and the test part of series 'a' has 9"):
        fold_origins(data, 5, 2)


def test_a_fold_never_reaches_before_its_series(tmp_path):
    """The windows of a short series would begin among the rows of the series before it."""
    rows = [f"a,{row % 5}" for row in range(60)] + [f"b,{row}" for row in range(18)]
    (tmp_path / "short.csv").write_text("\n".join(["id,y", *rows]) + "\n")
    settings = {"window": 12, "horizon": 2, "val_size": 7, "test_size": 8, "batch_size": 4}
    data = PanelData(tmp_path / "short.csv", {"series_column": "id"}, **settings)
    data.setup()
    assert fold_origins(data, 3, 2)[0].tolist() == [[0, 54], [1, 12]]
    with pytest.raises(ValueError, match="leave 10 rows of series 'b' before the first fold, and a window needs 12"):
        fold_origins(data, 4, 2)


def test_all_methods_are_measured_on_the_same_values(data):
    rng, folds, truths = np.random.default_rng(1), [], []
    for origins in fold_origins(data, 4, 2):
        mean = torch.from_numpy(rng.normal(10, 1, (2, 3, 1)))
        quantiles = mean[..., None] + torch.tensor([-1.0, 0.0, 1.0])
        folds.append(make_fold(data, origins, Forecast(mean, quantiles, (0.1, 0.5, 0.9))))
        truths.append([data.panel.series[place].target[row : row + 3] for place, row in origins.tolist()])
    found = BackTest(folds, (0.1, 0.5, 0.9), overlap=2)
    assert found.methods == ["model", "naive", "ar"] and folds[0].start == "2024-01-20"
    truth = np.array(truths)  # (M, N, K, C)
    measures = [np.tile(part.numpy(), (4, 1)) for part in data.measures]
    for name, place, border in (("a", 0, 19), ("b", 1, 16)):
        levels = data.panel.series[place].target[:, 0]
        expected = forecast_by("ar", levels, border, [border + 2 * k for k in range(4)], 3)
        np.testing.assert_allclose([fold.forecasts["ar"][place, :, 0] for fold in folds], expected, err_msg=name)
    for name in found.methods:
        forecasts = np.concatenate([fold.forecasts[name] for fold in folds])
        for step in (None, 2):
            steps = slice(None) if step is None else slice(step - 1, step)
            expected = forecast_errors(forecasts[:, steps], truth.reshape(8, 3, 1)[:, steps], *measures)
            errors = found.errors(step)[name]
            assert errors.pop("coverage_80", 0.5) <= 1
            assert errors == pytest.approx(expected)
    by_fold = found.by_fold()
    assert np.mean(by_fold["model"]) == pytest.approx(found.errors()["model"]["mse"])
    comparison = found.comparisons()["naive"]
    assert comparison.difference == pytest.approx(np.mean(by_fold["model"] - by_fold["naive"]))
