"""N-grams with Witten-Bell smoothing: what counting alone knows of the next symbol.

Letters: V symbols, N symbols to score, K the highest order.

    p_k(x | h) = (c(hx) + n(h) p_{k-1}(x | h')) / (c(h) + n(h))

h are the k - 1 symbols before x, h' is h without its first symbol, c counts occurrences in the training text and n(h)
is the number of different symbols seen behind h. p_0 = 1 / V, and an h never seen leaves p_k = p_{k-1} (Witten and
Bell, 1991, method C, in the interpolated form of Chen and Goodman, 1998).

Before a document stands one start symbol, which is context but never predicted. Contexts that would reach beyond it are
left out, as in SRILM and KenLM: the first symbol is scored by orders 1 and 2 alone, the second by 1 to 3.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

# What a place in the text is there for.
_CONTEXT, _COUNTED, _SCORED = 0, 1, 2


def witten_bell(
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    num_symbols: int,
    order: int,
    context: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Count in `train`, and return how surprising every symbol of `test` is to each order from 1 to `order`.

    Args:
        train: documents, one-dimensional arrays of symbols from 0 to V - 1.
        test: documents alike; N symbols in all.
        num_symbols: V, how many symbols there are, seen in `train` or not.
        order: K, length of the longest n-gram; an n-gram of order 1 is a single symbol.
        context: for each test document what stands before it, where the text was split in the middle; it is read and
            not scored, and no more of it than the last K - 1 symbols. None: documents are whole.

    Returns:
        -ln p in nats, float64 (K, N), row k - 1 of order k, the test documents one behind the other;
        `.mean(axis=1)` are nats per symbol.

    Raises:
        ValueError: an order or a symbol is out of range, or there is not one context for each test document.

    Example:
        >>> witten_bell([np.array([0, 1, 0, 1])], [np.array([0, 1])], num_symbols=2, order=2).round(3)
        array([[0.693, 0.693],
               [0.288, 0.182]])
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    if context is None:
        context = [np.empty(0, dtype=np.int64)] * len(test)
    if len(context) != len(test):
        raise ValueError(f"context must hold one array for each of the {len(test)} test documents, got {len(context)}")
    before = [part[max(0, len(part) - order + 1) :] for part in context]
    for part in (*train, *test, *before):
        if len(part) and not (0 <= part.min() and part.max() < num_symbols):
            raise ValueError(f"symbols must be from 0 to {num_symbols - 1}, got {part.min()} to {part.max()}")

    symbols, place, use = _lay_out(train, before, test, start=num_symbols)
    scored = np.flatnonzero(use == _SCORED)
    p = np.full(len(scored), 1 / num_symbols)
    nats = np.empty((order, len(scored)))
    contexts = np.zeros(len(symbols), dtype=np.int64)  # by its number, what stands before each symbol
    for length in range(order):  # of the contexts
        # N-grams are numbered anew at each length, by their context and last symbol: codes stay below places times V.
        codes, grams = np.unique(contexts * (num_symbols + 1) + symbols, return_inverse=True)
        owners = codes // (num_symbols + 1)
        counts = np.bincount(grams[(use == _COUNTED) & (place >= length)], minlength=len(codes))
        totals = np.bincount(owners, weights=counts)
        followers = np.bincount(owners, weights=counts > 0)

        known = totals[contexts[scored]] > 0  # not so of a context with a start symbol within: none is counted
        gram, owner = grams[scored[known]], contexts[scored[known]]
        p[known] = (counts[gram] + followers[owner] * p[known]) / (totals[owner] + followers[owner])
        nats[length] = -np.log(p)
        contexts[1:] = grams[:-1]
    return nats


class NGram:
    """The same, asked symbol by symbol: a language model for `rnnlab.decoding.prefix_beam`.

    Args:
        train: documents, sequences of symbols from 0 to V - 1.
        num_symbols: V, how many symbols there are, seen in `train` or not.
        order: K, length of the longest n-gram.

    Raises:
        ValueError: an order or a symbol is out of range.

    Example:
        >>> model = NGram([[0, 1, 0, 1]], num_symbols=2, order=2)
        >>> log_prob, behind = model.score(model.start(), 0)
        >>> round(log_prob, 3), round(model.score(behind, 1)[0], 3)
        (-0.288, -0.182)
    """

    def __init__(self, train: Iterable[Sequence[int]], num_symbols: int, order: int) -> None:
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.num_symbols, self.order = num_symbols, order
        self._counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for document in train:
            path = (num_symbols, *map(int, document))  # the start symbol is a number of its own
            if any(not 0 <= symbol < num_symbols for symbol in path[1:]):
                raise ValueError(f"symbols must be from 0 to {num_symbols - 1}, got {min(path[1:])} to {max(path[1:])}")
            for end in range(1, len(path)):
                for begin in range(max(0, end + 1 - order), end + 1):
                    self._counts[path[begin:end]][path[end]] += 1
        self._totals = {history: seen.total() for history, seen in self._counts.items()}

    def start(self) -> tuple[int, ...]:
        """Return the state before the first symbol."""
        return self._shortened((self.num_symbols,))

    def score(self, state: tuple[int, ...], symbol: int) -> tuple[float, tuple[int, ...]]:
        """Return the log-probability of a symbol in nats, and the state behind it: the last K - 1 symbols."""
        p = 1 / self.num_symbols
        for begin in range(len(state), -1, -1):
            seen = self._counts.get(state[begin:])
            if seen is None:  # nor is what is longer
                break
            p = (seen[symbol] + len(seen) * p) / (self._totals[state[begin:]] + len(seen))
        return math.log(p), self._shortened((*state, symbol))

    def _shortened(self, path: tuple[int, ...]) -> tuple[int, ...]:
        return path[max(0, len(path) + 1 - self.order) :]


def _lay_out(
    train: Sequence[np.ndarray], before: Sequence[np.ndarray], test: Sequence[np.ndarray], start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all documents in one row, each behind a start symbol, the distance to it, and the use of each symbol."""
    pieces, uses = [np.empty(0, dtype=np.int64)], [_CONTEXT]
    for document in train:
        pieces += [np.array([start]), document]
        uses += [_CONTEXT, _COUNTED]
    for head, document in zip(before, test, strict=True):
        pieces += [np.array([start]), head, document]
        uses += [_CONTEXT, _CONTEXT, _SCORED]
    symbols = np.concatenate(pieces).astype(np.int64, copy=False)
    starts = np.flatnonzero(symbols == start)
    place = np.arange(len(symbols)) - np.repeat(starts, np.diff(starts, append=len(symbols)))
    return symbols, place, np.repeat(uses, [len(piece) for piece in pieces])
