"""Formal languages: parity, which is regular, a^n b^n and Dyck-2, which are context-free, and a^n b^n c^n.

The task is that of Gers and Schmidhuber (2001): after each symbol, say which symbols may follow, the end among them. A
sequence is right if that is right at each of its steps, so that none but who counts can be right. Weiss et al. (2018)
ask for acceptance of whole sequences in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.data.checks import check_choice, check_integer
from rnnlab.data.steps import StepData, Steps, most_frequent

END = "$"
_OPEN, _CLOSE = "([", ")]"


class Language(NamedTuple):
    """What a language is made of.

    Attributes:
        symbols: of its sequences.
        tags: what may follow, each a set of symbols and `END` as a text; of parity whether the ones so far are odd.
        step: steps by which lengths grow.
        draw: (length, rng) -> a sequence of that length.
        follow: sequence -> what may follow each of its symbols, names of tags.
    """

    symbols: str
    tags: tuple[str, ...]
    step: int
    draw: Callable[[int, np.random.Generator], str]
    follow: Callable[[str], Iterator[str]]


def follow_parity(sequence: str) -> Iterator[str]:
    """Yield after each bit whether the ones so far are even or odd; any bit may follow.

    Example:
        >>> list(follow_parity("101"))
        ['odd', 'odd', 'even']
    """
    odd = False
    for symbol in sequence:
        odd ^= symbol == "1"
        yield "odd" if odd else "even"


def follow_equal(sequence: str) -> Iterator[str]:
    """Yield what may follow each symbol of the beginning of an a^n b^n or, of three letters, a^n b^n c^n.

    Only of whole words of the language is it known how many letters there are: the alphabet is that of `sequence`.

    Example:
        >>> list(follow_equal("aabb"))
        ['ab', 'ab', 'b', '$']
        >>> list(follow_equal("abc"))
        ['ab', 'c', '$']
    """
    letters, count = sorted(set(sequence)), sequence.count("a")
    for place, symbol in enumerate(sequence):
        if symbol == "a":
            yield "ab"
        elif (place + 1) % count:
            yield symbol
        else:
            yield END if symbol == letters[-1] else letters[letters.index(symbol) + 1]


def follow_dyck(sequence: str) -> Iterator[str]:
    """Yield what may follow each bracket: any that opens, and the one that closes the last open one, or the end.

    Example:
        >>> list(follow_dyck("[()]"))
        ['([]', '([)', '([]', '([$']
    """
    open_ones: list[str] = []
    for symbol in sequence:
        if symbol in _OPEN:
            open_ones.append(_CLOSE[_OPEN.index(symbol)])
        else:
            open_ones.pop()
        yield _OPEN + (open_ones[-1] if open_ones else END)


def _draw_bits(length: int, rng: np.random.Generator) -> str:
    return "".join(map(str, rng.integers(2, size=length).tolist()))


def _draw_brackets(length: int, rng: np.random.Generator) -> str:
    """Return brackets of two kinds that match, opened and closed by a fair coin where both are possible."""
    result, open_ones = "", ""
    for left in range(length, 0, -1):
        if not open_ones or (len(open_ones) < left and rng.random() < 0.5):
            kind = int(rng.integers(2))
            result, open_ones = result + _OPEN[kind], open_ones + _CLOSE[kind]
        else:
            result, open_ones = result + open_ones[-1], open_ones[:-1]
    return result


def _repeat(letters: str) -> Callable[[int, np.random.Generator], str]:
    return lambda length, rng: "".join(letter * (length // len(letters)) for letter in letters)


LANGUAGES = {
    "parity": Language("01", ("even", "odd"), 1, _draw_bits, follow_parity),
    "anbn": Language("ab", ("ab", "b", END), 2, _repeat("ab"), follow_equal),
    "anbncn": Language("abc", ("ab", "b", "c", END), 3, _repeat("abc"), follow_equal),
    "dyck2": Language("()[]", ("([)", "([]", "([$"), 2, _draw_brackets, follow_dyck),
}


class LanguageData(StepData):
    """Words of a formal language and what may follow each of their symbols.

    Lengths are drawn evenly: in training up to the first of `length_bounds`, in validation from there to the second,
    and in the test part as many in each group, whose least length lies above the bound before. So what is chosen by
    validation counts beyond training, and the groups of the test beyond the second bound are longer than all that was
    seen. Of a^n b^n and a^n b^n c^n there is one word a length.

    Args:
        language: parity, anbn, anbncn or dyck2.
        length_bounds: most steps of training, of validation, and of each further group of the test part.
        num_train, num_val: words of these parts.
        num_test: words of each group of the test part.
        corpus_seed, batch_steps, eval_batch_steps, seed: see `StepData`.

    Raises:
        ValueError: an argument is out of range.
    """

    unit = "words"

    def __init__(
        self,
        language: str = "anbn",
        length_bounds: Sequence[int] = (60, 120, 240, 480),
        num_train: int = 5_000,
        num_val: int = 200,
        num_test: int = 200,
        corpus_seed: int = 0,
        batch_steps: int = 1_000,
        eval_batch_steps: int = 20_000,
        seed: int = 0,
    ) -> None:
        self.language = check_choice("language", language, LANGUAGES)
        self.rules = LANGUAGES[language]
        numbers = (num_train, num_val, num_test, corpus_seed, batch_steps, eval_batch_steps, seed)
        super().__init__(self.rules.symbols, self.rules.tags, None, *numbers)
        if isinstance(length_bounds, str) or not isinstance(length_bounds, Sequence):
            raise ValueError(f"length_bounds must be a list of steps, such as [60, 120], got {length_bounds!r}")
        bounds = [check_integer("length_bounds", bound, self.rules.step) for bound in length_bounds]
        if len(bounds) < 2 or any(high - low < self.rules.step for low, high in zip(bounds, bounds[1:], strict=False)):
            raise ValueError(
                f"length_bounds must be two or more that ascend by {self.rules.step} at least, got {bounds}"
            )
        self.length_bounds = bounds

    def draw(self, part: str, rng: np.random.Generator) -> list[Steps]:
        bounds = [0, *self.length_bounds]
        groups = list(zip(bounds, bounds[1:], strict=False))
        chosen = {"train": groups[:1], "val": groups[1:2], "test": groups}[part]
        return [word for low, high in chosen for word in self._draw_group(low, high, self.num_sequences[part], rng)]

    def _draw_group(self, low: int, high: int, number: int, rng: np.random.Generator) -> Iterator[Steps]:
        step = self.rules.step
        for count in rng.integers(low // step + 1, high // step + 1, size=number).tolist():
            yield self.encode(self.rules.draw(count * step, rng))

    def encode(self, word: str) -> Steps:
        """Return a word in numbers."""
        symbols = [self.symbols.index(symbol) for symbol in word]
        tags = [self.tags[tag] for tag in self.rules.follow(word)]
        return Steps(np.array(symbols, dtype=np.uint8), np.array(tags, dtype=np.uint8))

    def baselines(self) -> dict[str, float]:
        """Return the share of steps of the most frequent class, 'baseline/most_frequent/<part>/accuracy'."""
        self.setup()
        train = self.splits["train"]
        return {
            f"baseline/most_frequent/{part}/accuracy": most_frequent(train, self.splits[part])
            for part in ("val", "test")
        }

    def parse(self, line: str, place: str) -> list[int]:
        if not line or set(line) - set(self.symbols):
            raise ValueError(f"{place}: expected a word of {' '.join(self.symbols)}, got {line[:60]!r}")
        return [self.symbols.index(symbol) for symbol in line]

    def answer(self, tags: Sequence[int]) -> str:
        return " ".join(self.tags.decode(tags))
