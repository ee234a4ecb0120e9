"""Files of labelled sequences: three layouts say the same, and what is broken is refused with its line."""

import gzip

import numpy as np
import pytest

from rnnlab.data.series_files import LongForm, read_series

TS = """# comment
@problemName Toy
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true up down
@data
1,2.5,3:0,0,0:up
-1:4e-1:down
"""
LONG = "id,time,x,y,label\na,0,1,0,up\nb,7,-1,0.4,down\na,1,2.5,0,up\na,2,3,0,up\n"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_dimensions_and_lengths_of_ts(tmp_path):
    table = read_series(write(tmp_path, "toy.ts", TS))
    assert [one.label for one in table.series] == ["up", "down"] and table.columns is None
    assert [one.name for one in table.series] == ["1", "2"]
    assert table.series[0].values.tolist() == [[1, 0], [2.5, 0], [3, 0]]
    assert table.series[1].values.tolist() == [[-1, 0.4]]


def test_long_form_says_the_same_in_any_order_of_series(tmp_path):
    found, expected = read_series(write(tmp_path, "toy.csv", LONG)), read_series(write(tmp_path, "toy.ts", TS))
    assert found.columns == ["x", "y"] and [one.name for one in found.series] == ["a", "b"]
    for one, other in zip(found.series, expected.series, strict=True):
        assert np.array_equal(one.values, other.values) and one.label == other.label
    renamed = LONG.replace("id,time,x,y,label", "who,when,x,y,what")
    own = read_series(write(tmp_path, "own.csv", renamed), form=LongForm("who", "when", "what"))
    assert [one.label for one in own.series] == ["up", "down"] and own.columns == ["x", "y"]


def test_tables_of_the_archive_by_tabs_spaces_and_padding(tmp_path):
    text = "  1.0000000e+00  -1.5e-01   2.5\n-1\t3\t4\tNaN\tNaN\nwide beat".replace("wide beat", "wide\t0\n")
    table = read_series(write(tmp_path, "toy.txt", text))
    assert [one.label for one in table.series] == ["1", "-1", "wide"]
    assert [one.values[:, 0].tolist() for one in table.series] == [[-0.15, 2.5], [3, 4], [0]]
    (tmp_path / "toy.tsv.gz").write_bytes(gzip.compress(text.encode()))
    assert [one.label for one in read_series(tmp_path / "toy.tsv.gz").series] == ["1", "-1", "wide"]


def test_classes_may_be_missing_where_they_are_asked_for(tmp_path):
    ts = TS.replace("true up down", "false").replace(":up", "").replace(":down", "")
    csv = "id,time,x\n1,0,5\n1,1,6\n"
    for name, text in (("a.ts", ts), ("a.csv", csv), ("a.tsv", "\t5\t6\n?\t7\nNaN\t8\n"), ("a.txt", "? 5 6\n nan 7\n")):
        assert {one.label for one in read_series(write(tmp_path, name, text)).series} == {None}


def test_a_sequence_knows_its_line(tmp_path):
    for name, text, lines in (("a.ts", TS, (10, 11)), ("a.tsv", "1\t2\n\n2\t3\n", (1, 3)), ("a.csv", LONG, (2, 3))):
        table = read_series(write(tmp_path, name, text))
        assert [one.place for one in table.series] == [f"{table.path}:{line}" for line in lines]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ts", TS.replace("@data\n", ""), "a.ts: has no line '@data'"),
        ("a.ts", TS.replace("@timeStamps false", "@timeStamps true"), "a.ts:3: time stamps are not read"),
        ("a.ts", TS.replace("@missing false", "@missing perhaps"), "a.ts:4: @missing must be true or false"),
        (
            "a.ts",
            TS.replace("@missing false", "missing"),
            "a.ts:4: expected '@name value' before '@data', got 'missing'",
        ),
        ("a.ts", TS.replace("true up down", "true"), "a.ts:8: @classLabel true must be followed by the names"),
        ("a.ts", TS.replace("@classLabel", "@targetLabel"), "a.ts:8: targets are numbers"),
        ("a.ts", TS.replace(":down", ":left"), "a.ts:11: 'left' is none of the classes of the head: up, down"),
        ("a.ts", TS.replace("-1:4e-1", "-1"), "a.ts:11: expected 2 dimensions, got 1 dimensions"),
        ("a.ts", TS.replace("@univariate false", "@univariate true"), "a.ts:10: expected @univariate true, got 2"),
        ("a.ts", TS.replace("0,0,0", "0,0"), "a.ts:10: dimensions must have as many values each, got 3, 2"),
        ("a.ts", TS.replace("2.5", "?"), r"a.ts:10, value 2: expected a finite number, got '\?'"),
        ("a.ts", TS[: TS.index("@data") + 6], "a.ts: has no sequence"),
        ("a.tsv", "1\t2\tNaN\t3\n", "a.tsv:1, value 2: expected a finite number, got 'NaN'"),
        ("a.tsv", "1\t2\n2\n", "a.tsv:2: expected a class and values behind it"),
        ("a.tsv", "1\t2\n\n2\tx\n", "a.tsv:3, value 1: expected a finite number, got 'x'"),
        ("a.tsv", "1\t2\t\t3\n", "a.tsv:1, value 2: the value is missing"),
        ("a.tsv", "1\t2\t3\n2\t3\t\n", "a.tsv:2, value 2: the value is missing"),
        ("a.ts", TS.replace("2.5", ""), "a.ts:10, value 2: the value is missing"),
        ("a.ts", TS.replace(":down", ":"), "a.ts:11: '' is none of the classes of the head: up, down"),
        ("a.tsv", "1\t1_000\n", "a.tsv:1, value 1: expected a finite number, got '1_000'"),
        ("a.tsv", "\n", "a.tsv: has no sequence"),
        ("a.csv", LONG.replace("id,", "name,"), "a.csv:1: needs one column 'id', the header has name, time"),
        ("a.csv", LONG.replace(",x,y", ",x,x"), "a.csv:1: has more than one column 'x'"),
        ("a.csv", "id,time,label\n1,2,a\n", "a.csv:1: has no column of values"),
        ("a.csv", "id,time,x\n", "a.csv: has no row below its header"),
        ("a.csv", LONG.replace("b,7", ",7"), "a.csv:3, column 'id': the value is missing"),
        ("a.csv", LONG.replace("0.4,down", "0.4"), "a.csv:3: expected 5 cells as in the header, got 4"),
        ("a.csv", LONG.replace("a,2,3,0,up", "a,2,3,0,down"), "a.csv:5: series 'a' is 'down', and 'up' in line 2"),
        ("a.csv", LONG.replace("a,2,3,0,up", "a,2,3,0,"), "a.csv:5, column 'label': the value is missing"),
        ("a.csv", LONG.replace("a,2,3", "a,4,3"), "a.csv:5, column 'time'"),
        (
            "a.csv",
            LONG.replace("b,7", "'b\tc',7").replace("'", '"'),
            r"a.csv:3, column 'id': 'b\\tc' has a tab or an end",
        ),
        ("a.csv", LONG.replace("2.5", "nan"), "a.csv:4, column 'x': expected a finite number, got 'nan'"),
        ("a.json", "{}", "a.json: sequences are read from .ts, .tsv, .txt, .csv, not from '.json'"),
    ],
)
def test_what_is_refused(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_series(write(tmp_path, name, text))
