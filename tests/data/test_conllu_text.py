"""CoNLL-U is read with its exceptions, refused by file and line, and filled without another byte changed."""

import gzip
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.data.conllu_text import (
    Sentence,
    check_column,
    fill_column,
    from_plain_text,
    is_conllu,
    parse_sentences,
    read_sentences,
)
from rnnlab.data.files import read_text
from tests.corpora import corpus


def row(identity, form, upos="_", xpos="_", feats="_"):
    return "\t".join([identity, form, "_", upos, xpos, feats, "_", "_", "_", "_"])


SMALL = "\n".join(
    [
        "# newdoc id = a",
        "# text = Don't go.",
        row("1-2", "Don't"),
        row("1", "Do", "AUX", "VBP", "Mood=Imp|Number=Sing"),
        row("2", "n't", "PART", "RB", "Polarity=Neg"),
        row("2.1", "you", "PRON"),
        row("2.2", "there", "ADV"),
        row("3", "go", "VERB", "VB", "Number=Sing|VerbForm=Inf"),
        row("4", ".", "_", "."),
        "",
        "",
        "# a comment alone",
        "",
        row("0.1", "nothing"),
        row("1", "Yes", "INTJ", "UH"),
        "",
    ]
)
FORMS, LINES = [["Do", "n't", "go", "."], ["Yes"]], [[4, 5, 8, 9], [15]]
TAGS = {
    "upos": [["AUX", "PART", "VERB", None], ["INTJ"]],
    "xpos": [["VBP", "RB", "VB", "."], ["UH"]],
    "feats.Number": [["Sing", "_", "Sing", "_"], ["_"]],
    "feats.Polarity": [["_", "Neg", "_", "_"], ["_"]],
    "feats.Absent": [["_"] * 4, ["_"]],
}


@pytest.mark.parametrize("column", TAGS)
@pytest.mark.parametrize("variant", ["plain", "gz", "crlf", "bom", "no final newline"])
def test_words_are_found_among_ranges_and_empty_nodes(tmp_path, column, variant):
    content = SMALL.encode("utf-8-sig" if variant == "bom" else "utf-8")
    content = {"crlf": content.replace(b"\n", b"\r\n"), "no final newline": content.rstrip(b"\n")}.get(variant, content)
    path = tmp_path / ("a.conllu.gz" if variant == "gz" else "a.conllu")
    path.write_bytes(gzip.compress(content) if variant == "gz" else content)
    assert read_sentences(path, column) == list(map(Sentence, FORMS, TAGS[column], LINES))


def test_without_a_column_no_word_has_a_tag():
    assert [sentence.tags for sentence in parse_sentences(SMALL, "a", None)] == [[None] * 4, [None]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row("1", "a"), "2\tb"], "a:2: expected 10 columns between tabs, got 2"),
        ([row("1", "a"), row("2", "b") + "\t_"], "a:2: expected 10 columns between tabs, got 11"),
        ([row("1", "a").replace("\t", "    ")], "a:1: expected 10 columns between tabs, got 1"),
        ([row("1", "a"), "  ", row("1", "a")], "a:2: expected 10 columns between tabs, got 1"),
        (["# c", row("1", "a"), row("x", "b")], "a:3: an id is a number .* got 'x'"),
        ([row("_", "a")], "a:1: an id is a number .* got '_'"),
        ([row("", "a")], "a:1: an id is a number .* got ''"),
        ([row("1.5.2", "a")], "a:1: an id is a number"),
        ([row("2-1", "a")], "a:1: an id is a number"),
        ([row("0", "a")], "a:1: ids count up, and the next word has 1, got '0'"),
        ([row("1", "a"), row("3", "b")], "a:2: ids count up, and the next word has 2, got '3'"),
        ([row("1", "a"), row("1", "b")], "a:2: ids count up, and the next word has 2, got '1'; a blank line ends"),
        ([row("1", "a"), row("1.2", "b")], "a:2: ids count up, .* got '1.2'"),
        ([row("1", "a"), row("2.1", "b")], "a:2: ids count up, .* got '2.1'"),
        ([row("2-3", "a")], "a:1: ids count up, .* got '2-3'"),
        ([row("1-2", "a"), row("1", "b"), row("2-3", "c")], "a:3: ids count up, .* got '2-3'"),
        ([row("1-2", "a"), row("1", "b"), ""], "a:1: the range ends at word 2 of a sentence of 1"),
        ([row("1", "a"), row("2", "")], "a:2: the form, column 2, is empty"),
        ([row("1", " ")], "a:1: the form, column 2, is empty"),
        ([row("1", "a", upos="")], "a:1: UPOS, column 4, is empty"),
        ([], "a: holds no sentence"),
        (["# only", "# comments", ""], "a: holds no sentence"),
    ],
)
def test_broken_lines_are_refused(lines, message):
    with pytest.raises(ValueError, match=message):
        parse_sentences("\n".join(lines), "a", "upos")


