"""The user's own series: windows, splits by time, scaling on train only, and the way back to original units."""

import csv
import io

import numpy as np
import pytest
import torch

from rnnlab.baselines import fit_ols
from rnnlab.data import CSVData


def levels(num_rows=60):
    rng = np.random.default_rng(0)
    season = np.sin(np.arange(num_rows) * 2 * np.pi / 12)
    return np.exp(4 + 0.01 * np.arange(num_rows) + 0.2 * season + 0.02 * rng.standard_normal(num_rows))


@pytest.fixture
def write(tmp_path):
    def write_values(values, name="s.csv"):
        lines = ["month,v", *(f"{index},{value!r}" for index, value in enumerate(map(float, values)))]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return write_values


def made(path, **arguments):
    data = CSVData(path, "v", **{"window": 4, "val_size": 10, "test_size": 12, "batch_size": 8} | arguments)
    data.setup()
    return data


def test_windows_lags_and_targets_are_aligned(write):
    values = levels()
    data = made(write(values), window=3, horizon=2, lags=(12, 1), transform="log", difference=True)
    z = np.concatenate([[np.nan], (np.diff(np.log(values)) - data.mean) / data.deviation])  # z[t] ends at row t
    for part, rows in data.first_targets.items():
        x, y, origin = data.splits[part]
        for index, row in enumerate(rows):
            now = np.arange(row - 3, row)
            expected = np.stack([z[now], z[now + 1 - 12], z[now]], axis=-1)
            np.testing.assert_allclose(x[index], expected, rtol=1e-6)
            np.testing.assert_allclose(y[index], z[row : row + 2], rtol=1e-6)
            assert origin[index] == values[row - 1]
    assert data.sizes == {"input_size": 3, "output_size": 2}
    assert data.first_targets["train"][0] == 3 + 12 - 1 + 1


def test_targets_of_each_part_stay_within_it(write):
    data = made(write(levels()), horizon=3)
    assert (data.num_train, data.num_val, data.num_test) == (38, 10, 12)
    rows = data.first_targets
    assert (rows["train"][0], rows["train"][-1] + 2) == (4, 37)
    assert (rows["val"][0], rows["val"][-1] + 2) == (38, 47)
    assert (rows["test"][0], rows["test"][-1] + 2) == (48, 59)


def test_fractions_are_of_all_rows(write):
    data = made(write(levels(100)), val_size=0.1, test_size=0.25)
    assert (data.num_train, data.num_val, data.num_test) == (65, 10, 25)


def test_scaler_is_fitted_on_train_only(write):
    values = levels()
    first = made(write(values), transform="log", difference=True)
    values[38:] *= np.linspace(2, 50, 22)
    second = made(write(values, "t.csv"), transform="log", difference=True)
    assert (first.mean, first.deviation) == (second.mean, second.deviation)
    for a, b in zip(first.splits["train"], second.splits["train"], strict=True):
        assert torch.equal(a, b)
    changes = np.diff(np.log(values[:38]))
    assert first.mean == pytest.approx(changes.mean()) and first.deviation == pytest.approx(changes.std())


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("difference", [True, False])
@pytest.mark.parametrize("transform", ["none", "log"])
def test_to_level_undoes_every_transformation(write, transform, difference, scale):
    values = levels()
    data = made(write(values), horizon=3, transform=transform, difference=difference, scale=scale)
    for part, rows in data.first_targets.items():
        _, y, origin = data.splits[part]
        np.testing.assert_allclose(data.to_level(y, origin), values[rows[:, None] + np.arange(3)], rtol=1e-5)


def test_baselines_are_in_original_units(write):
    values = levels(90)
    baselines = made(write(values), season=12, arima_order=(0, 1, 1)).baselines()
    test = np.arange(78, 90)
    assert baselines["baseline/naive_rmse"] == pytest.approx(np.sqrt(np.mean((values[test] - values[test - 1]) ** 2)))
    assert baselines["baseline/seasonal_naive_mae"] == pytest.approx(np.mean(np.abs(values[test] - values[test - 12])))
    lags = np.stack([values[row - 4 : row] for row in range(4, 90)])
    ols = fit_ols(lags[:74], values[4:78, None])(lags[74:])[:, 0]
    assert baselines["baseline/ols_mape"] == pytest.approx(100 * np.mean(np.abs(ols / values[test] - 1)), rel=1e-5)
    assert baselines["baseline/arima_rmse"] > 0


