"""The user's own sounds: a list of files and texts."""

import numpy as np
import pytest

from rnnlab.data import TranscribedData

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")


@pytest.fixture
def folder(tmp_path):
    for number in range(60):
        wave = 0.3 * np.sin(0.3 * (1 + number % 3) * np.arange(4_000 + 100 * number))
        soundfile.write(tmp_path / f"s{number}.wav", wave, 16_000)
    return tmp_path


def listed(folder, lines, name="list.tsv"):
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder / name


def whole(folder):
    return listed(folder, [f"s{number}.wav\t{'abc'[number % 3] * 2} d" for number in range(60)])


def test_a_list_is_split_by_names_and_its_symbols_are_remembered(folder):
    data = TranscribedData(whole(folder))
    data.setup()
    sizes = {part: len(rows) for part, rows in data.splits.items()}
    assert sum(sizes.values()) == 60 and sizes["train"] > 45 and min(sizes.values()) >= 1
    assert data.notes == [
        f"{folder / 'list.tsv'}: is split by a hash of the files: "
        + ", ".join(f"{size} {part}" for part, size in sizes.items())
    ]
    assert list(data.symbols) == ["<blank>", " ", "a", "b", "c", "d"] and data.sizes["num_classes"] == 6
    assert data.text(data.references("val", [0])[0])[2:] == " d"
    trained = TranscribedData(folder / "absent.tsv")
    trained.load_state_dict(data.state_dict())  # without its files
    assert trained.sizes == data.sizes and trained.text([2, 3]) == "ab"
    for arguments, message in (
        ({"high": 4_000}, "high is 8000.0 in the run, and cannot be 4000.0 afterwards"),
        ({"sample_rate": 8_000}, "sample_rate is 16000 in the run, and cannot be 8000 afterwards"),
        ({"num_bands": 20}, "num_features is 40 in the run, and cannot be 20 afterwards"),
    ):
        with pytest.raises(ValueError, match=message):
            TranscribedData(folder / "list.tsv", **arguments).load_state_dict(data.state_dict())
    queries = trained.read_queries(folder / "s1.wav")
    assert queries.inputs.lengths.tolist() == [1 + (4_100 - 400) // 160]


def test_lists_of_their_own(folder):
    val = listed(folder, ["s1.wav\tba", "s2.wav\tca"], "val.tsv")
    data = TranscribedData(whole(folder), val)
    data.setup()
    assert {part: len(rows) for part, rows in data.splits.items()} == {"train": 60, "val": 2}
    assert data.notes == ["val: 2 of 2 sounds are in train too; they do not show what is learnt of new ones"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["s1.wav"], "list.tsv:1: expected a file, one tab and a text, got 's1.wav'"),
        (["s1.wav\ta", "s2.wav\t "], "list.tsv:2: expected a file, one tab and a text"),
        (["s1.wav\ta", "s2.wav\ta\tb"], "list.tsv:2: expected a file, one tab and a text"),
        (["absent.wav\ta"], "list.tsv:1: there is no file .*absent.wav"),
        ([], "list.tsv: is empty"),
        (["s1.wav\ta", "s2.wav\ta", "./s1.wav\tb"], "list.tsv:3: ./s1.wav stands in line 1 already"),
        (["s1.wav\ta"], "is split by a hash of the files: .*; give val=FILE"),
        (["list.tsv\ta", *(f"s{number}.wav\ta" for number in range(60))], "list.tsv: is no sound that can be read"),
    ],
)
def test_lists_that_cannot_be_read(folder, lines, message):
    with pytest.raises(ValueError, match=message):
        TranscribedData(listed(folder, lines)).setup()


def test_a_symbol_that_training_lacks_is_named_with_its_line(folder):
    val = listed(folder, ["s1.wav\tba", "s2.wav\tcx"], "val.tsv")
    with pytest.raises(ValueError, match=r"val\.tsv:2: 'x' is not among the symbols ' abcd'"):
        TranscribedData(whole(folder), val).setup()


def test_arguments_that_cannot_be(folder):
    for arguments, message in (
        ({"train": None}, "train must name a list of sounds"),
        ({"train": "x", "sample_rate": 10}, "sample_rate must be an integer of at least 1000"),
        ({"train": "x", "encoding": "no"}, "encoding must be one that Python knows"),
    ):
        with pytest.raises(ValueError, match=message):
            TranscribedData(**arguments)
