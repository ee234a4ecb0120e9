"""Addition as a sequence task: "12+345" in, "357" out, after the Keras example addition_rnn.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.batches import InMemoryData, Queries, split_rows
from rnnlab.data.checks import check_batch_size, check_fraction, check_integer
from rnnlab.data.files import read_text

VOCABULARY = "0123456789+ "

# 10**19 and the sums below it no longer fit int64.
_MAX_DIGITS = 18
# Up to here all pairs are enumerated, so that even a request for nearly all of them ends; 10**4 means 5e7 pairs.
_MAX_ENUMERATED = 10**3

_ID_OF_BYTE = np.full(256, -1, dtype=np.int64)
_ID_OF_BYTE[[ord(symbol) for symbol in VOCABULARY]] = np.arange(len(VOCABULARY))


def encode(text: str) -> Tensor:
    """Return the vocabulary ids of a text, int64 (T,).

    Raises:
        ValueError: a character lies outside the vocabulary.

    Example:
        >>> encode("1+2 ").tolist()
        [1, 10, 2, 11]
    """
    return _encode_rows([text], len(text))[0]


def decode(ids: Tensor | Sequence[int]) -> str:
    """Return the text of vocabulary ids (T,), spaces included.

    Example:
        >>> decode([1, 10, 2, 11])
        '1+2 '
    """
    return "".join(VOCABULARY[int(i)] for i in ids)


def _encode_rows(texts: Sequence[str], width: int) -> Tensor:
    """Pad each text with trailing spaces to `width` and return ids (N, width)."""
    joined = "".join(text.ljust(width) for text in texts)
    strange = sorted(set(joined) - set(VOCABULARY))
    if strange:
        raise ValueError(f"characters must be among {VOCABULARY!r}, got {''.join(strange)!r}")
    ids = _ID_OF_BYTE[np.frombuffer(joined.encode("ascii"), dtype=np.uint8)]
    return torch.from_numpy(ids.reshape(len(texts), width))


def draw_pairs(num_pairs: int, digits: int, rng: np.random.Generator) -> np.ndarray:
    """Draw operand pairs, no two of which are equal up to order.

    Each operand has a length uniform in 1..digits and then uniform digits, so leading zeros collapse and short numbers
    are frequent. Pairs seen before are drawn again: the rows are a weighted sample without replacement, in the order in
    which they first came.

    Args:
        num_pairs: how many; at most n (n + 1) / 2 with n = 10**digits.
        digits: greatest operand length, 1 to 18.
        rng: source of all randomness.

    Returns:
        Operands in the order of the question, int64 (num_pairs, 2).
    """
    if 10**digits <= _MAX_ENUMERATED:
        return _draw_pairs_enumerated(num_pairs, digits, rng)
    pairs = np.empty((0, 2), dtype=np.int64)
    while len(pairs) < num_pairs:
        missing = num_pairs - len(pairs)
        lengths = rng.integers(1, digits + 1, size=(missing + missing // 4 + 16, 2))
        drawn = rng.integers(0, 10**lengths, dtype=np.int64)
        pairs = _first_of_each(np.concatenate([pairs, drawn]))
    return pairs[:num_pairs]


def _first_of_each(pairs: np.ndarray) -> np.ndarray:
    """Keep the first of equal unordered pairs, in order of arrival."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    order = np.lexsort((low, high))  # stable: equal pairs stay in order of arrival
    is_repeat = np.zeros(len(pairs), dtype=bool)
    is_repeat[order[1:]] = (np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)
    return pairs[~is_repeat]


def _draw_pairs_enumerated(num_pairs: int, digits: int, rng: np.random.Generator) -> np.ndarray:
    """Do what rejection would do, in bounded time: the k smallest of Exp(1)/weight, ascending, are such a sample."""
    values = np.arange(10**digits)
    lengths = np.arange(1, digits + 1)
    # A value is the outcome of every length that is long enough for it.
    weight = (10.0**-lengths * (values[:, None] < 10**lengths)).sum(axis=1)
    low, high = np.triu_indices(len(values))
    pair_weight = weight[low] * weight[high] * np.where(low == high, 1.0, 2.0)
    arrival = rng.exponential(size=len(low)) / pair_weight
    first = np.argsort(arrival, kind="stable")[:num_pairs]
    pairs = np.stack([low[first], high[first]], axis=1)
    return np.where(rng.random((num_pairs, 1)) < 0.5, pairs, pairs[:, ::-1])


