"""How tables are written: encoding, separator, decimal sign, thousands, Parquet; found out, given, or refused."""

import gzip

import numpy as np
import pytest

from rnnlab.data.tables import TableForm, read_table


def read(folder, text, name="table.csv", **form):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, TableForm(**form))


def values(panel):
    return panel.series[0].target.tolist()


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("a,b\n1.5,2\n", ",", [[1.5, 2]]),
        ("a;b\n1,5;2\n", ";", [[1.5, 2]]),
        ("a\tb\n1,5\t2\n", "tab", [[1.5, 2]]),
        ("a|b\n1.5|2\n", "|", [[1.5, 2]]),
        ("a b\n1.5 2\n", " ", [[1.5, 2]]),
        ("price, EUR;b\n1,5;2\n2,5;3\n", ";", [[1.5, 2], [2.5, 3]]),  # a comma parts all rows, too, but into no numbers
        ('"a","b"\n"1.5","2"\n', ",", [[1.5, 2]]),
        ('a,b\n"1,5","2,5"\n', ",", [[1.5, 2.5]]),
        ('"a\nlong",b\n"1.5",2\n', ",", [[1.5, 2]]),
        (" a , b \n 1.5 , 2\n", ",", [[1.5, 2]]),
        ("a,b\r\n1.5,2\r\n", ",", [[1.5, 2]]),
        ("a,b\r1.5,2\r", ",", [[1.5, 2]]),
        ("\ufeffa,b\n1.5,2\n", ",", [[1.5, 2]]),
        ("a,b\n\n1.5,2\n\n2,3\n\n", ",", [[1.5, 2], [2, 3]]),
    ],
)
def test_separators_are_found_out(tmp_path, text, separator, expected):
    panel = read(tmp_path, text)
    assert values(panel) == expected
    assert f"separator: {separator if separator == 'tab' else repr(separator)}" in panel.notes


