"""Times of tables: how they are written, how they are spaced, and what follows them."""

import datetime

import numpy as np
import pytest

from rnnlab.data.clock import calendar_features, following, parse_frequency, write_time
from rnnlab.data.tables import TableForm, read_table


def read(folder, cells, ahead=0, **form):
    path = folder / "table.csv"
    path.write_text("t,y\n" + "".join(f'"{cell}",{row}\n' for row, cell in enumerate(cells)), encoding="utf-8")
    return read_table(path, TableForm(targets="y", time_column="t", **form), ahead)


def texts(panel):
    return [write_time(time, panel.form.date_format, panel.zone) for time in panel.series[0].times]


DAYS = [datetime.datetime(2023, 1, 1) + datetime.timedelta(days=row) for row in range(40)]
HALVES = [datetime.datetime(2023, 1, 12, 22) + datetime.timedelta(minutes=30 * row) for row in range(40)]


DATES = [
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%d/%m/%y"),
    *("%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%b %d, %Y", "%B %d %Y"),
]
CLOCKS = ["", " %H:%M", " %H:%M:%S", "T%H:%M:%S.%f", " %I:%M %p"]


@pytest.mark.parametrize(
    ("date_format", "clock"),
    [*((date, clock) for date in DATES for clock in CLOCKS), ("%Y%m%d", ""), ("%Y%m%d%H%M", "")],
)
def test_dates_are_found_out(tmp_path, date_format, clock):
    times, frequency = (HALVES, "30min") if "M" in date_format[-1:] + clock else (DAYS, "D")
    panel = read(tmp_path, [time.strftime(date_format + clock) for time in times])
    assert panel.series[0].times.tolist() == [round(time.timestamp() * 10**9) for time in utc(times)]
    assert panel.form.frequency == frequency and f"frequency: {frequency}" in panel.notes
    assert f"dates of column 't': {date_format}{clock}" in panel.notes
    assert [datetime.datetime.fromisoformat(text) for text in texts(panel)] == times
    given = read(tmp_path, [time.strftime(date_format + clock) for time in times], date_format=date_format + clock)
    assert given.series[0].times.tolist() == panel.series[0].times.tolist()
    assert not any(note.startswith("dates") for note in given.notes)


def utc(times):
    return [time.replace(tzinfo=datetime.UTC) for time in times]


@pytest.mark.parametrize(
    ("cells", "frequency", "follows"),
    [
        (["1949-11", "1949-12", "1950-01"], "M", ["1950-02", "1950-03"]),
        (["11/1949", "12/1949", "01/1950"], "M", ["1950-02", "1950-03"]),
        (["Nov 1949", "Dec 1949", "Jan 1950"], "M", ["1950-02", "1950-03"]),
        (["194911", "194912", "195001"], "M", ["1950-02", "1950-03"]),
        (["2016Q3", "2016Q4", "2017Q1"], "Q", ["2017Q2", "2017Q3"]),
        (["2016-Q1", "2016-Q3", "2017-Q1"], "2Q", ["2017Q3", "2018Q1"]),
        (["2016-W51", "2016-W52", "2017-W01"], "W", ["2017-W02", "2017-W03"]),
        (["1871", "1872", "1873"], "1", ["1874", "1875"]),
        (["10", "15", "20"], "5", ["25", "30"]),
        (["-10", "0", "10"], "10", ["20", "30"]),
        (["2020-02-29", "2021-02-28", "2022-02-28"], "Y", ["2023-02-28", "2024-02-29"]),
        (["2023-10-31", "2023-11-30", "2023-12-31"], "M", ["2024-01-31", "2024-02-29"]),
        (["2023-11-30", "2023-12-30", "2024-01-30"], "M", ["2024-02-29", "2024-03-30"]),
        (["2023-11-15", "2023-12-15", "2024-01-15"], "M", ["2024-02-15", "2024-03-15"]),
        (["2023-01-05", "2023-01-06", "2023-01-09", "2023-01-10"], "B", ["2023-01-11", "2023-01-12"]),
        (["2023-01-05", "2023-01-06", "2023-01-09", "2023-01-13"][:3], "B", ["2023-01-10", "2023-01-11"]),
        (["2023-01-02", "2023-01-09", "2023-01-16"], "W", ["2023-01-23", "2023-01-30"]),
        (["2023-01-01 00:00", "2023-01-01 00:15"], "15min", ["2023-01-01 00:30", "2023-01-01 00:45"]),
        (["2023-01-01", "2023-01-01 06:00", "2023-01-01 12:00"], "6h", ["2023-01-01 18:00:00", "2023-01-02"]),
        (["2023-01-01 00:00:00", "2023-01-01 00:00:00.5"], "500ms", ["2023-01-01 00:00:01", "2023-01-01 00:00:01.5"]),
        (["2023-01-01T23:00Z", "2023-01-02T00:00Z"], "h", ["2023-01-02T01:00Z", "2023-01-02T02:00Z"]),
        (["2023-01-01 23:00+01", "2023-01-02 00:00+01"], "h", ["2023-01-02 01:00+01", "2023-01-02 02:00+01"]),
        (["1467331200", "1467334800", "1467338400"], "h", ["2016-07-01 03:00:00Z", "2016-07-01 04:00:00Z"]),
        (["1467331200000", "1467331200500"], "500ms", ["2016-07-01 00:00:01Z", "2016-07-01 00:00:01.5Z"]),
        (["1467331200000000000", "1467331200000000001"], "ns", 
         ["2016-07-01 00:00:00.000000002Z", "2016-07-01 00:00:00.000000003Z"]),
        (["2016070122", "2016070123", "2016070200"], "h", ["2016-07-02 01:00", "2016-07-02 02:00"]),
    ],
)  # fmt: skip
def test_frequencies_are_found_out_and_followed(tmp_path, cells, frequency, follows):
    panel = read(tmp_path, cells, ahead=2)
    assert panel.form.frequency == frequency
    assert texts(panel)[-2:] == follows
    assert panel.series[0].num_rows == len(cells)
    if panel.form.date_format != "unix":
        again = read(tmp_path, cells, ahead=2, frequency=frequency, date_format=panel.form.date_format)
        assert texts(again) == texts(panel)


