"""Symbols with a class a step: copies, sums and languages, each held against what a reader would do by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

from rnnlab.data import BinaryAdditionData, CopyData, LanguageData
from rnnlab.data.batches import IGNORED
from rnnlab.data.binary_sums import add_bits
from rnnlab.data.languages import LANGUAGES

SMALL = {"num_train": 60, "num_val": 20, "num_test": 20}


def made(kind, **arguments):
    data = kind(**{**SMALL, **arguments})
    data.setup()
    return data


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_sums_are_those_of_integers(bits):
    for a, b in itertools.product(range(2**bits), repeat=2):
        first, second = ([number >> place & 1 for place in range(bits)] for number in (a, b))
        steps = add_bits(np.array(first, np.uint8), np.array(second, np.uint8))
        assert sum(int(bit) << place for place, bit in enumerate(steps.tags)) == a + b
        assert [divmod(int(symbol), 2) for symbol in steps.symbols] == [*zip(first, second, strict=True), (0, 0)]


def test_carries_are_kept_for_long():
    data = made(BinaryAdditionData, num_train=2_000, max_bits=16)
    passed = [np.isin(one.symbols[:-1], (1, 2)).mean() for one in data.splits["train"].sequences if len(one.tags) == 17]
    assert min(passed) == 0 and max(passed) == 1 and 0.4 < np.mean(passed) < 0.6
    test = np.concatenate([one.symbols for one in data.splits["test"].sequences])
    assert np.isin(test, (1, 2)).mean() == pytest.approx(0.5, abs=0.02)


def test_sums_in_numbers(tmp_path):
    data = made(BinaryAdditionData, max_bits=4, test_bits=64)
    assert set(data.splits["train"].lengths.tolist()) == {2, 3, 4, 5}
    assert set(data.splits["val"].lengths.tolist()) == {9} and set(data.splits["test"].lengths.tolist()) == {65}
    batch = data.splits["train"][[0, 1, 2, 3]]
    for row, length in enumerate(batch.lengths.tolist()):
        numbers = [sum(int(bit) << k for k, bit in enumerate(batch.segments[:length, row, i])) for i in (0, 1)]
        assert sum(numbers) == sum(bit << k for k, bit in enumerate(batch.tags[row, :length].tolist()))
        assert (batch.tags[row, length:] == IGNORED).all() and not batch.segments[length:, row].any()
    numbers = data.baselines()
    assert 0.4 < numbers["baseline/no_carry/test/accuracy"] < 0.6  # a carry comes half of the time
    (tmp_path / "in.txt").write_text("12+345\n0 + 0\n")
    queries = data.read_queries(tmp_path / "in.txt")
    outputs = []
    for indices in queries.context[1]:
        outputs.append(torch.tensor([[(357, 0)[index] >> k & 1 for k in range(12)] for index in indices]))
    assert data.write_answers(queries, outputs) == "12+345\t357\n0 + 0\t0\n"


def test_copies_are_said_at_the_end():
    data = made(CopyData, length=30, batch_size=7)
    batch = data.splits["train"][list(range(60))]
    assert batch.segments.shape == (50, 60, 10) and batch.tags.shape == (60, 50) and (batch.lengths == 50).all()
    symbols = batch.segments.argmax(dim=2).T
    assert torch.equal(symbols[:, :10], batch.tags[:, -10:]) and symbols[:, :10].max() < 8
    assert (symbols[:, 10:39] == 8).all() and (symbols[:, 39] == 9).all() and (symbols[:, 40:] == 8).all()
    assert (batch.tags[:, :-10] == 8).all()
    assert len(next(iter(data.train_dataloader())).lengths) == 7
    # Blanks for sure and eight symbols by chance.
    assert data.baselines()["baseline/chance/test/loss"] == pytest.approx(10 * math.log(8) / 50)
    assert data.parse("0123456701", "")[:10] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert data.answer([8] * 40 + [0, 1, 2, 3, 4, 5, 6, 7, 8, 1]) == "01234567_1"


def is_word(language, word):
    """Say whether a word is of a language, in as plain a way as there is."""
    if language == "dyck2":
        while "()" in word or "[]" in word:
            word = word.replace("()", "").replace("[]", "")
        return word == ""
    letters = {"anbn": "ab", "anbncn": "abc"}[language]
    count, rest = divmod(len(word), len(letters))
    return count > 0 and not rest and word == "".join(letter * count for letter in letters)


@pytest.mark.parametrize("language", ["anbn", "anbncn", "dyck2"])
def test_what_may_follow_is_what_some_word_goes_on_with(language):
    rules = LANGUAGES[language]
    words = [
        "".join(letters)
        for length in range(1, 9)
        for letters in itertools.product(rules.symbols, repeat=length)
        if is_word(language, "".join(letters))
    ]
    # A word may be begun by any that is longer: enough of these are looked at for words of up to four symbols.
    ends = {word + "$" for word in words}
    if language == "anbncn":
        ends |= {"aaabbbccc$"}
    for word in words:
        if len(word) > 4:
            continue
        for place, tag in enumerate(rules.follow(word), start=1):
            beginning = word[:place]
            found = {end[place] for end in ends if end.startswith(beginning) and len(end) > place}
            assert set(tag) == found, (word, place)


def test_parity_is_that_of_the_ones():
    for bits in itertools.product("01", repeat=6):
        found = list(LANGUAGES["parity"].follow("".join(bits)))
        assert found == ["odd" if bits[: k + 1].count("1") % 2 else "even" for k in range(6)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_of_the_language_and_grow_by_groups(language):
    data = made(LanguageData, language=language, length_bounds=[12, 24, 48], num_test=10)
    groups = {"train": [(0, 12, 60)], "val": [(12, 24, 20)], "test": [(0, 12, 10), (12, 24, 10), (24, 48, 10)]}
    for part, expected in groups.items():
        rows = data.splits[part]
        for low, high, number in expected:
            assert sum(low < length <= high for length in rows.lengths.tolist()) == number
        for one in rows.sequences:
            word = "".join(data.symbols[symbol] for symbol in one.symbols)
            assert language == "parity" or is_word(language, word)
            assert [data.tags.symbols[tag] for tag in one.tags] == list(data.rules.follow(word))
    assert data.epoch_size == 60
    batch = data.splits["train"][[0, 1]]
    assert torch.equal(batch.segments.sum(dim=(0, 2)).long(), batch.lengths)


def test_queries_of_a_language(tmp_path):
    data = made(LanguageData)
    (tmp_path / "in.txt").write_text("aab\nab\n")
    queries = data.read_queries(tmp_path / "in.txt")
    outputs = [torch.tensor([[0, 0, 1]] * len(indices)) for indices in queries.context[1]]
    assert data.write_answers(queries, outputs) == "aab\tab ab b\nab\tab ab\n"


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        (BinaryAdditionData, "12-3", "in.txt:1: expected a sum like '12\\+345'"),
        (CopyData, "0123", "in.txt:1: expected 10 digits from 0 to 7, got '0123'"),
        (LanguageData, "abc", "in.txt:1: expected a word of a b, got 'abc'"),
    ],
)
def test_bad_lines_are_refused(tmp_path, kind, line, message):
    (tmp_path / "in.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        made(kind, **({"test_bits": 20} if kind is BinaryAdditionData else {})).read_queries(tmp_path / "in.txt")


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LanguageData, {"language": "dyck3"}, "language must be one of anbn, anbncn, dyck2, parity, got 'dyck3'"),
        (LanguageData, {"length_bounds": [60]}, r"length_bounds must be two or more that ascend by 2 .* got \[60\]"),
        (LanguageData, {"length_bounds": [60, 61]}, "that ascend by 2 at least"),
        (LanguageData, {"length_bounds": 60}, r"length_bounds must be a list of steps, such as \[60, 120\], got 60"),
        (LanguageData, {"length_bounds": "60"}, "length_bounds must be a list of steps, .* got '60'"),
        (BinaryAdditionData, {"max_bits": 0}, "max_bits must be an integer of at least 1, got 0"),
        (CopyData, {"length": 0}, "length must be an integer of at least 1, got 0"),
        (CopyData, {"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
