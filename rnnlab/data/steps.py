"""Sequences of symbols with a class for each step: what tasks of memory and counting are made of.

Letters: T steps, B rows of a batch, S symbols, F numbers a symbol is read as.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnnlab.data.batches import IGNORED, Queries
from rnnlab.data.buckets import BucketData
from rnnlab.data.checks import check_integer
from rnnlab.data.files import read_text
from rnnlab.data.vocabulary import Vocabulary


class StepBatch(NamedTuple):
    """B sequences of at most T steps, as `rnnlab.models.SegmentTagger` reads them.

    Attributes:
        segments: float32 (T, B, F), zero in padding.
        lengths: steps of each sequence, at least 1, int64 (B,).
        tags: number of the class of each step, int64 (B, T); -100 in padding.
    """

    segments: Tensor
    lengths: Tensor
    tags: Tensor


class Steps(NamedTuple):
    """A sequence: the number of the symbol and of the class of each step, uint8 (T,)."""

    symbols: np.ndarray
    tags: np.ndarray


class StepRows(Dataset):
    """Sequences of a part; a list of indices is answered by a batch, a single index by a batch of one.

    Args:
        sequences: N of them.
        features: what each symbol is read as, float32 (S, F).
    """

    def __init__(self, sequences: Sequence[Steps], features: Tensor) -> None:
        self.sequences, self.features = sequences, features
        self.lengths = np.array([len(one.symbols) for one in sequences], dtype=np.int64)
        # All in one row: a batch is one look-up, where a hundred small ones take longer than an update.
        self._symbols, self._tags = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*sequences, strict=True))
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, indices: int | Sequence[int]) -> StepBatch:
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        lengths, starts = torch.from_numpy(self.lengths[rows]), torch.from_numpy(self._starts[rows])
        places = torch.arange(int(lengths.max()))
        padded = places >= lengths.unsqueeze(1)  # (B, T)
        at = (starts.unsqueeze(1) + places).masked_fill_(padded, 0)
        symbols = self.features[self._symbols[at.t().contiguous()].long()].masked_fill_(padded.t().unsqueeze(-1), 0)
        return StepBatch(symbols, lengths, self._tags[at].long().masked_fill_(padded, IGNORED))


class StepData(BucketData):
    """Base of the data modules of symbols with a class a step; a subclass writes `draw`, `parse` and `answer`.

    Attributes:
        symbols: names of the symbols, S.
        tags: a Vocabulary of the classes.
        features: what each symbol is read as, float32 (S, F).
        length_bounds: most steps of each group of test sequences, ascending; reports are made by these groups.

    Args:
        symbols, tags: names.
        features: None for one number a symbol, 1 for the symbol that is there.
        num_train, num_val, num_test: sequences of each part.
        corpus_seed: decides all sequences.
        batch_steps, eval_batch_steps: padded size of a batch, sequences times steps, of training and of evaluation.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range.
    """

    size_names = ("batch_steps", "eval_batch_steps")
    length_bounds: Sequence[int] = ()

    def __init__(
        self,
        symbols: Sequence[str],
        tags: Sequence[str],
        features: Tensor | None,
        num_train: int,
        num_val: int,
        num_test: int,
        corpus_seed: int,
        batch_steps: int,
        eval_batch_steps: int,
        seed: int,
    ) -> None:
        super().__init__(batch_steps, eval_batch_steps, seed)
        self.symbols, self.tags = tuple(symbols), Vocabulary(tags)
        self.features = torch.eye(len(self.symbols)) if features is None else features
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_sequences = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        self.sizes = {"num_features": self.features.shape[1], "num_tags": len(self.tags)}

    def draw(self, part: str, rng: np.random.Generator) -> list[Steps]:
        """Return the sequences of a part, `num_sequences[part]` unless the class says otherwise."""
        raise NotImplementedError

    def make_splits(self) -> dict[str, StepRows]:
        return {
            part: StepRows(self.draw(part, np.random.default_rng([self.corpus_seed, stream])), self.features)
            for stream, part in enumerate(self.num_sequences)
        }

    def parse(self, line: str, place: str) -> list[int]:
        """Return the numbers of the symbols that a line of a question means.

        Raises:
            ValueError: it means none, with `place` in front.
        """
        raise NotImplementedError

    def answer(self, tags: Sequence[int]) -> str:
        """Return what the classes of a sequence's steps say."""
        raise NotImplementedError

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a question a line, as `parse` takes it.

        Raises:
            ValueError: the file is missing or empty, or a line is no question ("file:line: what is wrong").
        """
        file, text = read_text(path, "file of questions", encoding or self.encoding)
        lines = [line.strip() for line in text.rstrip().split("\n")]
        parsed = [self.parse(line, f"{file}:{number}") for number, line in enumerate(lines, start=1)]
        sequences = [Steps(np.array(one, dtype=np.uint8), np.zeros(len(one), dtype=np.uint8)) for one in parsed]
        rows = StepRows(sequences, self.features)
        return Queries(rows, (lines, self._fixed_batches(rows, self.eval_max_tokens)))

    def write_answers(self, queries: Queries, outputs: Sequence[Any]) -> str:
        """Return a line "question<TAB>answer" a sequence, in the order of the questions.

        Args:
            queries: what `read_queries` returned.
            outputs: classes of all steps, one tensor (B, T) for each of `query_batches`.
        """
        pairs = zip(queries.context[0], self.answers(queries, outputs), strict=True)
        return "".join(f"{line}\t{answer}\n" for line, answer in pairs)

    def answers(self, queries: Queries, outputs: Sequence[Any]) -> list[str]:
        lines, batches = queries.context
        answers = [""] * len(lines)
        for indices, output in zip(batches, outputs, strict=True):
            for index, tags in zip(indices, output.tolist(), strict=True):
                answers[index] = self.answer(tags[: int(queries.inputs.lengths[index])])
        return answers


def most_frequent(train: StepRows, rows: StepRows) -> float:
    """Return the share of steps of `rows` that have the most frequent class of training."""
    counts = np.bincount(np.concatenate([one.tags for one in train.sequences]))
    return float(np.mean(np.concatenate([one.tags for one in rows.sequences]) == counts.argmax()))
