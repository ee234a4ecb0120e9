"""A table as a forecasting task: parts, scaling, what a run remembers, answers."""

import csv

import numpy as np
import pytest
import torch

from rnnlab.data import PanelData
from rnnlab.data.panel import Forecast


@pytest.fixture
def table(tmp_path):
    """Return a function that writes hourly rows of two series, `a` and `b`, with columns y, z, price (known)."""

    def write(num_rows=60, ahead=0, names=("a", "b"), name="table.csv", start=0):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "time", "y", "z", "price"])
            for number, series in enumerate(names):
                for row in range(start, num_rows + ahead):
                    day, hour = divmod(row, 24)
                    time = f"2024-01-{day + 1:02d}T{hour:02d}:00"
                    y, z = 100**number * (5 + np.sin(row)), row % 7 + 1
                    targets = (repr(float(y)), z) if row < num_rows else ("", "")
                    writer.writerow([series, time, *targets, row % 5])
        return path

    return write


COLUMNS = {"targets": ["y", "z"], "time_column": "time", "series_column": "id", "known_covariates": ["price"]}


def make(path, table=COLUMNS, **settings):
    data = PanelData(path, table, **{"window": 6, "horizon": 3, "val_size": 10, "test_size": 12, **settings})
    data.setup()
    return data


def test_parts_are_cut_by_time_and_targets_stay_within(table):
    data = make(table())
    rows = {part: data.splits[part][0] for part in ("train", "val", "test")}
    for place in (0, 1):
        first = {part: origins[origins[:, 0] == place, 1].tolist() for part, origins in rows.items()}
        assert first["train"] == list(range(6, 38 - 3 + 1))
        assert first["val"] == list(range(38, 48 - 3 + 1))
        assert first["test"] == list(range(48, 60 - 3 + 1))
    assert data.sizes == {"input_size": 3, "future_size": 1, "num_targets": 2, "horizon": 3, "num_series": 2}
    batch = data.rehearsal_batch()
    assert batch.past.shape == (2, 6, 3) and batch.future.shape == (2, 3, 1) and batch.target.shape == (2, 3, 2)


@pytest.mark.parametrize("value", ["5", "0.1"])
def test_a_target_that_never_varies_is_refused_unless_it_stays_as_it_is(tmp_path, value):
    path = tmp_path / "constant.csv"
    path.write_text("y,z\n" + "".join(f"{value},{row % 7}\n" for row in range(60)))
    form, settings = {"targets": ["z", "y"]}, {"batch_size": 8}
    with pytest.raises(ValueError, match=r"constant.csv: target 'y' is constant over the training part: scale must be"):
        make(path, form, **settings)
    data = make(path, form, scale="none", **settings)
    assert data.measures.deviation[0, 1] == 1


