"""Answers without a network: alignments against all divisions, n-grams against the equation written down."""

import itertools
import math

import pytest

from rnnlab.baselines import align, copy, joint_ngram, letter_table, most_frequent_answer


def pairs(*words):
    return [(tuple(word), tuple(sounds.split())) for word, sounds in words]


WORDS = pairs(
    ("cat", "K AE T"),
    ("fax", "F AE K S"),
    ("tax", "T AE K S"),
    ("cab", "K AE B"),
    ("face", "F EY S"),
    ("ate", "EY T"),
    ("act", "AE K T"),
    ("ace", "EY S"),
    ("at", "AE T"),
    ("bat", "B AE T"),
    ("tab", "T AE B"),
)


def test_copy_and_most_frequent():
    assert copy([("a", "b"), ("c",)]) == [("a", "b"), ("c",)]
    counts = [(("x",), ("1",), 2), (("x",), ("2",), 3), (("x",), ("1",), 1), (("y",), ("3",), 1)]
    answer = most_frequent_answer(counts, otherwise=lambda source: (*source, "?"))
    assert answer([("x",), ("y",), ("z",)]) == [("1",), ("3",), ("z", "?")]


def test_letters_are_given_the_sounds_they_stand_for():
    aligned = align(WORDS)
    units = {"".join(letter for letter, _ in row): [" ".join(chunk) for _, chunk in row] for row in aligned}
    assert units["tax"] == ["T", "AE", "K S"] and units["cab"] == ["K", "AE", "B"]
    assert units["ate"] == ["EY", "T", ""]
    for row, (word, sounds) in zip(aligned, WORDS, strict=True):
        assert tuple(letter for letter, _ in row) == word
        assert tuple(itertools.chain.from_iterable(chunk for _, chunk in row)) == sounds


def test_words_that_cannot_be_divided_are_left_out():
    assert align(pairs(("w", "D AH B"), ("a", "EY"), ("ab", ""))) == [[("a", ("EY",))], [("a", ()), ("b", ())]]
    assert align([]) == []


def test_the_table_looks_at_neighbours_first():
    answer = letter_table(align(WORDS))
    assert answer([tuple("fat"), tuple("tax"), tuple("b?t")]) == [("F", "AE", "T"), ("T", "AE", "K", "S"), ("B", "T")]


@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_joint_ngram_answers_with_its_likeliest_units(order):
    aligned = align(WORDS)
    answer = joint_ngram(aligned, order, beam=10_000)
    by_letter = {letter: sorted({unit for row in aligned for unit in row if unit[0] == letter}) for letter in "acfx"}
    for word in ("fax", "cax", "ac"):
        paths = itertools.product(*(by_letter[letter] for letter in word))
        best = max(paths, key=lambda path: log_probability(aligned, order, path))
        assert answer([tuple(word)]) == [tuple(sound for _, chunk in best for sound in chunk)]
    assert answer([("?",)]) == [()]


def log_probability(aligned, order, path):
    """Return what the equation of `joint_ngram` says of a word, by counting anew."""
    ngrams = [set() for _ in range(order + 1)]  # occurrences, as (history, unit, what makes them different)
    for number, row in enumerate(aligned):
        symbols = ["<", *row, ">"]
        for end in range(1, len(symbols)):
            length = min(order - 1, end)
            ngrams[length].add((tuple(symbols[end - length : end]), symbols[end], (number, end)))
    for length in range(order - 1, 0, -1):
        for history, unit, _ in list(ngrams[length]):
            ngrams[length - 1].add((history[1:], unit, history[0]))
    num_units = len({unit for row in aligned for unit in row}) + 1

    def counts(length):
        result = {}
        for history, unit, _ in ngrams[length]:
            result[history, unit] = result.get((history, unit), 0) + 1
        return result

    tables = [counts(length) for length in range(order)]

    def probability(unit, history):
        lower = probability(unit, history[1:]) if history else 1 / num_units
        table = tables[len(history)]
        seen = [count for (other, _), count in table.items() if other == history]
        if not seen:
            return lower
        once, twice = (list(table.values()).count(number) for number in (1, 2))
        discount = once / (once + 2 * twice) if once and twice else 0.5
        own = max(table.get((history, unit), 0) - discount, 0)
        return (own + discount * len(seen) * lower) / sum(seen)

    symbols = ["<", *path, ">"]
    return sum(
        math.log(probability(symbols[end], tuple(symbols[max(0, end + 1 - order) : end])))
        for end in range(1, len(symbols))
    )