def test_broken_features_are_refused_where_one_is_wanted():
    text = row("1", "a", "X", feats="Number")
    assert parse_sentences(text, "a", "upos")[0].tags == ["X"]
    with pytest.raises(ValueError, match=r"a:1: features are Name=Value, .* got 'Number'"):
        parse_sentences(text, "a", "feats.Number")


@pytest.mark.parametrize("column", ["", "UPOS", "lemma", "feats", "feats.", "feats.A=b", "feats.A|B"])
def test_other_columns_are_refused(column):
    with pytest.raises(ValueError, match="column must be upos, xpos or a feature as 'feats.Number', got"):
        check_column(column)


def test_other_encodings_are_refused_with_the_line(tmp_path):
    (tmp_path / "a.conllu").write_bytes(f"{row('1', 'a')}\n{row('2', 'ä')}".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.conllu:2: is not UTF-8"):
        read_sentences(tmp_path / "a.conllu", "upos")


BROKEN = {
    "none": b"no gzip",
    "cut": gzip.compress(b"x" * 1000, mtime=0)[:-9],
    "garbage": b"\x1f\x8b\x08\x00" + b"\xff" * 40,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_archives_are_refused(tmp_path, content):
    (tmp_path / "a.conllu.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.conllu\.gz: cannot be read: "):
        read_sentences(tmp_path / "a.conllu.gz", "upos")


def test_a_missing_file_and_a_missing_package_are_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no CoNLL-U file at .*absent\.conllu"):
        read_sentences(tmp_path / "absent.conllu", "upos")
    monkeypatch.setitem(sys.modules, "conllu", None)
    with pytest.raises(ValueError, match=r'need the package conllu: pip install "rnnlab\[nlp\]"'):
        parse_sentences(SMALL, "a", "upos")


CELL = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=4)
FORM = CELL.filter(lambda cell: cell.strip(" "))


@st.composite
def files(draw):
    """Return the lines of a file and, for each, whether it is a word."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        lines += [("#" + comment, False) for comment in draw(st.lists(CELL, max_size=2))]
        number, last_of_range = 0, 0
        for _ in range(draw(st.integers(1, 5))):
            for empty in range(draw(st.integers(0, 2))):
                lines.append((draw_row(draw, f"{number}.{empty + 1}"), False))
            number += 1
            lines.append((draw_row(draw, str(number)), True))
            if number > last_of_range and draw(st.booleans()):  # of this word alone, so that every sentence has it
                last_of_range = number
                lines.insert(-1, (draw_row(draw, f"{number}-{number}"), False))
        lines += [("", False)] * draw(st.integers(1, 2))
    return lines


def draw_row(draw, identity):
    return "\t".join([identity, draw(FORM), *(draw(FORM) for _ in range(8))])


ENDS = st.tuples(st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]), st.booleans())


@settings(deadline=None, max_examples=60)
@given(lines=files(), ends=ENDS, column=st.sampled_from(["upos", "xpos"]), tag=FORM)
def test_filling_changes_the_tags_and_no_other_byte(lines, ends, column, tag):
    start, newline, has_end = ends

    def write(lines):
        return start + newline.join(lines) + (newline if has_end else "")

    text = write(line for line, _ in lines)
    sentences = parse_sentences(text, "a", column)
    gold = [[tag or "_" for tag in sentence.tags] for sentence in sentences]
    assert fill_column(text, sentences, gold, column) == text
    filled = fill_column(text, sentences, [[tag] * len(tags) for tags in gold], column)
    assert filled == write(with_tag(line, column, tag) if is_word else line for line, is_word in lines)


def with_tag(line, column, tag):
    cells = line.split("\t")
    cells[{"upos": 3, "xpos": 4}[column]] = tag
    return "\t".join(cells)


@pytest.mark.parametrize(
    ("feats", "value", "expected"),
    [
        ("_", "Sing", "Number=Sing"),
        ("_", "_", "_"),
        ("Number=Plur", "_", "_"),
        ("Case=Nom|Person=3", "Sing", "Case=Nom|Number=Sing|Person=3"),
        ("Case=Nom|Number=Plur|Person=3", "Sing", "Case=Nom|Number=Sing|Person=3"),
        ("Number[psor]=Plur|abbr=Yes", "Sing", "abbr=Yes|Number=Sing|Number[psor]=Plur"),
        ("Person=3|Number=Sing|Case=Nom", "Sing", "Person=3|Number=Sing|Case=Nom"),  # in disorder, and left so
    ],
)
def test_a_feature_is_filled_in_its_place(feats, value, expected):
    text = row("1", "a", feats=feats)
    sentences = parse_sentences(text, "a", "feats.Number")
    assert fill_column(text, sentences, [[value]], "feats.Number") == row("1", "a", feats=expected)


def test_plain_text_becomes_conllu():
    text, sentences = from_plain_text("\ufeffHi  there\t!\r\n\n  \nOne\u2028two")
    assert text == "\n".join(
        ["# text = Hi there !", row("1", "Hi"), row("2", "there"), row("3", "!"), "", "# text = One two"]
        + [row("1", "One"), row("2", "two"), "", ""]
    )
    assert sentences == parse_sentences(text, "a", "upos")
    assert from_plain_text(" \n") == ("", [])


COMMENTS = [
    "",
    "# text = a b\n",
    "\ufeff# sent_id = 1\n",
    "# newdoc\n",
    *(f"# a{c}b\n" for c in "\u2028\u0085\x0b\x0c\x1c"),
]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("comment", COMMENTS)
@pytest.mark.parametrize("form", ["a", "a\u2028b", "a\x85b", "a\x1cb"])
def test_conllu_is_known_by_its_first_lines(comment, form, newline):
    text = (comment + row("1", form) + "\n" + row("2", "cat") + "\n\n").replace("\n", newline)
    assert is_conllu(text) and not is_conllu(text.replace("\t", "").replace("#", "").replace(" ", ""))
    (sentence,) = parse_sentences(text, "a", None)
    assert sentence.forms == [form, "cat"]
    filled = fill_column(text, [sentence], [["X", "Y"]])
    assert filled == text.replace(row("1", form), row("1", form, "X")).replace(row("2", "cat"), row("2", "cat", "Y"))


@pytest.mark.parametrize(
    "first",
    [
        "1\tthe\t_",
        "1-2\tdon't" + "\t_" * 9,
        row("1", "the") + "\t_",
        row("x", "the"),
        "the\tDET\t_",
        row("1", "the").replace("\t", "  "),
        "# text = the\nthe",
    ],
)
def test_what_is_broken_conllu_is_not_plain_text(first):
    text = f"# a comment\n{first}\n"
    assert is_conllu(text)
    with pytest.raises(ValueError, match="^a:"):
        parse_sentences(text, "a", None)


@pytest.mark.parametrize(
    "text", ["", "# heading\nwords", "Hi\tthere !", "1 2 3 4 5 6 7 8 9 10", "1. the _ of it", "a_b c"]
)
def test_plain_text_is_no_conllu_but_by_its_name(text):
    assert not is_conllu(text) and not is_conllu(text, "a.txt") and not is_conllu(text, "conllu.tsv")
    assert all(is_conllu(text, name) for name in ("a.conllu", "a.CONLLU", "a.conllu.gz", "A.Conll"))


CORPORA = {  # sentences, words
    "ud-ewt/en_ewt-ud-train": (12_544, 204_577),
    "ud-ewt/en_ewt-ud-dev": (2_001, 25_147),
    "ud-lines/en_lines-ud-train": (3_457, 64_684),
    "ud-lines/en_lines-ud-dev": (1_118, 21_637),
}


@pytest.mark.parametrize("name", CORPORA)
def test_real_corpora_are_counted_and_written_back(name):
    file, text = read_text(corpus(f"{name}.conllu.gz"), "CoNLL-U file")
    sentences = parse_sentences(text, str(file), "upos")
    assert (len(sentences), sum(len(sentence.forms) for sentence in sentences)) == CORPORA[name]
    assert len({tag for sentence in sentences for tag in sentence.tags}) == 17
    assert fill_column(text, sentences, [sentence.tags for sentence in sentences]) == text
