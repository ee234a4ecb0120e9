"""Word vectors are found in both layouts, and broken ones refused by file and line."""

import gzip

import pytest
import torch

from rnnlab.data.vectors import read_vectors

GLOVE = "the 1 2 3\n. . . 7 7 7\nParis 4 5 -6e-1\nparis 0 0 1\nthe 9 9 9\nbroken but not asked for\n"
WORDS = ["<pad>", "the", "Paris", "PARIS", "London", "."]
EXPECTED = [[0, 0, 0], [1, 2, 3], [4, 5, -0.6], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("header", ["", "5 3\n"], ids=["GloVe", "fastText"])
@pytest.mark.parametrize("packed", [False, True])
def test_words_are_found_as_written_or_in_lower_case(tmp_path, header, packed):
    content = (header + GLOVE).encode()
    path = tmp_path / ("vectors.txt.gz" if packed else "vectors.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    vectors, count = read_vectors(path, WORDS)
    torch.testing.assert_close(vectors, torch.tensor(EXPECTED))
    assert count == 3


def test_trailing_spaces_and_bytes_that_are_no_text_do_no_harm(tmp_path):
    (tmp_path / "v.vec").write_bytes(b"3 2\r\nt\xe4 1 1\nthe 1 2 \nb\xc3\xa4 3 4")
    vectors, count = read_vectors(tmp_path / "v.vec", ["the", "bä"])
    assert vectors.tolist() == [[1, 2], [3, 4]] and count == 2


@pytest.mark.parametrize("header", ["", "3 2\n"], ids=["GloVe", "fastText"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_line_ends_do_no_harm(tmp_path, header, newline):
    text = f"\ufeff{header}the 1 2\nli\u2028ne 3 4\ncat 5 6\n".replace("\n", newline)
    (tmp_path / "v.txt").write_bytes(text.encode())
    vectors, count = read_vectors(tmp_path / "v.txt", ["the", "cat", "li\u2028ne"])
    assert vectors.tolist() == [[1, 2], [5, 6], [3, 4]] and count == 3


@pytest.mark.parametrize("first", ["New York 1 2 3", ". . . 1 2 3", "20 000 1 2 3"])
def test_words_may_have_spaces_from_the_first_line_on(tmp_path, first):
    (tmp_path / "v.txt").write_text(f"{first}\nthe 4 5 6\ncà phê 7 8 9\n", encoding="utf-8")
    vectors, count = read_vectors(tmp_path / "v.txt", ["the", first[:-6], "cà phê", "Cà Phê", "cà"])
    assert vectors.tolist() == [[4, 5, 6], [1, 2, 3], [7, 8, 9], [7, 8, 9], [0, 0, 0]] and count == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has a vector for none of 2 words; is it of another language?"),
        ("le 1 2\nla 1 2\n", "has a vector for none of 2 words"),
        ("the\n", "1: expected a word and its numbers between spaces, or 'count size'"),
        ("of 1 2\nthe 1\n", "2: expected 2 finite numbers behind the word, got '1'"),
        ("1 2\nthe 1\n", "2: expected 2 finite numbers behind the word, got '1'"),
        ("of 1 2\nthe 1 x\n", "2: expected 2 finite numbers behind the word"),
        ("of 1 2\nthe 1 nan\n", "2: expected 2 finite numbers behind the word"),
        ("of 1 2\nthe 1 2e99\n", "2: expected 2 finite numbers behind the word"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, message):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"v\.txt:\s?{message}"):
        read_vectors(tmp_path / "v.txt", ["the", "of"])


def test_missing_files_and_broken_archives_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no file of word vectors at .*absent"):
        read_vectors(tmp_path / "absent", ["the"])
    (tmp_path / "v.gz").write_bytes(b"the 1 2\n")
    with pytest.raises(ValueError, match=r"v\.gz: cannot be read: "):
        read_vectors(tmp_path / "v.gz", ["the"])
