"""Symbols and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

PADDING, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"


class Vocabulary:
    """A fixed order of symbols; what is not among them has the number of the unknown symbol, if there is one.

    Args:
        symbols: all different; `UNKNOWN` may be among them.

    Raises:
        ValueError: a symbol comes twice.

    Example:
        >>> letters = Vocabulary.of("abba", special=(UNKNOWN,))
        >>> letters.symbols, letters.encode("cab")
        (('<unk>', 'a', 'b'), [0, 1, 2])
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols = tuple(symbols)
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(self._ids) != len(self.symbols):
            twice = [symbol for symbol, count in Counter(self.symbols).items() if count > 1]
            raise ValueError(f"symbols of a vocabulary must differ, {twice[0]!r} comes twice")
        self.unknown = self._ids.get(UNKNOWN)

    @classmethod
    def of(cls, items: Iterable[str], special: Sequence[str] = (), min_count: int = 1) -> Vocabulary:
        """Return the special symbols, in their order, and behind them the sorted items that come `min_count` times."""
        counts = Counter(items)
        return cls((*special, *sorted(item for item, count in counts.items() if count >= min_count)))

    def __len__(self) -> int:
        return len(self.symbols)

    def __iter__(self) -> Iterator[str]:
        return iter(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def __getitem__(self, symbol: str) -> int:
        """Return the number of a symbol.

        Raises:
            KeyError: it is not there, and neither is the unknown symbol.
        """
        index = self._ids.get(symbol, self.unknown)
        if index is None:
            raise KeyError(symbol)
        return index

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Return the numbers of symbols; KeyError as for one."""
        return [self[symbol] for symbol in symbols]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the symbols of numbers."""
        return [self.symbols[index] for index in ids]
