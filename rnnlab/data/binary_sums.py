"""Binary addition, least significant bit first: an automaton of two states, carry or none, is all it takes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

from rnnlab.data.checks import check_integer
from rnnlab.data.steps import StepData, Steps, most_frequent


class BinaryAdditionData(StepData):
    """Two numbers of N bits, one bit of each a step, the least significant first; N + 1 bits of their sum come out.

    A step reads two bits, F = 2, the last step two zeros, and its class is the bit of the sum. Training numbers have 1
    to `max_bits` bits, each N as often, validation twice and test `test_bits`: a network that is right there has not
    learnt sums by heart, but the carry. Test numbers are drawn evenly. In training and validation the share of places
    that pass a carry on differs from sum to sum, or a carry would hardly ever be kept for more than a few steps.

    Args:
        max_bits: most bits of a training number.
        test_bits: bits of a test number.
        num_train, num_val, num_test: sums of each part.
        corpus_seed, batch_steps, eval_batch_steps, seed: see `StepData`.

    Raises:
        ValueError: an argument is out of range.
    """

    unit = "sums"

    def __init__(
        self,
        max_bits: int = 16,
        test_bits: int = 512,
        num_train: int = 20_000,
        num_val: int = 1_000,
        num_test: int = 10_000,
        corpus_seed: int = 0,
        batch_steps: int = 1_000,
        eval_batch_steps: int = 200_000,
        seed: int = 0,
    ) -> None:
        pairs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        names = ("0+0", "0+1", "1+0", "1+1")
        numbers = (num_train, num_val, num_test, corpus_seed, batch_steps, eval_batch_steps, seed)
        super().__init__(names, ("0", "1"), pairs, *numbers)
        self.max_bits = check_integer("max_bits", max_bits, 1)
        self.test_bits = check_integer("test_bits", test_bits, 1)
        self.length_bounds = (self.test_bits + 1,)

    def draw(self, part: str, rng: np.random.Generator) -> list[Steps]:
        ranges = {"train": (1, self.max_bits), "val": (2 * self.max_bits,) * 2, "test": (self.test_bits,) * 2}
        least, most = ranges[part]
        bits = rng.integers(least, most + 1, size=self.num_sequences[part])
        draw = draw_bits if part == "test" else draw_carries
        return [add_bits(*draw(count, rng)) for count in bits.tolist()]

    def baselines(self) -> dict[str, float]:
        """Return the share of bits that are the most frequent one, 'baseline/most_frequent/<part>/accuracy'.

        And 'baseline/no_carry/<part>/accuracy', of what a network without a state can say: a xor b.
        """
        self.setup()
        result = {}
        for part in ("val", "test"):
            rows = self.splits[part]
            result[f"baseline/most_frequent/{part}/accuracy"] = most_frequent(self.splits["train"], rows)
            is_right = [(one.symbols % 3 != 0) == one.tags for one in rows.sequences]
            result[f"baseline/no_carry/{part}/accuracy"] = float(np.mean(np.concatenate(is_right)))
        return result

    def parse(self, line: str, place: str) -> list[int]:
        match = re.fullmatch(r"([0-9]{1,4000})\s*\+\s*([0-9]{1,4000})", line)
        if match is None:
            raise ValueError(f"{place}: expected a sum like '12+345' of numbers up to 4000 digits, got {line[:60]!r}")
        first, second = (int(number) for number in match.groups())
        places = range(max(first.bit_length(), second.bit_length()) + 1)
        return [2 * (first >> place & 1) + (second >> place & 1) for place in places]

    def answer(self, tags: Sequence[int]) -> str:
        return str(sum(bit << place for place, bit in enumerate(tags)))


def draw_bits(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return two numbers of so many bits, all as likely, uint8 (2, N)."""
    return rng.integers(2, size=(2, count), dtype=np.uint8)


def draw_carries(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return two numbers whose places pass a carry on, 0+1 or 1+0, by a probability drawn for the sum, uint8 (2, N)."""
    first = rng.integers(2, size=count, dtype=np.uint8)
    return np.stack([first, first ^ (rng.random(count) < rng.random())])


def add_bits(first: np.ndarray, second: np.ndarray) -> Steps:
    """Return the steps of a sum of two numbers, uint8 (N,) each, the least significant bit first.

    Symbols are 2 a + b of the bits a and b, and 0 at the end; there are N + 1 of them and of the bits of the sum.

    Example:
        >>> steps = add_bits(np.array([1, 1], np.uint8), np.array([1, 0], np.uint8))  # 3 + 1
        >>> steps.symbols.tolist(), steps.tags.tolist()
        ([3, 2, 0], [0, 0, 1])
    """
    generated, passed = first & second, first ^ second
    # A carry comes from the last place that is not 0+1 or 1+0, if both bits were 1 there.
    places = np.arange(len(first))
    last = np.maximum.accumulate(np.where(passed == 0, places, -1))
    carry = np.where(last >= 0, generated[last], 0).astype(np.uint8)
    zero = np.zeros(1, dtype=np.uint8)
    tags = np.concatenate([passed, zero]) ^ np.concatenate([zero, carry])
    return Steps(np.concatenate([2 * first + second, zero]), tags)
