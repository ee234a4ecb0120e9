"""Numbers and their names: right ones, each number in one part, and what is no number is refused."""

import re

import pytest

from rnnlab.data import NumberData
from rnnlab.data.numbers import number_name

WORTH = dict(
    zip("one two three four five six seven eight nine ten eleven twelve".split(), range(1, 13), strict=True),
    **{"thir": 13, "four": 4, "fif": 15, "eigh": 8},
)
TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
WORTH |= {name: number for number, name in enumerate(TEENS, start=13)}
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
WORTH |= {name: 10 * number for number, name in enumerate(TENS, start=2)}


def read(name):
    """Return the number of a name, by adding up its words."""
    total = part = 0
    for word in re.split("[ -]", name):
        if word == "thousand":
            total, part = total + 1000 * part, 0
        elif word == "hundred":
            part *= 100
        else:
            part += WORTH[word]
    return total + part


def test_names_are_read_back():
    names = {number: number_name(number) for number in range(1, 10_000)}
    assert all(read(name) == number for number, name in names.items())
    assert len(set(names.values())) == len(names)
    assert number_name(0) == "zero" and number_name(10) == "ten" and number_name(100) == "one hundred"
    assert number_name(999_999) == "nine hundred ninety-nine thousand nine hundred ninety-nine"


def test_each_number_is_in_one_part():
    data = NumberData()
    data.setup()
    numbers = {part: {int("".join(pair.source)) for pair in pairs} for part, pairs in data.pairs.items()}
    assert {part: len(found) for part, found in numbers.items()} == {"train": 2_700, "val": 300, "test": 7_000}
    assert set.union(*numbers.values()) == set(range(10_000))
    assert all(len(pair.source) == 4 for pairs in data.pairs.values() for pair in pairs)
    assert all(
        data.join_target(pair.targets[0]) == number_name(int("".join(pair.source))) for pair in data.pairs["test"]
    )


def test_parts_are_a_function_of_the_corpus_seed():
    def train(**arguments):
        data = NumberData(2, 30, 10, **arguments)
        data.setup()
        return data.pairs["train"]

    assert train(seed=1) == train(seed=2) != train(corpus_seed=1)


@pytest.mark.parametrize("line", ["10000", "-1", "4.5", "four", "1 2", "²", "", "nan", "9" * 5000])
def test_what_is_no_number_is_refused(tmp_path, line):
    (tmp_path / "in.txt").write_text(f"42\n{line}\n7\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"in.txt:2: a number from 0 to 9999 is expected, got"):
        NumberData().read_queries(tmp_path / "in.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_digits": 7}, "num_digits must be an integer from 1 to 6, got 7"),
        ({"num_digits": 1, "num_train": 9}, "num_train must be an integer from 1 to 8, got 9"),
        ({"num_val": 7_300}, "num_val must be an integer from 1 to 7299, got 7300"),
    ],
)
def test_parts_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NumberData(**arguments)


def test_leading_zeros_are_no_digits():
    data = NumberData()
    assert [data.parse_source(line, "") for line in ("42", "00042", "0" * 5000 + "42")] == [tuple("0042")] * 3
    assert data.parse_source("000000", "") == tuple("0000")
