"""Time stamps in equal steps pass, however they are written; what is irregular is named by file, line and column."""

import numpy as np
import pytest

from rnnlab.data.csv_text import read_columns
from rnnlab.data.times import check_regular_times, read_times


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        (tmp_path / "s.csv").write_text(text)
        return tmp_path / "s.csv"

    return write_text


REGULAR = {
    "numbers": ["1", "2", "3"],
    "years": ["1949", "1950", "1951"],
    "months": ["1949-11", "1949-12", "1950-01"],
    "days": ["2020-02-28", "2020-02-29", "2020-03-01"],
    "first of month": ["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"],
    "quarters": ["2020-01-01", "2020-04-01", "2020-07-01"],
    "hours": ["2016-07-01 22:00", "2016-07-01 23:00", "2016-07-02 00:00"],
    "seconds": ["2016-07-01T00:00:00", "2016-07-01T00:00:01.500", "2016-07-01T00:00:03"],
    "one": ["2020-01-01"],
    "ends of months": ["2019-12-31", "2020-01-31", "2020-02-29", "2020-03-31", "2020-04-30"],
    "ends of quarters": ["2019-12-31 23:59", "2020-03-31 23:59", "2020-06-30 23:59", "2020-09-30 23:59"],
    "the 30th": ["2021-01-30", "2021-02-28", "2021-03-30"],
    "leap days": ["2020-02-29", "2021-02-28", "2022-02-28"],
    "quarters by name": ["2019Q4", "2020Q1", "2020Q2"],
    "a tenth of a second": ["00", "00.1", "00.2", "00.3"],
    "milliseconds": ["2016-07-01T00:00:00.999", "2016-07-01T00:00:01.000", "2016-07-01T00:00:01.001"],
    "rounded milliseconds": [f"2016-07-01 00:00:00.{part}" for part in ("000", "033", "067", "100")],
    "rounded numbers": ["0", "0.333", "0.667", "1"],
    "nanoseconds": ["2016-07-01 00:00:00.000000001", "2016-07-01 00:00:00.000000002", "2016-07-01 00:00:00.000000003"],
    "epoch, hours": ["1467331200", "1467334800", "1467338400"],
    "epoch, tenths": ["1467331200.1", "1467331200.2", "1467331200.3", "1467331200.4"],
    "epoch, months": ["1577836800", "1580515200", "1583020800", "1585699200"],
    "epoch, months in milliseconds": ["1577836800000", "1580515200000", "1583020800000", "1585699200000"],
    "epoch, nanoseconds": ["1467331200000000001", "1467331200000000002", "1467331200000000003"],
    "UTC": ["2020-01-01 00:00Z", "2020-01-01 01:00Z", "2020-01-01 02:00Z"],
    "offsets": ["2020-01-01T23:30:00+05:30", "2020-01-02T00:30:00+0530", "2020-01-02T01:30:00+05:30"],
    "hours over a change of clock": ["2020-03-29T01:00+01:00", "2020-03-29T03:00+02:00", "2020-03-29T04:00+02:00"],
    "days over a change of clock": ["2020-03-28T00:00+01", "2020-03-29T00:00+01", "2020-03-30T00:00+02"],
    "months over a change of clock": ["2020-03-01T00:00+01:00", "2020-04-01T00:00+02:00", "2020-05-01T00:00+02:00"],
    "US": ["1/30/2020", "1/31/2020", "2/1/2020"],
    "US with the time": ["12/31/19 11:00 PM", "1/1/20 12:00 AM", "1/1/20 1:00 AM"],
    "US or European": ["01/01/2020", "01/02/2020", "01/03/2020"],
    "European": ["31.12.2019", "1.1.2020", "2.1.2020"],
    "slashes": ["2020/01/31", "2020/02/29", "2020/03/31"],
    "compact": ["20200131", "20200201", "20200202"],
    "compact months": ["201911", "201912", "202001"],
    "numbers with exponents": ["1e3", "2e3", "3e3"],
}


@pytest.mark.parametrize("stamps", REGULAR.values(), ids=REGULAR)
def test_regular_times_pass(write, stamps):
    (times,) = read_columns(write("\n".join(["t", *stamps])), ["t"])
    check_regular_times(times)


