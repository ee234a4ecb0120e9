"""The copy task (Hochreiter & Schmidhuber, 1997; Arjovsky et al., 2016): symbols are to be said again much later."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rnnlab.data.checks import check_integer
from rnnlab.data.steps import StepData, Steps

NUM_SYMBOLS, NUM_KINDS = 10, 8
_BLANK, _DELIMITER = NUM_KINDS, NUM_KINDS + 1


def chance(length: int) -> float:
    """Return the loss of who knows when to answer and not what, in nats a step: 10 ln 8 / (T + 20)."""
    return NUM_SYMBOLS * math.log(NUM_KINDS) / (length + 2 * NUM_SYMBOLS)


class CopyData(StepData):
    """Ten symbols out of eight, T - 1 blanks, a delimiter, ten blanks; the symbols are to be said at the end.

    A sequence has T + 20 steps. The class of a step is blank for T + 10 of them, and then the symbols in their order;
    all steps are scored.

    Args:
        length: T, steps for which the symbols are to be kept.
        num_train, num_val, num_test: sequences of each part.
        corpus_seed: decides all sequences.
        batch_size: sequences of a training batch.
        eval_batch_size: of all other batches.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range.
    """

    size_names = ("batch_size", "eval_batch_size")

    def __init__(
        self,
        length: int = 500,
        num_train: int = 50_000,
        num_val: int = 500,
        num_test: int = 2_000,
        corpus_seed: int = 0,
        batch_size: int = 50,
        eval_batch_size: int = 250,
        seed: int = 0,
    ) -> None:
        self.length = check_integer("length", length, 1)
        kinds = [*map(str, range(NUM_KINDS)), "blank"]
        steps = length + 2 * NUM_SYMBOLS
        sizes = [
            steps * check_integer(name, value, 1)
            for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size))
        ]
        super().__init__([*kinds, "delimiter"], kinds, None, num_train, num_val, num_test, corpus_seed, *sizes, seed)
        self.length_bounds = (steps,)

    def draw(self, part: str, rng: np.random.Generator) -> list[Steps]:
        said = rng.integers(NUM_KINDS, size=(self.num_sequences[part], NUM_SYMBOLS), dtype=np.uint8)
        return [Steps(self._asked(symbols), self._answered(symbols)) for symbols in said]

    def _asked(self, symbols: np.ndarray) -> np.ndarray:
        row = np.full(self.length + 2 * NUM_SYMBOLS, _BLANK, dtype=np.uint8)
        row[:NUM_SYMBOLS] = symbols
        row[self.length + NUM_SYMBOLS - 1] = _DELIMITER
        return row

    def _answered(self, symbols: np.ndarray) -> np.ndarray:
        row = np.full(self.length + 2 * NUM_SYMBOLS, _BLANK, dtype=np.uint8)
        row[-NUM_SYMBOLS:] = symbols
        return row

    def baselines(self) -> dict[str, float]:
        """Return what it costs to know when to answer and not what: 'baseline/chance/<part>/loss', in nats a step."""
        return {f"baseline/chance/{part}/loss": chance(self.length) for part in ("val", "test")}

    def parse(self, line: str, place: str) -> list[int]:
        if len(line) != NUM_SYMBOLS or set(line) - set("01234567"):
            raise ValueError(f"{place}: expected {NUM_SYMBOLS} digits from 0 to {NUM_KINDS - 1}, got {line[:60]!r}")
        return self._asked(np.array([int(symbol) for symbol in line], dtype=np.uint8)).tolist()

    def answer(self, tags: Sequence[int]) -> str:
        return "".join("_" if tag == _BLANK else str(tag) for tag in tags[-NUM_SYMBOLS:])
