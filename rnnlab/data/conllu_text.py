"""Reading and filling of CoNLL-U files (https://universaldependencies.org/format.html): every complaint names the line.

A word is a line of ten columns between tabs. Ranges of words ('3-4') and empty nodes ('8.1') have lines of their own,
which are checked and carry no tag. Sentences end in a blank line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from rnnlab.data.files import read_text, with_plain_line_ends

_NUM_COLUMNS = 10
_FORM, _LEMMA, _FEATS = 1, 2, 5
_TAG_COLUMNS = {"upos": 3, "xpos": 4}
_FEATURE_PREFIX = "feats."
_ID = re.compile(r"\d+([-.]\d+)?")
_COMMENT = re.compile(r"#\s*(sent_id|text|newdoc|newpar|global\.columns)\b[^=]*=|#\s*(newdoc|newpar)\s*$")
_LINE_END = re.compile(r"(\r\n|\r|\n)")


class Sentence(NamedTuple):
    """The T words of a sentence.

    Attributes:
        forms: the words as they are written.
        tags: their tags; None where there is none.
        lines: line of each word in its file, counted from 1.
    """

    forms: list[str]
    tags: list[str | None]
    lines: list[int]


def check_column(column: str) -> str:
    """Return `column`, or raise ValueError unless it is 'upos', 'xpos' or 'feats.' and the name of a feature."""
    name = column.removeprefix(_FEATURE_PREFIX)
    if column not in _TAG_COLUMNS and (name in ("", column) or set(name) & set("=| \t\n")):
        raise ValueError(f"column must be upos, xpos or a feature as 'feats.Number', got {column!r}")
    return column


def is_conllu(text: str, name: str = "") -> bool:
    """Return whether a text is CoNLL-U and not plain: what looks like it is refused where it is broken, not tagged.

    It is by its file's name ('.conllu' or '.conll', in any case, perhaps packed), by a comment as '# text = ...' at its
    beginning, or by its first line that is no comment: ten columns, or a first column that is an id, or a column that
    is '_', between tabs; or ten that are set apart by spaces, with an id and a '_' among them.
    """
    if name.lower().removesuffix(".gz").endswith((".conllu", ".conll")):
        return True
    for line in with_plain_line_ends(text).split("\n"):
        if _COMMENT.match(line):
            return True
        if line.strip() and not line.startswith("#"):
            cells = line.split("\t")
            if len(cells) == 1:
                cells = line.split()
                return len(cells) == _NUM_COLUMNS and bool(_ID.fullmatch(cells[0])) and "_" in cells
            return len(cells) == _NUM_COLUMNS or bool(_ID.fullmatch(cells[0].strip())) or "_" in cells
    return False


def read_sentences(path: str | Path, column: str, encoding: str = "utf-8") -> list[Sentence]:
    """Return the sentences of a CoNLL-U file, plain or '.gz'.

    Args:
        path: where it is, as `rnnlab.data.files.find_file` takes it.
        column: what the tags are: 'upos', 'xpos', or the value of one feature, as 'feats.Number', which is '_' for a
            word without it. A word whose UPOS or XPOS is '_' has no tag.
        encoding: of the file, as Python names it.

    Raises:
        ValueError: the file cannot be read or is broken ("file:line: what is wrong"), or the package `conllu` is
            missing.
    """
    file, text = read_text(path, "CoNLL-U file", encoding)
    return parse_sentences(text, str(file), column)


def parse_sentences(text: str, place: str, column: str | None) -> list[Sentence]:
    """Return the sentences in the text of a CoNLL-U file, as `read_sentences`.

    Args:
        text: the whole file.
        place: name of the file, for messages.
        column: as in `read_sentences`; None leaves all tags None.
    """
    try:
        from conllu import parser
    except ImportError:
        raise ValueError('CoNLL-U files need the package conllu: pip install "rnnlab[nlp]"') from None
    column = None if column is None else check_column(column)
    sentences = [_parse_sentence(lines, place, column, parser) for lines in _blocks(text)]
    sentences = [sentence for sentence in sentences if sentence.forms]
    if not sentences:
        raise ValueError(f"{place}: holds no sentence")
    return sentences


def lemmas(text: str, place: str, sentences: Sequence[Sentence]) -> list[list[str]]:
    """Return the lemma of each word, as it stands: '_' is that of a word without one.

    Args:
        text: the whole file.
        place: name of the file, for messages.
        sentences: what `parse_sentences` found in it.

    Raises:
        ValueError: a lemma is empty ("file:line: what is wrong").
    """
    lines = with_plain_line_ends(text).split("\n")
    result = [[lines[number - 1].split("\t")[_LEMMA] for number in sentence.lines] for sentence in sentences]
    for sentence, row in zip(sentences, result, strict=True):
        for number, lemma in zip(sentence.lines, row, strict=True):
            if not lemma.strip(" "):
                raise ValueError(f"{place}:{number}: the lemma, column {_LEMMA + 1}, is empty; none is '_'")
    return result


def fill_column(text: str, sentences: Sequence[Sentence], tags: Sequence[Sequence[str]], column: str = "upos") -> str:
    """Return the text of a CoNLL-U file with the tags of its words replaced, and nothing else changed.

    Args:
        text: the whole file.
        sentences: what `parse_sentences` found in it.
        tags: a tag for each of their words; '_' stands for none.
        column: where the tags belong, as in `read_sentences`. A feature is put where the order of names wants it.
    """
    lines, ends = (_LINE_END.split(text)[start::2] for start in (0, 1))
    for sentence, sentence_tags in zip(sentences, tags, strict=True):
        for number, tag in zip(sentence.lines, sentence_tags, strict=True):
            cells = lines[number - 1].split("\t")
            if column in _TAG_COLUMNS:
                cells[_TAG_COLUMNS[column]] = tag
            else:
                cells[_FEATS] = _with_feature(cells[_FEATS], column.removeprefix(_FEATURE_PREFIX), tag)
            lines[number - 1] = "\t".join(cells)
    return "".join(map("".join, zip(lines, [*ends, ""], strict=True)))


def from_plain_text(text: str) -> tuple[str, list[Sentence]]:
    """Return a text of one sentence a line, with spaces between words, as CoNLL-U, and its sentences.

    All columns but ids and forms are '_'. Each sentence has its words as a comment '# text ='. Lines without words are
    left out.
    """
    lines: list[str] = []
    sentences = []
    for words in map(str.split, with_plain_line_ends(text).split("\n")):
        if words:
            lines.append(f"# text = {' '.join(words)}")
            numbers = range(1, len(words) + 1)
            sentences.append(Sentence(words, [None] * len(words), [len(lines) + number for number in numbers]))
            blank = "\t_" * (_NUM_COLUMNS - 2)
            lines += [*(f"{number}\t{word}{blank}" for number, word in zip(numbers, words, strict=True)), ""]
    return "".join(f"{line}\n" for line in lines), sentences


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Yield (number, line) of the lines of each sentence, without comments and line ends."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate(with_plain_line_ends(text).split("\n"), start=1):
        if not line:
            yield block
            block = []
        elif not line.startswith("#"):
            block.append((number, line))
    yield block


def _parse_sentence(lines: list[tuple[int, str]], place: str, column: str | None, parser: ModuleType) -> Sentence:
    """Return the words among the lines of a sentence; `parser` is that of the package `conllu`."""
    sentence = Sentence([], [], [])
    num_empty = 0  # empty nodes since the last word
    last_of_range, line_of_range = 0, 0
    for number, line in lines:
        where = f"{place}:{number}"
        cells = line.split("\t")
        if len(cells) != _NUM_COLUMNS:
            raise ValueError(f"{where}: expected {_NUM_COLUMNS} columns between tabs, got {len(cells)}")
        if not cells[_FORM].strip(" "):
            raise ValueError(f"{where}: the form, column 2, is empty")
        identity = _parse_id(cells[0], where, parser)
        num_words = len(sentence.forms)
        if identity == num_words + 1:
            sentence.forms.append(cells[_FORM])
            sentence.tags.append(None if column is None else _parse_tag(cells, column, where, parser))
            sentence.lines.append(number)
            num_empty = 0
        elif identity == (num_words, ".", num_empty + 1):
            num_empty += 1
        elif isinstance(identity, tuple) and identity[:2] == (num_words + 1, "-") and last_of_range <= num_words:
            last_of_range, line_of_range = identity[2], number
        else:
            raise ValueError(
                f"{where}: ids count up, and the next word has {num_words + 1}, got {cells[0]!r}; a blank line ends a "
                "sentence"
            )
    if last_of_range > len(sentence.forms):
        raise ValueError(
            f"{place}:{line_of_range}: the range ends at word {last_of_range} of a sentence of {len(sentence.forms)}"
        )
    return sentence


def _parse_id(cell: str, where: str, parser: ModuleType) -> int | tuple[int, str, int]:
    """Return 3 of '3', (3, '-', 4) of '3-4' and (8, '.', 1) of '8.1'."""
    try:
        identity = parser.parse_id_value(cell)
    except parser.ParseException:
        identity = None
    if identity is None:
        raise ValueError(f"{where}: an id is a number as 3, a range as 3-4 or an empty node as 8.1, got {cell!r}")
    return identity


def _parse_tag(cells: Sequence[str], column: str, where: str, parser: ModuleType) -> str | None:
    if column in _TAG_COLUMNS:
        cell = cells[_TAG_COLUMNS[column]]
        if not cell.strip(" "):
            raise ValueError(f"{where}: {column.upper()}, column {_TAG_COLUMNS[column] + 1}, is empty; none is '_'")
        return None if cell == "_" else cell
    features = parser.parse_dict_value(cells[_FEATS]) or {}
    if "" in features.values():
        raise ValueError(f"{where}: features are Name=Value, with | between them, got {cells[_FEATS]!r}")
    return features.get(column.removeprefix(_FEATURE_PREFIX)) or "_"


def _with_feature(cell: str, name: str, value: str) -> str:
    """Return the features of a word with one of them set, or taken out where the value is '_'."""
    features = [] if cell == "_" else cell.split("|")
    others = [feature for feature in features if feature.split("=")[0] != name]
    wanted = sorted([*others, *([] if value == "_" else [f"{name}={value}"])], key=_feature_name)
    return cell if sorted(features) == sorted(wanted) else "|".join(wanted) or "_"


def _feature_name(feature: str) -> str:
    return feature.split("=")[0].lower()