@pytest.mark.parametrize(
    ("cells", "decimal", "thousands", "expected"),
    [
        ("1.5 2", ".", "", [1.5, 2]),
        ("1,5 2", ",", "", [1.5, 2]),
        ("1.234 2", ".", "", [1.234, 2]),  # of a table whose decimal sign is a comma another cell should say so
        ("1,234 0,5", ",", "", [1.234, 0.5]),
        ("0,123 5", ",", "", [0.123, 5]),
        ("1.234,5 2", ",", ".", [1234.5, 2]),
        ("1,234.5 2", ".", ",", [1234.5, 2]),
        ("1.234 2,5", ",", ".", [1234, 2.5]),
        ("1,234 2.5", ".", ",", [1234, 2.5]),
        ("1.234.567 2", ",", ".", [1234567, 2]),
        ("-1,234,567 2", ".", ",", [-1234567, 2]),
        ("1'234'567.5 2", ".", "'", [1234567.5, 2]),
        ("1\u202f234,5 2", ",", "\u202f", [1234.5, 2]),
        ("-1,5e-3 +2,5E3", ",", "", [-1.5e-3, 2500]),
        ("12% -1.5%", ".", "", [12, -1.5]),
        ("TRUE false", ".", "", [1, 0]),
        (".5 5.", ".", "", [0.5, 5]),
    ],
)
@pytest.mark.parametrize("is_given", [False, True])
def test_signs_of_numbers_are_found_out_or_given(tmp_path, cells, decimal, thousands, expected, is_given):
    form = {"decimal": decimal, "thousands": thousands} if is_given else {}
    panel = read(tmp_path, "a;b\n" + "\n".join(f"{cell};7" for cell in cells.split(" ")), **form)
    assert [row[0] for row in values(panel)] == expected
    assert (f"decimal sign: {decimal!r}" in panel.notes) == (not is_given)
    assert (f"sign between thousands: {thousands!r}" in panel.notes) == (bool(thousands) and not is_given)
    assert (panel.form.decimal, panel.form.thousands) == (decimal, thousands)


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        (
            "a;b\n1,234;1\n",
            {},
            r"'1,234' of column 'a' may be a decimal number or thousands: decimal=, or thousands=, s",
        ),
        (
            "a;b\n1,5;1.5\n",
            {},
            r"decimal sign: '1.5' of column 'b' and '1,5' of column 'a'; decimal=. or decimal=, say",
        ),
        (
            "a;b\n1.234.567;1.5\n",
            {},
            r"'1.234.567' of column 'a' has '.' between thousands, and it is the decimal sign o",
        ),
        ("a;b\n1'234'567;1 234 567\n", {}, r"thousands: '1 234 567' of column 'b' and"),
        (
            "a;b\n1.234,5;1\n2.34,5;1\n",
            {},
            r"csv:3, column 'a': expected '.' between groups of three digits alone, got",
        ),
        (
            "a;b\n1,5;1\n",
            {"decimal": ".", "targets": "a"},
            r"csv:2, column 'a': expected a finite number, got '1,5'; decimal=, or thou",
        ),
        ("a;b\n1.5;1\n", {"decimal": ","}, r"csv:2, column 'a': expected ',' as decimal sign, got '1.5'; decimal=. or"),
        ("a;b\n1%;1\n2;1\n", {}, r"csv:3, column 'a': expected a percent sign as in other rows, got '2'"),
        ("a;b\n1;1\n0x10;1\n", {"targets": "a"}, r"csv:3, column 'a': expected a finite number, got '0x10'"),
        ("a;b\n1;1\n1_000;1\n", {"targets": "a"}, r"csv:3, column 'a': expected a finite number, got '1_000'"),
        ("a;b\n1;1\n-Infinity;1\n", {}, r"csv:3, column 'a': expected a finite number, got '-Infinity'"),
        ("a;b\n1;1\n1e999;1\n", {}, r"csv:3, column 'a': expected a finite number, got '1e999'"),
        ('a;b\n"1\n";1\n\n\nx;1\n', {"targets": "a"}, r"csv:6, column 'a': expected a finite number, got 'x'"),
        ("1.5;2\n3.5;4\n", {}, r"csv:1: the first line should name the columns, got 1.5, 2"),
        ("2020-01-01;2\n2020-01-02;4\n", {}, r"csv:1: the first line should name the columns, got 2020-01-01, 2"),
        (" ; \n1;2\n", {}, r"csv:1: the first line should name the columns, it is blank"),
        (
            b"a;b\n1;\xe9\n",
            {"encoding": "utf-8", "targets": "a"},
            r"csv:2: is not utf-8; encoding=NAME says what it is",
        ),
        ("a;b\n1;2\n".encode("utf-16-le"), {}, r"holds zero bytes; encoding=utf-16-le or utf-16-be may say"),
        (b"PK\x03\x04and so on", {}, r"is a spreadsheet or a zip file: save it as CSV"),
        ('a,b\n1,"2\n3,4\n5,6\n', {}, r"csv:2: cannot be read as CSV: unexpected end of data"),
        ("a;b\n1;" + "x" * 200_000 + "\n", {}, r"cannot be read as CSV: field larger than field limit"),
        (b"PAR1and so on", {}, r"cannot be read as Parquet"),
        (
            "a;b\n1;2\n",
            {"targets": "a", "past_covariates": "a"},
            r"column 'a' of past_covariates is named in targets too",
        ),
        ("a;b\n1;2\n", {"targets": ["a", "a"]}, r"column 'a' of targets is named twice"),
        ("a;b\n1;2\n", {"targets": []}, r"targets must name a column"),
        ("a;b\nx;y\n", {}, r"no column of numbers is left for targets; a, b hold text"),
        ("a;b\n1;2\n", {"targets": "A"}, r"no column 'A', named as targets; there are a, b; did you mean 'a'\?"),
        ("a;b\n1;2\n", {"separator": ";;"}, r"separator must be one character, or tab, got ';;'"),
        ("a;b\n1;2\n", {"decimal": "'"}, r"decimal must be one of ,, ., got"),
        ("a;b\n1;2\n", {"thousands": ".", "decimal": "."}, r"thousands and decimal must differ, got '.' for both"),
        ("a;b\n1;2\n", {"missing": "drop"}, r"missing must be one of hold, linear, mask, refuse, got 'drop'"),
        ("a;b\n1;2\n", {"calendar": "decade", "time_column": "a"}, r"calendar must be one of .*, got 'decade'"),
        ("a;b\n1;2\n", {"calendar": "hour"}, r"calendar=hour needs a time_column"),
        ("a;b\n1;2\n", {"encoding": "utf-7000"}, r"encoding must be one that Python knows"),
    ],
)
def test_what_may_be_two_things_or_none_is_refused(tmp_path, text, form, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, text, **form)
    assert "\n" not in str(error.value).replace(repr("\n"), "")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
@pytest.mark.parametrize("num_rows", [3, 200_000])  # the longer one is read in several blocks
def test_encodings_are_found_out(tmp_path, encoding, num_rows):
    letter = "\x81" if encoding == "latin-1" else "é"  # cp1252 has no such byte
    text = f"größe;{letter}\n" + "".join(f"{row};{row / 2}\n" for row in range(num_rows))
    panel = read(tmp_path, text.encode(encoding))
    assert panel.targets == ["größe", letter]
    np.testing.assert_array_equal(panel.series[0].target[:, 1], np.arange(num_rows) / 2)
    assert panel.notes[0] == {
        "utf-16": "encoding: utf-16, by its byte order mark",
        "cp1252": "encoding: cp1252, since line 1 is not utf-8",
        "latin-1": "encoding: latin-1, since line 1 is not utf-8",
    }.get(encoding, "encoding: utf-8")
    given = read(tmp_path, text.encode(encoding), encoding=encoding)
    assert given.targets == panel.targets and not any(note.startswith("encoding") for note in given.notes)


