"""Tables of series, read from files."""

import numpy as np
import pytest

from rnnlab.data.clock import write_time
from rnnlab.data.tables import TableForm, read_table


def read(folder, text, ahead=0, name="table.csv", **form):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, TableForm(**form), ahead)


def test_one_series_with_times_and_covariates(tmp_path):
    text = "time,y,wind,price\n2020-01-31,1,5,7\n2020-02-29,2,6,8\n2020-03-31,3,NA,9\n2020-04-30,,,10\n"
    panel = read(
        *(tmp_path, text), targets="y", time_column="time", past_covariates="wind", known_covariates="price",
        missing="hold", ahead=2, calendar=["month"],
    )  # fmt: skip
    (one,) = panel.series
    assert (panel.targets, panel.past, panel.known) == (["y"], ["wind"], ["price", "month_sin", "month_cos"])
    assert one.target.tolist() == [[1], [2], [3]]
    assert one.past.tolist() == [[5], [6], [6]]
    assert one.known[:, 0].tolist() == [7, 8, 9, 10, 10]
    assert [write_time(time, panel.form.date_format) for time in one.times[3:]] == ["2020-04-30", "2020-05-31"]
    np.testing.assert_allclose(one.known[:, 1], np.sin(2 * np.pi * np.arange(5) / 12), atol=1e-12)
    assert panel.notes == [
        "encoding: utf-8",
        "separator: ','",
        "decimal sign: '.'",
        "dates of column 'time': %Y-%m-%d",
        "frequency: M",
        "rows at the end without targets, which are of the future: 1",
        "missing values of column 'wind', held: 1",
        "rows ahead of the table, of which known covariates are held: 1",
    ]


def test_many_series_in_any_order_of_rows(tmp_path):
    rows = [f"{day},{name},{10 * number + day},{number},{word}" for day in (1, 2, 3)
            for name, number, word in (("b", 2, "v"), ("a", 1, "u"))]  # fmt: skip
    text = "\n".join(["day,name,y,size,kind", *rows])
    form = dict(targets="y", series_column="name", time_column="day", static_columns=["size", "kind"])
    panel = read(tmp_path, text, **form)
    assert [one.name for one in panel.series] == ["a", "b"]
    assert panel.known == ["size", "kind=u", "kind=v"]
    for one, number in zip(panel.series, (1, 2), strict=True):
        assert one.target[:, 0].tolist() == [10 * number + day for day in (1, 2, 3)]
        assert one.known.tolist() == [[number, number == 1, number == 2]] * 3
        assert one.times.tolist() == [1, 2, 3]

    later = read(tmp_path, "day,name,y,size,kind\n7,c,1,2,v\n8,c,1,2,v\n", **panel.form._asdict())
    assert later.known == panel.known
    assert later.series[0].known.tolist() == [[2, 0, 1]] * 2
    with pytest.raises(
        ValueError, match=r"table.csv:2, column 'kind': 'w' is no category that is known; there are u, v"
    ):
        read(tmp_path, "day,name,y,size,kind\n7,c,1,2,w\n8,c,1,2,w\n", **panel.form._asdict())


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        ("", {}, r"table.csv: is empty"),
        ("x,y\n", {}, r"table.csv: has a header and no rows"),
        ("x,x\n1,2\n", {}, r"columns 1 and 2 are both named 'x'"),
        ("x,y\n1,2\n3\n", {}, r"table.csv:3: expected 2 cells as in the header, got 1"),
        ("x,y\n1,2\n3,4,5\n", {}, r"table.csv:3: expected 2 cells as in the header, got 3"),
        ("wind,y\n1,2\n", {"targets": "wnd"}, r"no column 'wnd', named as targets; there are wind, y; did you mean 'w"),
        ("x,y\n1,2\n3,a\n", {"targets": "y"}, r"table.csv:3, column 'y': expected a finite number, got 'a'"),
        ("x,y\n1,2\n3,inf\n", {}, r"table.csv:3, column 'y': expected a finite number, got 'inf'"),
        ("x,y\n1,2\n3,NaN\n4,4\n", {}, r"table.csv:3, column 'y': the value is missing \('NaN'\); missing=hold"),
        ("x,y\n1,2\n3,\n4,4\n", {}, r"table.csv:3, column 'y': the value is missing; missing=hold"),
        ("x,y\n,2\n,\n", {}, r"table.csv: column 'x' has no value"),
        ("t,y\n1,1\n3,1\n5,1\n6,1\n", {"time_column": "t"}, r"table.csv:5, column 't': the step between '5' and '6'"),
        ("t,y\n1,1\n2,1\n2,1\n", {"time_column": "t"}, r"table.csv:4, column 't': '2' repeats the time of the row be"),
        ("t,y\n1,1\n2,1\n1,1\n", {"time_column": "t"}, r"table.csv:4, column 't': '1' lies before the time of the row"),
        ("t,y\n1,1\n2,1\n5,1\n6,2", {"time_column": "t"}, r"csv:4, column 't': 2 rows are missing between '2' and '5'"),
        (
            "t,y\n01/02/2023,1\n02/02/2023,2\n",
            {"time_column": "t"},
            r"csv:2, column 't': '01/02/2023' may be two dates",
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, text, form, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, text, **form)
    assert "\n" not in str(error.value)


