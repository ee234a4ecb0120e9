"""Numbers and their English names: 4207 is "four thousand two hundred seven"."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnlab.data.checks import check_integer
from rnnlab.data.pair_rows import Pair, Tokens
from rnnlab.data.pairs import PairData

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_MOST_DIGITS = 6


def number_name(number: int) -> str:
    """Return the English name of a number below a million, without 'and'.

    Example:
        >>> number_name(4207), number_name(31), number_name(0)
        ('four thousand two hundred seven', 'thirty-one', 'zero')
    """
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_SMALL[rest]}" if rest else "")
    unit, word = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, unit)
    return f"{number_name(count)} {word}" + (f" {number_name(rest)}" if rest else "")


class NumberData(PairData):
    """All numbers of so many digits, leading zeros among them, and their English names, letter by letter.

    A source always has `num_digits` symbols, so that a model can read it as one vector. Of an order drawn once, the
    first `num_train` numbers are for training, the next `num_val` for validation and all others for the test.

    Args:
        num_digits: of a source, at most 6.
        num_train, num_val: numbers of these parts.
        corpus_seed: decides which numbers are in which part.
        max_tokens, eval_max_tokens, seed: see `PairData`; a number counts as many symbols as it has digits or, if that
            is more, a quarter of the letters of its name.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_digits: int = 4,
        num_train: int = 2_700,
        num_val: int = 300,
        corpus_seed: int = 0,
        max_tokens: int = 1_000,
        eval_max_tokens: int = 8_000,
        seed: int = 0,
    ) -> None:
        super().__init__(max_tokens=max_tokens, eval_max_tokens=eval_max_tokens, seed=seed)
        self.num_digits = check_integer("num_digits", num_digits, 1, _MOST_DIGITS)
        # One number at least is left for each part that follows.
        self.num_train = check_integer("num_train", num_train, 1, 10**num_digits - 2)
        self.num_val = check_integer("num_val", num_val, 1, 10**num_digits - 1 - num_train)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)

    def read_parts(self) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
        order = np.random.default_rng(self.corpus_seed).permutation(10**self.num_digits).tolist()
        pairs = [Pair(self._digits(number), (tuple(number_name(number)),)) for number in order]
        first, last = self.num_train, self.num_train + self.num_val
        return {"train": pairs[:first], "val": pairs[first:last], "test": pairs[last:]}, {}

    def _digits(self, number: int) -> Tokens:
        return tuple(f"{number:0{self.num_digits}}")

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"num_digits": self.num_digits}

    def parse_source(self, line: str, place: str) -> Tokens:
        text = line.strip()
        if not (text.isascii() and text.isdecimal()) or len(text.lstrip("0")) > self.num_digits:
            most = 10**self.num_digits - 1
            raise ValueError(f"{place}: a number from 0 to {most} is expected, got {text[:60]!r}")
        return self._digits(int(text[-self.num_digits :]))
