"""What files of tables share, whatever their kind: names of columns, and pyarrow, loaded when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab.data.table_form import nearest


def load(module: str) -> Any:
    """Import a module of the extra `forecast`; ValueError where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError('tables need pandas and pyarrow: pip install "rnnlab[forecast]"') from None


def release() -> None:
    """Give the memory back that pyarrow keeps for later."""
    load("pyarrow").default_memory_pool().release_unused()


class TableFile:
    """What both kinds share.

    Attributes:
        file: where it is.
        names: of the columns, in their order, '' for one without.
        notes: what was found out, a line each.
    """

    file: Path
    names: list[str]
    notes: list[str]

    def check_names(self, names: Sequence[str], role: str) -> None:
        """Refuse names that are no column, or more than one."""
        for name in names:
            if name not in self.names:
                known = [one for one in self.names if one]
                raise ValueError(f"{self.file}: no column {name!r}, named as {role}; {nearest(name, known)}")
            self._check_once(name)

    def _check_once(self, name: str) -> None:
        if self.names.count(name) > 1:
            places = " and ".join(str(place) for place, one in enumerate(self.names, start=1) if one == name)
            raise ValueError(f"{self.file}: columns {places} are both named {name!r}")

    def is_number(self, name: str) -> bool:
        """Return whether a column seems to hold numbers."""
        raise NotImplementedError

    def is_time(self, name: str) -> bool:
        """Return whether a column seems to hold dates."""
        raise NotImplementedError

    def place(self, row: int, name: str) -> str:
        """Return where a cell is, for a message; rows count from 0."""
        raise NotImplementedError

    def cell(self, row: int, name: str) -> str:
        """Return the text of a cell."""
        raise NotImplementedError

    def number_columns(self, others: Sequence[str]) -> list[str]:
        """Return the columns that seem to hold numbers, but for `others`."""
        names = [name for name in self.names if name and name not in others]
        for name in names:
            self._check_once(name)
        return [name for name in names if self.is_number(name)]

    def _refuse_infinite(self, name: str, values: np.ndarray, start: int = 0) -> None:
        """Refuse the first number that is infinite in a block whose first row is `start`."""
        for row in start + np.flatnonzero(np.isinf(values))[:1]:
            raise ValueError(f"{self.place(row, name)}: expected a finite number, got {self.cell(row, name)!r}")