def test_every_series_and_column_is_scaled_by_its_own_training_part(table):
    data = make(table())
    for place in (0, 1):
        levels = data.panel.series[place].target[:38]
        mean, deviation = levels.mean(axis=0), levels.std(axis=0)
        batch = data.windows.gather(torch.tensor([[place, 20]]), 3)
        np.testing.assert_allclose(batch.past[0, :, :2], (levels[14:20] - mean) / deviation, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.target[0], (levels[20:23] - mean) / deviation, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(data.denominators(batch).deviation[0], deviation)
        np.testing.assert_allclose(data.denominators(batch).naive_mae[0], np.abs(np.diff(levels, axis=0)).mean(axis=0))


def test_sizes_may_be_shares_and_rows_may_be_left_out(table):
    data = make(table(), val_size=0.2, test_size=0.3, max_rows=40, batch_size=8)
    assert data.borders[0] == [0, 20, 28, 40]


def test_unseen_series_are_test_alone(table):
    data = make(table(names=("a", "b", "c")), unseen=1)
    assert data.sizes["num_series"] == 2
    assert {part: set(data.splits[part][0][:, 0].tolist()) for part in ("train", "val", "test")} == {
        "train": {0, 1},
        "val": {0, 1},
        "test": {2},
    }
    batch = data.windows.gather(data.splits["test"][0][:1], 3)
    assert batch.series.tolist() == [0]
    levels = data.panel.series[2].target
    np.testing.assert_allclose(batch.loc[0, 0], levels[:38].mean(axis=0))


def test_columns_apart_are_series(table):
    data = make(table(), columns="apart")
    assert [one.name for one in data.panel.series] == ["a/y", "a/z", "b/y", "b/z"]
    assert data.sizes == {"input_size": 2, "future_size": 1, "num_targets": 1, "horizon": 3, "num_series": 4}


def told(data, path, tmp_path, value=0.0):
    """Return the rows of the answers to a table, of a model that says `value` of everything."""
    queries = data.read_queries(path)
    outputs = []
    for batch in data.query_batches(queries):
        mean = torch.full(batch.loc.shape, value)
        steps = torch.tensor([-1.96, -1.28, 1.28, 1.96])
        outputs.append(Forecast(mean, mean[..., None] + steps, (0.025, 0.1, 0.9, 0.975)))
    return list(csv.DictReader(data.write_answers(queries, outputs).splitlines()))


def test_answers_follow_the_last_row_in_its_units(table, tmp_path):
    data = make(table())
    rows = told(data, table(num_rows=50, ahead=3, name="asked.csv"), tmp_path)
    assert [row["id"] for row in rows] == ["a"] * 3 + ["b"] * 3
    assert [row["time"][:16] for row in rows[:3]] == ["2024-01-03T02:00", "2024-01-03T03:00", "2024-01-03T04:00"]
    for row, place in ((rows[0], 0), (rows[5], 1)):
        levels = data.panel.series[place].target[:38]
        mean, deviation = levels.mean(axis=0), levels.std(axis=0)
        np.testing.assert_allclose([float(row["y"]), float(row["z"])], mean)
        np.testing.assert_allclose(float(row["y_hi95"]), mean[0] + 1.96 * deviation[0])
        np.testing.assert_allclose(float(row["z_lo80"]), mean[1] - 1.28 * deviation[1])


def test_a_run_answers_without_its_table(table, tmp_path):
    path = table()
    trained = make(path)
    state = trained.state_dict()
    asked = table(num_rows=50, ahead=3, name="asked.csv")
    expected = told(trained, asked, tmp_path)
    path.unlink()
    again = PanelData(path, COLUMNS, window=6, horizon=3)
    again.load_state_dict(state)
    assert again.sizes == trained.sizes and told(again, asked, tmp_path) == expected


def test_a_series_that_training_lacked_is_scaled_by_itself(table, tmp_path):
    data = make(table())
    rows = told(data, table(num_rows=30, ahead=3, names=("new",), name="asked.csv"), tmp_path)
    y = 5 + np.sin(np.arange(30))
    np.testing.assert_allclose(float(rows[0]["y"]), y.mean())


def test_any_horizon_may_be_asked_for(table, tmp_path):
    data = make(table())
    data.ask_horizon(5)
    rows = told(data, table(num_rows=50, ahead=5, names=("a",), name="asked.csv"), tmp_path)
    assert len(rows) == 5
    with pytest.raises(ValueError, match="horizon must be an integer of at least 1, got 0"):
        data.ask_horizon(0)


def test_a_former_table_is_evaluated_by_the_scaling_of_training(table):
    data = make(table())
    other = PanelData(table(num_rows=70, name="longer.csv"), COLUMNS, window=6, horizon=3)
    other.load_state_dict(data.state_dict())
    other.setup()
    assert any("is not, or no longer, the table that this run was trained on" in note for note in other.notes)
    first, second = (one.windows.gather(torch.tensor([[0, 20]]), 3) for one in (data, other))
    assert torch.equal(first.past, second.past)


def test_baselines_are_measured_on_the_windows_of_test(table):
    data = make(table(), season=7, baselines={"naive": None, "seasonal_naive": None, "ar": {"order": 2}})
    found = data.baselines()
    assert found["baseline/seasonal_naive/test/mse"] >= 0
    levels = [one.target for one in data.panel.series]
    errors = [
        ((levels[place][row + np.arange(3)] - levels[place][row - 1]) / levels[place][:38].std(axis=0)) ** 2
        for place, row in data.splits["test"][0].tolist()
    ]
    np.testing.assert_allclose(found["baseline/naive/test/mse"], np.mean(errors))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(window=60), "the train part has at most 38 rows of each series, too few for a window"),
        (dict(horizon=11), "the val part has at most 10 rows of each series, too few for a window"),
        (dict(test_size=55), "the train part has at most 0 rows of each series, too few for a window"),
        (dict(unseen=2), "unseen must be less than the 2 series of"),
        (dict(batch_size=1000), "batch_size must be at most the size of the training part, 60, got 1000"),
        (dict(columns="each"), "columns must be one of apart, together, got 'each'"),
        (dict(val_size=1.5), "val_size must lie strictly between 0 and 1, got 1.5"),
        (dict(baselines=["naiv"]), "a baseline must be one of .*, the nearest to 'naiv': naive"),
        (dict(baselines=["seasonal_naive"]), "seasonal_naive needs a season"),
        (dict(baselines={"ar": {"orders": 2}}), "ar has the options order, got orders"),
        (
            dict(table={**COLUMNS, "missing": "mask"}, difference=True),
            "missing=mask leaves values out that differences",
        ),
        (dict(window=0), "window must be an integer of at least 1, got 0"),
    ],
)
def test_refusals(table, settings, message):
    with pytest.raises(ValueError, match=message):
        make(table(), **settings)


def test_a_series_too_short_to_be_asked_about_is_named(table):
    data = make(table())
    with pytest.raises(ValueError, match="a forecast needs at least 6 rows of series 'a', got 4"):
        data.read_queries(table(num_rows=4, ahead=3, name="short.csv"))