def test_times_of_two_zones_are_those_of_utc(tmp_path):
    """The clocks of Berlin were put forward at 01:00 UTC."""
    panel = read(tmp_path, ["2023-03-26 01:00+0100", "2023-03-26 03:00+0200", "2023-03-26 04:00+0200"], ahead=1)
    assert texts(panel) == ["2023-03-26 00:00Z", "2023-03-26 01:00Z", "2023-03-26 02:00Z", "2023-03-26 03:00Z"]
    assert "time zones of column 't': +0100, +0200; times are those of UTC" in panel.notes


@pytest.mark.parametrize(
    ("cells", "form", "message"),
    [
        (["2023-01-01", ""], {}, r"csv:3, column 't': the time is missing"),
        (["yesterday", "today"], {}, r"csv:2, column 't': expected a time, got 'yesterday'; date_format="),
        (["0.5", "1.0"], {}, r"csv:2, column 't': expected a time, got '0.5'; time_column=null counts rows"),
        (["2023-01-01", "2023-02-30"], {}, r"csv:3, column 't': expected a time as %Y-%m-%d, got '2023-02-30'"),
        (["13/01/2023", "01/13/2023"], {}, r"csv:3, column 't': expected a time as %d/%m/%Y, got '01/13/2023'"),
        (["2023-01-01"] * 2, {"date_format": "%d/%m/%Y"}, r"csv:2, column 't': expected a time as %d/%m/%Y, got '2023"),
        (["2023-01-01"] * 2, {"date_format": "%Q"}, r"column 't', date_format=%Q: 'Q' is a bad directive"),
        (["2023-01-01"] * 2, {"date_format": "unix"}, r"csv:2, column 't': expected a whole number, got '2023-01-01'"),
        (["01/02/2023", "02/02/2023"], {}, r"say date_format=%d/%m/%Y or date_format=%m/%d/%Y"),
        (["1/2/23 5:00", "1/2/23 6:00"], {}, r"csv:2, column 't': '1/2/23 5:00' may be two dates, and no row decides"),
        (["1500-01-01", "1500-01-02"], {}, r"expected times from 1678 to 2261"),
        (["2023-01-02", "2023-01-03", "2023-01-03"], {}, r"csv:4, column 't': '2023-01-03' repeats the time of "),
        (["2023-01-02", "2023-01-03", "2023-01-03"], {}, r"series_column=NAME says which column tells series apart"),
        (["2023-01-02", "2023-01-03", "2023-01-01"], {}, r"csv:4, column 't': '2023-01-01' lies before the tim"),
        (["2023-01-02", "2023-01-03", "2023-01-06"], {"frequency": "D"}, r"csv:4, column 't': 2 rows are missing"),
        (["2023-01-31", "2023-02-28", "2023-04-30"], {}, r"csv:4, column 't': a row is missing between '2023-02"),
        (["2023-01-31", "2023-02-28", "2023-03-05"], {}, r"csv:4, .*between '2023-02-28' and '2023-03-05' is no multi"),
        (["2023-01-06", "2023-01-07"], {"frequency": "B"}, r"csv:3, column 't': the step between '2023-01-06' and"),
        (["2023-01-01", "2023-01-02"], {"frequency": "2D"}, r"is no multiple of frequency 2D"),
        (["2023-01-01", "2023-01-02"], {"frequency": "5"}, r"frequency=5 is not one of column 't', which holds dates"),
        (["1", "2"], {"frequency": "D"}, r"frequency=D is not one of column 't', which holds whole numbers"),
        (["1", "2"], {"frequency": "fortnight"}, r"frequency must be one of Y, Q, M, B, W, D, h, min, s, ms, us, ns"),
        (["1", "2"], {"frequency": "m"}, r"frequency must be one of"),  # months or minutes
        (["1871", "1872"], {"calendar": "month"}, r"calendar=month needs dates, and column 't' holds whole"),
        (["2023-01-01"], {}, r"one row has no frequency; frequency=D, for example, gives it"),
        (["2023-03-26 01:00+01:00", "2023-03-26 02:00"], {}, r"csv:3, column 't': '2023-03-26 02:00' has no time zone"),
        (["2023-03-26 00:00", "2023-03-26 01:00", "2023-03-26 03:00"], {}, r"csv:4, .*; if the clocks changed,"),
        (["2023-10-29 01:00", "2023-10-29 02:00", "2023-10-29 02:00"], {}, r"csv:4, .*; if the clocks changed,"),
    ],
)  # fmt: skip
def test_times_that_are_none_or_not_equally_spaced_are_refused(tmp_path, cells, form, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, cells, **form)
    assert "\n" not in str(error.value)


