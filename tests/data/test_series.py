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
    assert baselines["baseline/naive/test/rmse"] == pytest.approx(
        np.sqrt(np.mean((values[test] - values[test - 1]) ** 2))
    )
    assert baselines["baseline/seasonal_naive/test/mae"] == pytest.approx(
        np.mean(np.abs(values[test] - values[test - 12]))
    )
    lags = np.stack([values[row - 4 : row] for row in range(4, 90)])
    ols = fit_ols(lags[:74], values[4:78, None])(lags[74:])[:, 0]
    assert baselines["baseline/ols/test/mape"] == pytest.approx(100 * np.mean(np.abs(ols / values[test] - 1)), rel=1e-5)
    assert baselines["baseline/arima/test/rmse"] > 0


def test_mape_is_left_out_where_a_true_value_is_zero(write):
    values = levels() - 50
    values[55] = 0
    baselines = made(write(values)).baselines()
    assert "baseline/naive/test/rmse" in baselines and "baseline/naive/test/mape" not in baselines


def test_queries_ask_for_what_follows_the_last_row(write):
    values = levels()
    data = made(write(values), transform="log", difference=True, lags=(12,), horizon=2)
    queries = data.read_queries(write(values[:58], "query.csv"))
    row = list(data.first_targets["test"]).index(58)
    assert torch.equal(queries.inputs[0], data.splits["test"][0][row])
    head, *lines = data.write_answers(queries, [data.splits["test"][1][row : row + 1]]).splitlines()
    assert head == "step,v"
    for step, line in enumerate(lines, start=1):
        assert line.startswith(f"{step},")
        assert float(line.partition(",")[2]) == pytest.approx(values[57 + step], rel=1e-6)
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


CONSTANT = {
    "5": ([5] * 60, {}),
    "0.1": ([0.1] * 60, {}),
    "0.1 in training": ([0.1] * 40 + [0.2] * 20, {}),
    "1/3 in logarithms": ([1 / 3] * 60, {"transform": "log"}),
    "1e30": ([1.1e30] * 60, {}),
    "0": ([0] * 60, {}),
    "even steps": ([round(0.1 * index, 1) for index in range(60)], {"difference": True}),
    "even steps down": ([1e6 - 0.7 * index for index in range(60)], {"difference": True}),
    "steady growth": ([100 * 1.01**index for index in range(60)], {"difference": True, "transform": "log"}),
    "steady growth of what is small": (
        [1e-40 * 3.7**index for index in range(60)],
        {"difference": True, "transform": "log"},
    ),
}


@pytest.mark.parametrize(("values", "arguments"), CONSTANT.values(), ids=CONSTANT)
def test_what_varies_by_its_rounding_alone_is_constant(write, values, arguments):
    with pytest.raises(ValueError, match="column 'v' is constant over the training part: scale must be false"):
        made(write(values), **arguments)
    assert made(write(values), **arguments, scale=False).deviation == 1


@pytest.mark.parametrize("unit", [1e-90, 1e-9, 1.0, 1e9, 1e90])
@pytest.mark.parametrize("arguments", [{}, {"difference": True}, {"difference": True, "transform": "log"}], ids=str)
def test_what_varies_by_more_is_scaled_in_any_unit(write, unit, arguments):
    values = unit * (1000 + 1e-9 * np.random.default_rng(0).random(60))  # ten digits are known
    data = made(write(values), **arguments)
    assert 0.8 < float(data.splits["train"][0].std()) < 1.2


def test_values_that_cannot_be_squared_or_scaled_are_refused(write):
    values = np.random.default_rng(0).random(60)
    with pytest.raises(
        ValueError, match=r"s\.csv:2, column 'v': values may be at most 1e\+100 in size, got 6.36.*e\+199"
    ):
        made(write(1e200 * values))
    with pytest.raises(ValueError, match="column 'v' is at most .*e-201: give it in another unit"):
        made(write(1e-200 * values))
    data = made(write(values))
    with pytest.raises(ValueError, match="column 'v' holds values that, scaled as in training, are beyond float32"):
        data.read_queries(write([*values, 1e60], "query.csv"))


def test_forecasts_keep_all_digits(write):
    data = made(write([73412858 + 137 * index + index % 3 for index in range(120)]), difference=True, horizon=3)
    queries = data.read_queries(data.path)
    outputs = (torch.tensor([[137.0, 137.0, 137.0]]) - data.mean) / data.deviation
    rows = list(csv.DictReader(io.StringIO(data.write_answers(queries, [outputs]))))
    found = [float(row["v"]) for row in rows]
    assert found == data.to_level(outputs, queries.context)[0].tolist()
    assert found == pytest.approx([73429300, 73429437, 73429574], abs=1e-3)


@pytest.mark.parametrize("name", [2016, "2016"])
def test_a_column_may_be_called_a_number(tmp_path, name):
    (tmp_path / "s.csv").write_text("7,2016\n" + "".join(f"{index},{value}\n" for index, value in enumerate(levels())))
    data = CSVData(tmp_path / "s.csv", name, window=4, time_column=7, batch_size=8)
    assert data.column == "2016" and data.time_column == "7"
    with pytest.raises(ValueError, match="column must be the name of a column, got True"):
        CSVData(tmp_path / "s.csv", True, window=4)


def test_other_encodings_are_read(tmp_path):
    text = "größe\n" + "".join(f"{value}\n" for value in levels())
    (tmp_path / "s.csv").write_bytes(text.encode("utf-16"))
    with pytest.raises(
        ValueError, match=r"s\.csv:1: is not UTF-8: .* at byte 0; it begins like UTF-16: encoding=utf-16"
    ):
        CSVData(tmp_path / "s.csv", "größe", window=4, batch_size=8)
    data = CSVData(tmp_path / "s.csv", "größe", window=4, batch_size=8, encoding="utf-16")
    assert len(data.levels) == 60 and len(data.read_queries(tmp_path / "s.csv").inputs) == 1
    (tmp_path / "q.csv").write_bytes(text.encode("cp1252"))
    assert len(data.read_queries(tmp_path / "q.csv", "cp1252").inputs) == 1
    for encoding in ("utf-9", "hex", 8):
        with pytest.raises(
            ValueError, match="encoding must be one that Python knows, as utf-8, latin-1 or cp1252, got"
        ):
            CSVData(tmp_path / "s.csv", "größe", window=4, encoding=encoding)


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