def test_numbers_and_dates_mean_what_they_meant_in_training(tmp_path):
    """'1,234' and '03/02/2024', which may be two things, are those of the table trained on."""
    path, asked = tmp_path / "table.csv", tmp_path / "asked.csv"
    path.write_text("day;y\n" + "".join(f"{day:02d}/01/2024;{day},5\n" for day in range(1, 32)), encoding="utf-8")
    asked.write_text("day;y\n" + "".join(f"{day:02d}/02/2024;1,23{day}\n" for day in range(1, 10)), encoding="utf-8")
    data = make(path, {"time_column": "day"}, val_size=5, test_size=5, batch_size=4)
    (rows, _) = data.read_queries(asked).context
    assert rows.series[0].target[:, 0].tolist() == [float(f"1.23{day}") for day in range(1, 10)]
    assert told(data, asked, tmp_path)[0]["day"] == "2024-02-10"


def write(path, *rows):
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("value, shown", [("0", "0"), ("-1.5", "-1.5")])
def test_logarithms_are_refused_where_there_are_none(tmp_path, value, shown):
    """Of the whole table, before a run, and of a table to be answered."""
    rows = [str(row % 5 + 1) for row in range(40)]
    bad = write(tmp_path / "bad.csv", "y", *rows[:35], value, *rows[36:])
    message = f"bad.csv: transform=log needs positive values, got {shown} in column 'y' at row 36"
    with pytest.raises(ValueError, match=message):
        make(bad, {}, transform="log", val_size=5, test_size=5, batch_size=4)
    data = make(write(tmp_path / "good.csv", "y", *rows), {}, transform="log", val_size=5, test_size=5, batch_size=4)
    with pytest.raises(ValueError, match=message):
        data.read_queries(bad)


def test_a_series_without_rows_to_train_on_is_named(tmp_path):
    rows = [f"a,{row % 5}" for row in range(60)] + [f"b,{row}" for row in range(18)]
    path = write(tmp_path / "short.csv", "id,y", *rows)
    with pytest.raises(ValueError, match="series 'b' has 18 rows, of which val_size and test_size leave none to train"):
        make(path, {"series_column": "id"}, batch_size=4)


def test_a_series_of_too_few_rows_for_its_differences_is_not_scaled(tmp_path):
    rows = [f"a,{row % 5}" for row in range(60)] + [f"b,{row}" for row in range(24)]
    path = write(tmp_path / "short.csv", "id,y", *rows)
    data = make(path, {"series_column": "id"}, batch_size=4, seasonal_difference=4)
    learnt = data.state_dict()["series"]["b"]
    assert (learnt["mean"], learnt["deviation"]) == ([0.0], [1.0])


def test_columns_apart_of_one_name_are_refused(tmp_path):
    rows = [f"{name},{row % 5},{row % 3}" for name in ("a/b", "a") for row in range(60)]
    path = write(tmp_path / "twice.csv", "id,c,b/c", *rows)
    with pytest.raises(ValueError, match="columns=apart would name two series 'a/b/c'"):
        make(path, {"series_column": "id"}, batch_size=4, columns="apart")


def test_training_goes_on_with_the_same_table_alone(table):
    data, other = make(table()), make(table(num_rows=70, name="longer.csv"))
    other.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="longer.csv is not the table this run was trained on"):
        other.load_state_dict(data.state_dict())


def test_answers_are_text(table):
    data = make(table(), baselines="naive")
    queries = data.read_queries(table(num_rows=50, ahead=3, name="asked.csv"))
    with pytest.raises(ValueError, match="forecasts are written as text: output=NAME.csv, not .parquet"):
        data.encode_answers(queries, [], ".parquet")


def test_unseen_counts_the_series_of_the_table(table):
    data = make(table(names=("a", "b", "c")), columns="apart", unseen=1)
    whose = {
        part: {data.panel.series[place].name for place, _ in data.splits[part][0].tolist()} for part in data.splits
    }
    assert whose == {"train": {"a/y", "a/z", "b/y", "b/z"}, "val": {"a/y", "a/z", "b/y", "b/z"}, "test": {"c/y", "c/z"}}
    with pytest.raises(ValueError, match="unseen must be less than the 2 series of"):
        make(table(), columns="apart", unseen=2)


def test_a_run_is_not_measured_scaled_otherwise(table):
    state = make(table()).state_dict()
    for settings, message in (
        (dict(scale="window"), "data.scale is 'train' in the run, and cannot be 'window' afterwards"),
        (dict(difference=True), "data.difference is False in the run"),
        (dict(columns="apart"), "data.columns is 'together' in the run"),
    ):
        with pytest.raises(ValueError, match=message):
            PanelData(table(), COLUMNS, window=6, horizon=3, **settings).load_state_dict(state)


def test_columns_of_answers_have_names_of_their_own(table):
    path = table()
    path.write_text(path.read_text().replace("id,time,y,z,price", "id,time,y,y_lo80,price"))
    with pytest.raises(ValueError, match="two columns of forecasts would be called 'y_lo80'"):
        make(path, {**COLUMNS, "targets": ["y", "y_lo80"]})