def test_an_order_of_day_and_month_is_decided_by_any_row(tmp_path):
    cells = [time.strftime("%m/%d/%Y") for time in DAYS]
    assert read(tmp_path, cells[:13]).form.date_format == "%m/%d/%Y"
    assert read(tmp_path, cells[:12], date_format="%m/%d/%Y").form.frequency == "D"
    assert read(tmp_path, cells[:12], date_format="%d/%m/%Y").form.frequency == "M"
    assert read(tmp_path, ["05/05/2023"], frequency="D").form.date_format == "%d/%m/%Y"  # the same in both orders


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("h", "h"), ("H", "h"), ("2 hours", "2h"), ("24h", "D"), ("60min", "h"), ("90 min", "90min"), ("7D", "W"),
        ("MS", "M"), ("ME", "M"), ("3M", "Q"), ("12 months", "Y"), ("W-SUN", "W"), ("QE", "Q"), ("YS", "Y"),
        ("business day", "B"), ("day", "D"), ("1000ms", "s"), ("5", "5"), ("s", "s"),
    ],
)  # fmt: skip
def test_frequencies_have_several_names(given, canonical):
    assert str(parse_frequency(given)) == canonical


def test_what_follows_is_as_far_as_asked():
    times = np.array(["2023-12-29T06:00"], dtype="datetime64[ns]")  # a Friday
    assert [write_time(time) for time in following(times, "B", 3)] == [
        *("2024-01-01 06:00:00", "2024-01-02 06:00:00", "2024-01-03 06:00:00")
    ]
    assert len(following(times, "h", 0)) == 0
    assert following(np.array([4, 6]), "2", 3).tolist() == [8, 10, 12]


def test_calendar_features_go_round_once_a_period():
    """Each is 0 at the beginning of its period and a quarter of the way round after a quarter of it."""
    times = np.array(["2024-01-01T00:00", "2024-04-01T06:15"], dtype="datetime64[ns]")  # Mondays
    features = calendar_features(times, ["minute", "hour", "weekday", "day", "month", "year_day"])
    np.testing.assert_allclose(features[0], [0, 1] * 6, atol=1e-12)
    quarters = np.array([0.25, 6.25 / 24, 0, 0, 0.25, 91 / 366])
    np.testing.assert_allclose(features[1, ::2], np.sin(2 * np.pi * quarters), atol=1e-12)
    np.testing.assert_allclose(features[1, 1::2], np.cos(2 * np.pi * quarters), atol=1e-12)