GAPS = "t,y,z,p,k\n1,1,10,1,1\n2,,20,2,2\n3,3,,,3\n6,9,50,5,\n7,,70,7,7\n8,,,8,8\n"


@pytest.mark.parametrize(
    ("missing", "y", "z", "p", "k"),
    [
        ("hold", [1, 1, 3, 3, 3, 9, 9], [10, 20, 20, 20, 20, 50, 70], [1, 2, 2, 2, 2, 5, 7], [1, 2, 3, 3, 3, 3, 7, 8]),
        ("mask", [1, "", 3, "", "", 9, ""], [10, 20, "", "", "", 50, 70], [1, 2, 2, 2, 2, 5, 7],
         [1, 2, 3, 3, 3, 3, 7, 8]),
    ],
)  # fmt: skip
def test_missing_values_and_rows_by_policy(tmp_path, missing, y, z, p, k):
    """The last row has no target: it is of the future, and what is past of it is not read."""
    form = dict(targets=["y", "z"], time_column="t", past_covariates="p", known_covariates="k", missing=missing)
    panel = read(tmp_path, GAPS, **form)
    (one,) = panel.series
    assert one.times.tolist() == list(range(1, 9)) and one.num_rows == 7
    for column, expected in ((one.target[:, 0], y), (one.target[:, 1], z), (one.past[:, 0], p), (one.known[:, 0], k)):
        assert ["" if np.isnan(value) else value for value in column] == expected
    assert panel.notes[-6:] == [
        "rows missing in time, filled: 2",
        "rows at the end without targets, which are of the future: 1",
        f"missing values of column 'y', {'masked' if missing == 'mask' else 'held'}: 4",
        f"missing values of column 'z', {'masked' if missing == 'mask' else 'held'}: 3",
        "missing values of column 'p', held: 3",
        "missing values of column 'k', held: 3",
    ]


def test_missing_values_on_a_line(tmp_path):
    text = "t,y,k\n1,1,1\n2,,\n5,5,4\n6,6,6\n"
    panel = read(tmp_path, text, targets="y", time_column="t", known_covariates="k", missing="linear")
    assert panel.series[0].target[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert panel.series[0].known[:, 0].tolist() == [1, 1.75, 2.5, 3.25, 4, 6]


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        ("y,z\n1,1\n,2\n3,3\n", {}, r"csv:3, column 'y': the value is missing; missing=hold, linear or mask says"),
        ("y,z\n,1\n2,2\n3,3\n", {"missing": "hold"}, r"csv:2, column 'y': the value is missing, and there is"),
        ("y,z\n,1\n2,2\n3,3\n", {"missing": "linear"}, r"csv:2, column 'y': the value is missing, and a line ne"),
        ("y,z\n1,1\n2,\n3,3\n4,\n", {"missing": "linear"}, r"csv:5, column 'z': the value is missing, and a line"),
        ("y,z\nNA,1\nNA,2\n", {"missing": "mask"}, r"table.csv: column 'y' has no value"),
        ("y,z\n1,1\n2,\n", {"targets": "y", "past_covariates": "z"}, r"csv:3, column 'z': the value is missing"),
        ("y,z\n1,1\n2,2\n,\n", {"targets": "y", "known_covariates": "z"}, r"csv:4, column 'z': the value is missing"),
        ("y,z\n1,1\n2,2\n,3\n", {"targets": "y", "known_covariates": "z"}, r"steps need z of 2 rows behind the"),
        ("y,z\n1,1\n2,2\n", {"targets": "y", "static_columns": "z"}, r"csv:3, column 'z': a static column is con"),
        ("y,z\n1,a\n2,b\n", {"targets": "y", "static_columns": "z"}, r"a static column is constant, got 'b' after 'a'"),
        ("y,z\n1,\n2,\n", {"targets": "y", "static_columns": "z"}, r"static column 'z' has no value"),
        ("y,z\n1,a\n2,\n", {"targets": "y", "series_column": "z"}, r"csv:3, column 'z': the name of the series is m"),
        ("y,z\n1,a\n,b\n2,a\n", {"targets": "y", "series_column": "z"},
         r"table.csv: target 'y' of series 'b' has no value"),
        ("t,y,z\n1,1,a\n1,1,b\n2,1,a\n1,1,b\n", {"targets": "y", "series_column": "z", "time_column": "t"},
         r"csv:5, column 't': '1' repeats the time of the row before of series 'b'"),
        ("y,hour_sin,t\n1,1,1\n", {"targets": "y", "known_covariates": "hour_sin", "calendar": "hour",
         "time_column": "t", "date_format": "unix", "frequency": "h"}, r"two known covariates would be named 'h"),
    ],
)  # fmt: skip
def test_missing_values_that_no_policy_fills_are_refused(tmp_path, text, form, message):
    ahead = 2 if "steps need" in message else 0
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, text, ahead, **form)
    assert "\n" not in str(error.value)


