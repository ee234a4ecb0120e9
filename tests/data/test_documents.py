"""Texts are read as they are and cut where the split says."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.data.documents import SPLITS, read_documents, split_documents, stdlib_documents


def joined(documents):
    return "".join(document.text for document in documents)


def test_a_file_is_read_without_byte_order_mark_and_with_one_kind_of_line_end(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffé\r\nb\u2028\x0c\rc\n\ufeff".encode())
    assert read_documents(tmp_path / "a.txt") == ["é\nb\u2028\x0c\nc\n\ufeff"]
    (tmp_path / "a.txt").write_bytes("é\r\n".encode("utf-16"))
    assert read_documents(tmp_path / "a.txt", "utf-16") == ["é\n"]


def test_a_pattern_gives_its_files_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(name)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "z.txt").write_text("deep")
    assert read_documents(str(tmp_path / "*.txt")) == ["a.txt", "b.txt"]
    assert read_documents(str(tmp_path / "**" / "*.txt")) == ["a.txt", "b.txt", "deep"]


def test_packed_files_and_patterns_below_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    (tmp_path / "books").mkdir()
    for name in ("a", "b"):
        (tmp_path / "books" / f"{name}.txt.gz").write_bytes(gzip.compress(name.encode()))
    assert read_documents("books/*.gz") == ["a", "b"]
    assert read_documents("books/a.txt.gz") == ["a"]


def test_refusals_name_the_file(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"good\nb\xe9d\n")
    with pytest.raises(ValueError, match="empty.txt: is empty"):
        read_documents(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="latin.txt:2: is not UTF-8: .* at byte 6"):
        read_documents(tmp_path / "latin.txt")
    with pytest.raises(ValueError, match="no text file at .*missing.txt"):
        read_documents(tmp_path / "missing.txt")
    with pytest.raises(ValueError, match="no file matches .*nothing"):
        read_documents(str(tmp_path / "nothing*"))


def test_the_standard_library_is_capped_and_the_same_each_time():
    texts = stdlib_documents(300_000)
    assert texts == stdlib_documents(300_000) == stdlib_documents(600_000)[: len(texts)]
    assert 200_000 < sum(map(len, texts)) <= 300_000
    with pytest.raises(ValueError, match="too few to learn from; give a file"):
        stdlib_documents(1000)


@settings(deadline=None)
@given(texts=st.lists(st.text("abc", min_size=1), min_size=1), split=st.sampled_from(["90/10", "90/5/5", "files"]))
def test_no_character_is_lost_or_in_two_parts(texts, split):
    try:
        parts = split_documents(texts, split, context=3)
    except ValueError as error:
        assert "leaves no character for" in str(error)
        return
    assert sorted("".join(map(joined, parts.values()))) == sorted("".join(texts))
    if split != "files":
        assert "".join(map(joined, parts.values())) == "".join(texts)
    assert list(parts) == ["train", "val", "test"][: 3 if split == "90/5/5" else 2]


def test_ninety_ten_is_cut_by_characters():
    parts = split_documents(["x" * 60 + "abc" + "y" * 37], "90/10", context=4)
    assert joined(parts["train"]) == "x" * 60 + "abc" + "y" * 27
    assert parts["val"] == [("y" * 10, "yyyy")]


def test_a_part_that_begins_with_a_document_has_no_context():
    assert split_documents(["x" * 90, "y" * 10], "90/10", context=4)["val"] == [("y" * 10, "")]


def test_files_keeps_documents_whole():
    texts = [f"text {index}" for index in range(21)]
    parts = split_documents(texts, "files", context=4)
    assert parts["val"] == [("text 9", ""), ("text 19", "")] and len(parts["train"]) == 19


def test_char_rnn_cuts_each_of_fifty_streams():
    text = "".join(chr(0x4E00 + index // 50) for index in range(50 * 50 * 40 + 17))
    parts = split_documents([text], "char-rnn", context=5)
    assert [len(parts[name]) for name in ("train", "val")] == [50, 50]
    for row, (train, val) in enumerate(zip(parts["train"], parts["val"], strict=True)):
        stream = text[row * 2000 : (row + 1) * 2000]
        assert (train.text, val.text) == (stream[:1900], stream[1900:]) and val.context == stream[1895:1900]
    with pytest.raises(ValueError, match="split=char-rnn leaves no character for train"):
        split_documents(["short"], "char-rnn")


def test_all_splits_are_named():
    assert set(SPLITS) == {"90/10", "90/5/5", "char-rnn", "files", "files/test", "none"}
    assert split_documents(["a", "b"], "none") == {"train": [("a", ""), ("b", "")]}


def test_each_tenth_document_and_the_one_before_it_are_held_out():
    texts = [str(index) for index in range(25)]
    parts = split_documents(texts, "files/test")
    assert {part: [one.text for one in found] for part, found in parts.items() if part != "train"} == {
        "val": ["9", "19"],
        "test": ["8", "18"],
    }
    assert len(parts["train"]) == 21
    with pytest.raises(ValueError, match="split=files/test leaves no character for val: there are 9 documents"):
        split_documents(texts[:9], "files/test")