@pytest.mark.parametrize("stamps", REGULAR.values(), ids=REGULAR)
def test_regular_times_are_read_for_pictures(write, stamps):
    (times,) = read_columns(write("\n".join(["t", *stamps]) + "\n"), ["t"])
    found = read_times(times)
    assert len(found) == len(stamps) and (found[1:] >= found[:-1]).all()  # to the millisecond


TOLD = {
    "months": (["1949-11", "1949-12", "1950-01"], ["1949-11-01", "1949-12-01", "1950-01-01"]),
    "days first": (["30.1.2020", "31.1.2020", "1.2.2020"], ["2020-01-30", "2020-01-31", "2020-02-01"]),
    "months first": (["1/2/2020", "2/2/2020", "3/2/2020"], ["2020-01-02", "2020-02-02", "2020-03-02"]),
    "seconds since 1970": (["1577836800", "1577836860"], ["2020-01-01T00:00", "2020-01-01T00:01"]),
    "as one number": (["20191230", "20191231", "20200101"], ["2019-12-30", "2019-12-31", "2020-01-01"]),
    "years": (["1949", "1950"], [1949.0, 1950.0]),
}


@pytest.mark.parametrize(("stamps", "expected"), TOLD.values(), ids=TOLD)
def test_times_of_pictures_are_what_the_file_says(write, stamps, expected):
    (times,) = read_columns(write("\n".join(["t", *stamps]) + "\n"), ["t"])
    found = read_times(times)
    assert (found == np.array(expected, dtype=found.dtype)).all()


IRREGULAR = {
    "gap": (
        ["1949-01", "1949-02", "1949-04", "1949-05"],
        "4, column 't': irregular step from '1949-02' to '1949-04', 2",
    ),
    "early gap": (["1", "3", "4", "5"], "3, column 't': irregular step from '1' to '3', 2 times the usual one"),
    "repeated": (["1", "2", "2", "3"], "4, column 't': '2' repeats"),
    "backwards": (["1", "2", "0", "3"], "4, column 't': '0' lies before"),
    "missing number": (["1", "", "3"], "3, column 't': the value is missing"),
    "missing date": (["1949-01", "", "1949-03"], "3, column 't': expected an ISO time stamp"),
    "missing last": (["1949-01", "1949-02", ""], "4, column 't': expected an ISO time stamp"),
    "no such month": (["1949-12", "1949-13"], "3, column 't': expected an ISO time stamp .*got '1949-13'"),
    "time zones of some": (["2020-01-01 00:00Z", "2020-01-01 01:00"], "3, column 't': .*: one has a time zone"),
    "gap in UTC": (
        ["2020-01-01 00:00Z", "2020-01-01 01:00Z", "2020-01-01 02:00+01:00"],
        "4, column 't': '2020-01-01 02:00.01:00' repeats",
    ),
    "ends of months": (["2020-01-31", "2020-02-29", "2020-04-30"], "4, .* 2 times the usual one"),
    "all but the ends of months": (["2020-01-31", "2020-02-28", "2020-03-31"], "4, .* 1.14286 times the usual one"),
    "milliseconds": ([f"2016-07-01 00:00:00.{part}" for part in ("000", "033", "067", "134")], "5, .* times the usual"),
    "jitter of seconds": (["2016-07-01 00:00:00", "2016-07-01 00:01:00", "2016-07-01 00:02:01"], "4, .* 1.01667 times"),
    "nanoseconds": (["1467331200000000001", "1467331200000000002", "1467331200000000004"], "4, .* 2 times the usual"),
    "US": (["1/31/2020", "2/1/2020", "2/30/2020"], "4, column 't': expected a date as '7/31/2016', got '2/30/2020'"),
    "US gap": (["1/30/2020", "1/31/2020", "2/2/2020"], "4, .* 2 times the usual one"),
    "numbers of all sizes": (["1e-20", "1", "1e300"], "4, .* times the usual one"),
    "numbers that are no dates": (["20200131", "20200132", "20200201"], "4, .* 69 times the usual one"),
    "words": (["monday", "tuesday"], "2, column 't': expected a finite number, got 'monday'"),
}


@pytest.mark.parametrize(("stamps", "message"), IRREGULAR.values(), ids=IRREGULAR)
def test_irregular_times_are_refused(write, stamps, message):
    (times,) = read_columns(write("t,v\n" + "".join(f"{stamp},0\n" for stamp in stamps)), ["t"])
    with pytest.raises(ValueError, match=rf"s\.csv:{message}"):
        check_regular_times(times)
