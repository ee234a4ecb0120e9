"""Pairs of a source and its right answers in numbers, and the batches that sequence-to-sequence models read.

Letters: B rows of a batch, S symbols of its longest source, U those of its longest target, END included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnnlab.data.vocabulary import END, PADDING, START, UNKNOWN, Vocabulary

SPECIAL = (PADDING, UNKNOWN, START, END)  # the first symbols of both vocabularies

Tokens = tuple[str, ...]


class Pair(NamedTuple):
    """A source and all its right answers.

    Attributes:
        source: its symbols, at least one.
        targets: the symbols of each right answer, at least one answer; the first is the one trained on.
        weight: how much it counts: in the loss, where it is trained on, or in scores, as occurrences it stands for.
    """

    source: Tokens
    targets: tuple[Tokens, ...]
    weight: float = 1.0


class PairBatch(NamedTuple):
    """B sources and the first right answer of each.

    Attributes:
        source: numbers of symbols, int64 (B, S); 0 in padding, 1 for a symbol that training lacks.
        source_lengths: symbols of each source, at least 1, int64 (B,).
        target: numbers of the answer's symbols and END behind them, int64 (B, U); 0 in padding. Of a query, END alone.
        weight: see `Pair`, float32 (B,).
        unseen: whether the source does not occur in training, bool (B,); False for a query.
        rows: number of the pair in its part, int64 (B,), by which `PairData.references` has all right answers.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    weight: Tensor
    unseen: Tensor
    rows: Tensor


class PairRows(Dataset):
    """Pairs in numbers; a list of indices is answered by a batch, a single index by a batch of one.

    Attributes:
        lengths: by which pairs are put together, int64 (N,): symbols of each source or, where that is more, a quarter
            of those of its target, so that a long one does not widen a batch of many.

    Args:
        pairs: N of them, or sources whose one answer is empty.
        source_symbols, target_symbols: the vocabularies, which begin with `SPECIAL`.
        known: sources that occur in training; None: all do.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        source_symbols: Vocabulary,
        target_symbols: Vocabulary,
        known: Collection[Tokens] | None = None,
    ) -> None:
        self._source_lengths = np.array([len(pair.source) for pair in pairs], dtype=np.int64)
        self._target_lengths = np.array([len(pair.targets[0]) + 1 for pair in pairs], dtype=np.int64)
        self.lengths = np.maximum(self._source_lengths, self._target_lengths // 4)
        self._source = encode_symbols(chain.from_iterable(pair.source for pair in pairs), source_symbols)
        self._target = np.full(self._target_lengths.sum(), target_symbols[END])
        is_end = np.zeros(len(self._target), dtype=bool)
        is_end[self._target_lengths.cumsum() - 1] = True
        self._target[~is_end] = encode_symbols(chain.from_iterable(pair.targets[0] for pair in pairs), target_symbols)
        self._weight = np.array([pair.weight for pair in pairs], dtype=np.float32)
        self._unseen = np.array([known is not None and pair.source not in known for pair in pairs])
        self._starts = self._source_lengths.cumsum() - self._source_lengths
        self._target_starts = self._target_lengths.cumsum() - self._target_lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_target_symbols(self) -> int:
        """Return how many symbols are to be predicted, the ENDs among them."""
        return len(self._target)

    def __getitem__(self, indices: int | Sequence[int]) -> PairBatch:
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        arrays = (
            _gather(self._source, self._starts[rows], self._source_lengths[rows]),
            self._source_lengths[rows],
            _gather(self._target, self._target_starts[rows], self._target_lengths[rows]),
            self._weight[rows],
            self._unseen[rows],
            rows,
        )
        return PairBatch(*map(torch.from_numpy, arrays))


def encode_symbols(symbols: Iterable[str], vocabulary: Vocabulary) -> np.ndarray:
    """Return the numbers of symbols, int64 (N,); what is spelt like one of `SPECIAL` is unknown."""
    ids = np.array(vocabulary.encode(symbols), dtype=np.int64)
    ids[ids < len(SPECIAL)] = vocabulary[UNKNOWN]
    return ids


def _gather(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return rows of `values` that begin at `starts` (B,), with zeros behind their ends, (B, longest)."""
    steps = np.arange(lengths.max())
    inside = steps < lengths[:, None]
    return np.where(inside, values[np.where(inside, starts[:, None] + steps, 0)], 0)