def test_packed_tables(tmp_path):
    packed = gzip.compress(b"a,b\n1,2\n3,x\n")
    assert values(read(tmp_path, packed, "table.csv.gz", targets="a")) == [[1], [3]]
    with pytest.raises(ValueError, match=r"table.csv.gz:3, column 'b': expected a finite number, got 'x'"):
        read(tmp_path, packed, "table.csv.gz", targets="b")
    assert values(read(tmp_path, packed, "table.csv", targets="a")) == [[1], [3]]  # whatever its name
    with pytest.raises(ValueError, match=r"table.csv.gz: cannot be read: "):
        read(tmp_path, packed[:20], "table.csv.gz")


@pytest.mark.parametrize("text", ["a\n1,5\n2,5\n", "a\n1,5\n2,5\n\n\n"])
def test_one_column(tmp_path, text):
    assert values(read(tmp_path, text)) == [[1.5], [2.5]]
    with pytest.raises(ValueError, match=r"table.csv:3, column 'a': the value is missing"):
        read(tmp_path, "a\n1\n\n2\n")


def test_columns_without_names_are_left_out(tmp_path):
    panel = read(tmp_path, ",a,b\n0,1,x\n1,2,y\n")
    assert panel.targets == ["a"]
    assert panel.notes[-2:] == ["targets: a", "left out: column 1 (no name), b (text)"]
    assert read(tmp_path, "0,1\n5,6\n").targets == ["0", "1"]  # numbers that count the columns are names


def test_text_behind_the_sample_is_refused_with_its_line(tmp_path):
    rows = [f"{row},{row}" for row in range(100_000)]
    rows[90_000] = "90000,x"
    with pytest.raises(ValueError, match=r"table.csv:90002, column 'b': expected a finite number, got 'x'"):
        read(tmp_path, "\n".join(["a,b", *rows]))
    rows[90_000] = "90000"
    with pytest.raises(ValueError, match=r"table.csv:90002: expected 2 cells as in the header, got 1"):
        read(tmp_path, "\n".join(["a,b", *rows]))
    rows[90_000] = "90000,+1"  # a number, though not as the parser writes it
    assert read(tmp_path, "\n".join(["a,b", *rows])).series[0].target[90_000].tolist() == [90_000, 1]


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "time": pandas.date_range("2024-01-01", periods=4, freq="h"),
            "y": np.array([1, 2, 3, 4], dtype=np.float32),
            "holiday": [True, False, False, True],
            "kind": pandas.Categorical(["u", "u", "u", "u"]),
            "words": ["p", "q", "r", "s"],
        }
    )
    path = tmp_path / "table.parquet"
    frame.to_parquet(path)
    panel = read_table(path, TableForm(known_covariates=["holiday"], time_column="time", static_columns=["kind"]))
    assert panel.targets == ["y"] and panel.known == ["holiday", "kind=u"]
    assert panel.series[0].target[:, 0].tolist() == [1, 2, 3, 4]
    assert panel.series[0].known.tolist() == [[1, 1], [0, 1], [0, 1], [1, 1]]
    assert panel.notes == ["targets: y", "left out: words (text)", "frequency: h"]
    with pytest.raises(ValueError, match=r"table.parquet, column 'words': expected numbers, got "):
        read_table(path, TableForm(targets="words"))

    frame["time"] = frame["time"].dt.tz_localize("Europe/Berlin")
    frame.loc[2, "y"] = np.nan
    frame.to_parquet(path)
    panel = read_table(path, TableForm(targets="y", time_column="time", missing="linear"))
    assert panel.series[0].target[:, 0].tolist() == [1, 2, 3, 4] and panel.zone == "Z"
    assert panel.notes[0] == "time zone: Europe/Berlin; times are those of UTC"
    with pytest.raises(ValueError, match=r"table.parquet: row 3, column 'y': the value is missing"):
        read_table(path, TableForm(targets="y", time_column="time"))


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'tables need pandas and pyarrow: pip install "rnnlab\[forecast\]"'):
        read(tmp_path, "a,b\n1,2\n")


@pytest.mark.slow
def test_thousands_of_columns(tmp_path):
    names = [f"a column with a long name {number}" for number in range(20_000)]
    panel = read(tmp_path, ",".join(names) + "\n" + 2 * (",".join("1" for _ in names) + "\n"))
    assert panel.series[0].target.shape == (2, 20_000)
    assert panel.notes[-1].endswith("a column with a long name 19 and 19980 more")
