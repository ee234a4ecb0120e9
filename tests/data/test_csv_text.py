"""CSV files with gaps or non-numbers are refused by file, line and column."""

import numpy as np
import pytest

from rnnlab.data.csv_text import read_cells, read_columns, write_number
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
    with pytest.raises(ValueError, match=r"s\.csv:2: is not UTF-8: .* at byte 2; encoding=NAME says what it is"):
        read_columns(tmp_path / "s.csv", ["v"])
    (column,) = read_columns(tmp_path / "s.csv", ["v"], encoding="latin-1")
    assert column.cells == ["ä"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(tmp_path, end):
    (tmp_path / "s.csv").write_bytes(f'\ufeff1,2{end}3,"4\u2028"{end}{end}'.encode())
    assert read_cells(tmp_path / "s.csv") == (tmp_path / "s.csv", [(1, ["1", "2"]), (2, ["3", "4"])])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (73429300.0, "73429300"),
        (-1000010.0, "-1000010"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e22, "1e+22"),
        (np.float32(0.1), "0.1"),
        (np.float32(16777217), "16777216"),
        (np.float64(5e-324), "5e-324"),
    ],
)
def test_numbers_are_written_with_the_digits_that_read_back(value, text):
    assert write_number(value) == text and type(value)(text) == value


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


def test_a_file_may_be_called_by_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    (tmp_path / "2016").write_text("y\n1\n")
    assert find_file(2016) == tmp_path / "2016"