def test_mape_is_left_out_where_a_true_value_is_zero(write):
    values = levels() - 50
    values[55] = 0
    baselines = made(write(values)).baselines()
    assert "baseline/naive_rmse" in baselines and "baseline/naive_mape" not in baselines


def test_queries_ask_for_what_follows_the_last_row(write):
    values = levels()
    data = made(write(values), transform="log", difference=True, lags=(12,), horizon=2)
    queries = data.read_queries(write(values[:58], "query.csv"))
    row = list(data.first_targets["test"]).index(58)
    assert torch.equal(queries.inputs[0], data.splits["test"][0][row])
    head, *lines = data.write_answers(queries, [data.splits["test"][1][row : row + 1]]).splitlines()
    assert head == "step,v"
    for step, line in enumerate(lines, start=1):
        assert line == f"{step},{values[57 + step]:.6g}"
    with pytest.raises(ValueError, match="at least 16 rows, got 15"):
        data.read_queries(write(values[:15], "short.csv"))


REFUSALS = [
    ({"window": 0}, "window must be an integer of at least 1, got 0"),
    ({"horizon": 0}, "horizon must be an integer of at least 1, got 0"),
    ({"lags": (0,)}, "lags must be an integer of at least 1, got 0"),
    ({"transform": "sqrt"}, "transform must be one of log, none, got 'sqrt'"),
    ({"val_size": 0}, "val_size must be an integer from 1 to 59, got 0"),
    ({"test_size": 1.5}, "test_size must lie strictly between 0 and 1, got 1.5"),
    ({"val_size": 40, "test_size": 30}, "the train part has 0 of 60 rows, too few"),
    ({"val_size": 2, "horizon": 3}, "the val part has 2 of 60 rows, too few"),
    ({"window": 50}, "the train part has 38 of 60 rows, too few for a window: its first target needs 50 rows"),
    ({"batch_size": 35}, "batch_size must be at most the size of the training part, 34, got 35"),
    ({"season": 49}, "season must be an integer from 1 to 48, got 49"),
    ({"time_column": "day"}, "no column 'day'; the header has month, v"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[str(arguments) for arguments, _ in REFUSALS])
def test_bad_arguments_are_refused(write, arguments, message):
    with pytest.raises(ValueError, match=message):
        made(write(levels()), **arguments)


def test_bad_files_are_refused(write, tmp_path):
    with pytest.raises(ValueError, match="no CSV file at"):
        made(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"s\.csv:7, column 'v': expected a finite number, got 'nan'"):
        made(write([*levels()[:5], np.nan, *levels()]))
    with pytest.raises(ValueError, match=r"s\.csv:4, column 'v': transform=log needs positive values, got -1"):
        made(write([1, 2, -1, *levels()]), transform="log")
    with pytest.raises(ValueError, match="constant over the training part"):
        made(write(np.ones(60)))
    path = write(levels())
    path.write_text(path.read_text().replace("\n30,", "\n30.5,"))
    with pytest.raises(ValueError, match=r"s\.csv:32, column 'month': irregular step from '29' to '30.5', 1.5 times"):
        made(path, time_column="month")


def test_state_is_the_file_and_its_scaling(write):
    path = write(levels())
    data = made(path)
    state = data.state_dict()
    assert state.keys() == {"sha256", "mean", "deviation"}
    other = made(path, val_size=8)  # a longer training part
    assert other.mean != data.mean
    other.load_state_dict(state)
    assert (other.mean, other.deviation) == (data.mean, data.deviation)
    torch.testing.assert_close(other.splits["test"][0], data.splits["test"][0], rtol=0, atol=0)


def test_state_of_another_file_is_refused(write):
    state = made(write(levels())).state_dict()
    with pytest.raises(ValueError, match="is not the file this run was trained on"):
        made(write(2 * levels())).load_state_dict(state)


def test_answers_quote_a_column_name_that_csv_would_cut(tmp_path):
    name = 'load, "net"'
    lines = ['"load, ""net"""', *(str(100 + 3 * index % 7) for index in range(60))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    data = CSVData(tmp_path / "s.csv", name, window=4, val_size=10, test_size=12, batch_size=8)
    text = data.write_answers(data.read_queries(tmp_path / "s.csv"), [torch.zeros(1, 1)])
    assert next(csv.reader(io.StringIO(text))) == ["step", name]


def test_arima_without_statsmodels_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"rnnlab\[baselines\]"):
        CSVData("no such file.csv", "x", window=3, arima_order=(0, 1, 1))
