"""CSV files with gaps or non-numbers are refused by file, line and column."""

import numpy as np
import pytest

from rnnlab.data.csv_text import check_regular_times, read_columns
from rnnlab.data.files import find_file


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        (tmp_path / "s.csv").write_text(text)
        return tmp_path / "s.csv"

    return write_text


def test_columns_are_found_by_name(write):
    time, value = read_columns(write("t,other,v\n1,x, 2.5 \n2,y,-3e1\n\n"), ["t", "v"])
    assert time.cells == ["1", "2"] and value.lines == [2, 3]
    assert np.array_equal(value.numbers(), [2.5, -30.0])


def test_byte_order_mark_and_quotes_are_read(write):
    (value,) = read_columns(write('\ufeff"v","w"\n"1","a,b"\n'), ["v"])
    assert value.numbers().tolist() == [1.0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", r"s\.csv:3, column 'v': the value is missing"),
        ("NaN", r"s\.csv:3, column 'v': expected a finite number, got 'NaN'"),
        ("inf", r"s\.csv:3, column 'v': expected a finite number, got 'inf'"),
        ("1_000", r"s\.csv:3, column 'v': expected a finite number, got '1_000'"),
        ("n/a", r"s\.csv:3, column 'v': expected a finite number, got 'n/a'"),
    ],
)
def test_cells_that_are_no_numbers_are_refused(write, cell, message):
    (column,) = read_columns(write(f"t,v\n1,1\n2,{cell}\n3,1\n"), ["v"])
    with pytest.raises(ValueError, match=message):
        column.numbers()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,w\n1,2\n", r"s\.csv: no column 'v'; the header has t, w"),
        ("v,v\n1,2\n", r"s\.csv: more than one column 'v'"),
        ("t,v\n1,2\n3\n", r"s\.csv:3: expected 2 cells as in the header, got 1"),
        ("t,v\n1,2\n\n3,4\n", r"s\.csv:3: blank line between rows"),
        ("", r"s\.csv: is empty"),
    ],
)
def test_broken_layouts_are_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_columns(write(text), ["v"])


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "s.csv").write_bytes("v\nä\n".encode("latin-1"))
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_columns(tmp_path / "s.csv", ["v"])


def test_relative_paths_are_looked_for_under_the_data_root(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "s.csv").write_text("v\n1\n")
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    with pytest.raises(ValueError, match=r"no CSV file at folder/s\.csv; RNNLAB_DATA, .* is not set"):
        find_file("folder/s.csv", "CSV file")
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    assert find_file("folder/s.csv", "CSV file") == tmp_path / "folder" / "s.csv"
    with pytest.raises(ValueError, match=r"no CSV file at folder/t\.csv or .*folder/t\.csv$"):
        find_file("folder/t.csv", "CSV file")


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
}


@pytest.mark.parametrize("stamps", REGULAR.values(), ids=REGULAR)
def test_regular_times_pass(write, stamps):
    (times,) = read_columns(write("\n".join(["t", *stamps])), ["t"])
    check_regular_times(times)


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
    "no such month": (["1949-12", "1949-13"], "3, column 't': expected an ISO time stamp .*got '1949-13'"),
    "time zone": (["2020-01-01 00:00Z", "2020-01-01 01:00Z"], "2, column 't': expected a finite number"),
    "words": (["monday", "tuesday"], "2, column 't': expected a finite number, got 'monday'"),
}


@pytest.mark.parametrize(("stamps", "message"), IRREGULAR.values(), ids=IRREGULAR)
def test_irregular_times_are_refused(write, stamps, message):
    (times,) = read_columns(write("t,v\n" + "".join(f"{stamp},0\n" for stamp in stamps)), ["t"])
    with pytest.raises(ValueError, match=rf"s\.csv:{message}"):
        check_regular_times(times)