class AdditionData(InMemoryData):
    """Questions "a+b" and their answers, unique as unordered pairs over all three splits together.

    Questions are padded with trailing spaces to 2*digits+1 and then, if `reverse`, reversed as a whole; answers are
    padded to digits+1 and never reversed. A batch is (question ids int64 (B, 2*digits+1), answer ids int64
    (B, digits+1)).

    Args:
        digits: greatest operand length, 1 to 18.
        num_questions: size of train and validation together.
        val_fraction: share of `num_questions` used for validation.
        num_test: further questions, drawn in addition.
        reverse: show the model the reversed question.
        batch_size: questions a batch; at most the training part.
        seed: decides questions, splits and the order of training.

    Raises:
        ValueError: an argument is out of range, or more questions are asked for than pairs exist.
    """

    def __init__(
        self,
        digits: int = 3,
        num_questions: int = 50_000,
        val_fraction: float = 0.1,
        num_test: int = 5_000,
        reverse: bool = True,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        self.digits = check_integer("digits", digits, 1, _MAX_DIGITS)
        self.num_questions = check_integer("num_questions", num_questions, 2)
        self.num_test = check_integer("num_test", num_test, 1)
        self.num_val = round(self.num_questions * check_fraction("val_fraction", val_fraction))
        self.num_train = self.num_questions - self.num_val
        if not 0 < self.num_val < self.num_questions:
            raise ValueError(
                f"val_fraction must leave a question in train and validation: {val_fraction} of {num_questions} "
                f"gives {self.num_train} and {self.num_val}"
            )
        num_pairs = 10**digits * (10**digits + 1) // 2
        total = self.num_questions + self.num_test
        if total > num_pairs:
            raise ValueError(
                f"num_questions + num_test must be at most {num_pairs}, the number of unordered pairs of up to "
                f"{digits} digits, got {self.num_questions} + {self.num_test} = {total}"
            )
        super().__init__(check_batch_size(batch_size, self.num_train), seed)
        self.reverse = reverse
        self.seed = self.shuffle_seed
        self.question_length = 2 * digits + 1
        self.answer_length = digits + 1
        self.sizes = {"vocab_size": len(VOCABULARY), "answer_length": self.answer_length}

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        rng = np.random.default_rng(self.seed)
        pairs = draw_pairs(self.num_questions + self.num_test, self.digits, rng)
        # Draws come in falling order of likelihood once pairs run short; a permutation makes the splits alike.
        rng.shuffle(pairs)
        questions = self.encode_questions([f"{a}+{b}" for a, b in pairs.tolist()])
        answers = _encode_rows([str(total) for total in pairs.sum(axis=1).tolist()], self.answer_length)
        return split_rows((questions, answers), [self.num_train, self.num_val, self.num_test])

    def encode_questions(self, texts: Sequence[str]) -> Tensor:
        """Return the ids of questions as the model sees them, padded and perhaps reversed, (N, 2*digits+1)."""
        ids = _encode_rows(texts, self.question_length)
        return ids.flip(1) if self.reverse else ids

    def question_text(self, ids: Tensor) -> str:
        """Return the question "a+b" that ids (2*digits+1,), as the model sees them, stand for."""
        return decode(ids.flip(0) if self.reverse else ids).strip()

    def answer_text(self, ids: Tensor) -> str:
        """Return an answer (digits+1,) without its padding."""
        return decode(ids).rstrip()

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read one question "a+b" a line; spaces around it and its plus sign, and blank lines at the end, are ignored.

        Raises:
            ValueError: the file is missing or empty, or a line is no sum of two numbers of at most `digits` digits.
        """
        file, text = read_text(path, "file of questions", encoding or self.encoding)
        text = text.rstrip()
        if not text:
            raise ValueError(f"{file}: is empty, one question 'a+b' a line is expected")
        lines = enumerate(text.split("\n"), start=1)
        questions = [self._parse_question(line, f"{file}:{number}") for number, line in lines]
        return Queries(self.encode_questions(questions), questions)

    def _parse_question(self, line: str, place: str) -> str:
        match = re.fullmatch(r"\s*([0-9]+)\s*\+\s*([0-9]+)\s*", line)
        if match is None:
            raise ValueError(f"{place}: expected a question like '12+345', got {line!r}")
        # As in training, where leading zeros never occur.
        question = "+".join(str(int(operand)) for operand in match.groups())
        if max(len(operand) for operand in question.split("+")) > self.digits:
            raise ValueError(f"{place}: operands may have at most {self.digits} digits, as in training, got {line!r}")
        return question

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return one line "question<TAB>answer" for each row of answer ids (N, digits+1), of all batches together."""
        pairs = zip(queries.context, self.answers(queries, outputs), strict=True)
        return "".join(f"{question}\t{answer}\n" for question, answer in pairs)

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> list[str]:
        return [self.answer_text(ids) for batch in outputs for ids in batch]
