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