def test_what_is_known_ahead(tmp_path):
    """The table's own rows of the future come first, then the calendar, and what is held if the policy is to hold."""
    text = "day,y,k\n2024-01-01,1,5\n2024-01-02,2,6\n2024-01-03,,7\n"
    form = dict(targets="y", time_column="day", calendar="weekday")
    panel = read(tmp_path, text, 4, known_covariates="k", missing="hold", **form)
    assert panel.series[0].known[:, 0].tolist() == [5, 6, 7, 7, 7, 7]
    angles = 2 * np.pi * np.arange(6) / 7
    np.testing.assert_allclose(panel.series[0].known[:, 1:], np.stack([np.sin(angles), np.cos(angles)], 1), atol=1e-12)
    assert len(read(tmp_path, text, 1, known_covariates="k", **form).series[0].times) == 3
    assert len(read(tmp_path, text, 4, **form).series[0].times) == 6
    counted = read(tmp_path, text, 4, targets="y").series[0]
    assert counted.times.tolist() == [1, 2, 3, 4, 5, 6] and counted.known.shape == (6, 0)


def test_series_are_sorted_by_name_and_whole_numbers_by_size(tmp_path):
    text = "id,y\n10,1\n9,2\n10,3\nNA,4\n"
    assert [one.name for one in read(tmp_path, text, targets="y", series_column="id").series] == ["10", "9", "NA"]
    panel = read(tmp_path, text.replace("NA", "9"), targets="y", series_column="id")
    assert [one.name for one in panel.series] == ["9", "10"]
    assert [one.target[:, 0].tolist() for one in panel.series] == [[2, 4], [1, 3]]
    assert [one.times.tolist() for one in panel.series] == [[1, 2], [1, 2]]


def test_series_may_begin_and_end_apart(tmp_path):
    text = "id,day,y\nb,2024-01-05,1\na,2024-01-01,2\nb,2024-01-06,3\na,2024-01-02,4\na,2024-01-03,\n"
    first, second = read(tmp_path, text, 2, targets="y", series_column="id", time_column="day").series
    assert (first.num_rows, second.num_rows) == (2, 2)
    assert first.times.astype("datetime64[D]").astype(str).tolist() == [f"2024-01-0{day}" for day in (1, 2, 3, 4)]
    assert second.times.astype("datetime64[D]").astype(str).tolist() == [f"2024-01-0{day}" for day in (5, 6, 7, 8)]


def test_a_completed_form_reads_later_tables_alike(tmp_path):
    """What '03/02/2024' and '1,234' mean is what they meant in the first table; another column changes nothing."""
    first = "day;y;kind\n" + "".join(f"{day:02d}/01/2024;{day},5;{'uv'[day > 9]}\n" for day in range(1, 32))
    form = dict(time_column="day", series_column="kind")
    panel = read(tmp_path, first, **form)
    later = "day;y;kind;x\n03/02/2024;1,234;w;1\n04/02/2024;2,345;w;1\n"
    with pytest.raises(ValueError, match="may be a decimal number or thousands"):
        read(tmp_path, later, **form)
    (one,) = read(tmp_path, later, **panel.form._asdict()).series
    assert one.target.tolist() == [[1.234], [2.345]]
    assert one.times.astype("datetime64[D]").astype(str).tolist() == ["2024-02-03", "2024-02-04"]
    with pytest.raises(ValueError, match=r"csv:2, column 'y': expected ',' as decimal sign, got '1.5'"):
        read(tmp_path, "day;y;kind\n03/02/2024;1.5;w\n", **panel.form._asdict())


def test_rows_are_counted_where_no_time_is_named(tmp_path):
    panel = read(tmp_path, "when,y\n2024-01-01,1\n2024-01-05,2\n")
    assert panel.series[0].times.tolist() == [1, 2]
    assert "rows are counted; time_column=when says that column 'when' is their time" in panel.notes


def test_names_of_columns_may_be_numbers(tmp_path):
    """YAML takes 2016 for a number."""
    assert read(tmp_path, "2016,b\n1,2\n", targets=2016, past_covariates=["b"]).targets == ["2016"]
