"""How processes that train together share a batch: one rule for all data modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Share(NamedTuple):
    """Which of the processes that train together this one is.

    Attributes:
        rank: 0 for the first, who alone writes files.
        num_ranks: how many there are.
    """

    rank: int = 0
    num_ranks: int = 1

    def of(self, rows: Sequence[int]) -> list[int]:
        """Return this process' rows of a batch: those of all processes, one after the other, are the batch.

        The first processes have one more where they cannot be dealt evenly. A process for which none is left is given
        one of another, as `BorrowedRows`: it has to take part in the step, and its row has to count for nothing.
        """
        first, last = (-(-len(rows) * rank // self.num_ranks) for rank in (self.rank, self.rank + 1))
        return list(rows[first:last]) if first < last else BorrowedRows(rows[:1])


ALONE = Share()


class BorrowedRows(list[int]):
    """Rows of a batch that count for nothing, being those of another process."""


class Borrowed(NamedTuple):
    """A batch of rows that count for nothing, as a loader serves it: a data module unwraps it for the task."""

    batch: Any
