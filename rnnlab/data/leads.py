"""One lead of a record, whatever file it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Lead(NamedTuple):
    """One lead of a record.

    Attributes:
        name: of the lead, for messages.
        rate: samples a second.
        num_samples: how many there are.
        pieces: yields them from the start, mV or the file's own unit, float64 (N_i,).
        notes: what a user should be told of how it was read, a line each.
        annotations: the file NAME.atr beside the record; None where there is none.
        files: the record's, annotations among them.
    """

    name: str
    rate: float
    num_samples: int
    pieces: Callable[[], Iterator[np.ndarray]]
    notes: Sequence[str] = ()
    annotations: Path | None = None
    files: Sequence[Path] = ()


def choose_lead(names: Sequence[str], lead: str | int | None, place: str) -> int:
    """Return the number of a lead.

    Args:
        names: of all leads.
        lead: a name or a number from 0 on; None for the first one.
        place: for the message.

    Raises:
        ValueError: there is none of that name or number.
    """
    if lead is None:
        return 0
    if isinstance(lead, int) and not isinstance(lead, bool) and 0 <= lead < len(names):
        return lead
    if isinstance(lead, str) and lead in names:
        return list(names).index(lead)
    raise ValueError(f"{place}: data.lead must be one of {', '.join(names)}, or a number from 0 on, got {lead!r}")
