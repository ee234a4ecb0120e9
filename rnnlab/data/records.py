"""Records of a user's own, PhysioNet's or CSV; answers as a table.

A record is read through once before it is answered, so that what is wrong with it is told and nothing is written; and
then again in pieces, so that memory does not grow with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rnnlab.data.files import find_file
from rnnlab.data.leads import Lead
from rnnlab.data.physionet import header_file, physionet_lead
from rnnlab.data.record_clocks import SLOWEST
from rnnlab.data.record_tables import CSVLead

_FASTEST = 10_000.0
_HEADER = ("r_s", "q_s", "s_s", "qrs_on_s", "qrs_off_s", "qrs_ms", "wide")


def find_lead(path: str | Path, lead: str | int | None, rate: float | None, encoding: str = "utf-8") -> Lead:
    """Find a record and read one of its leads through.

    Args:
        path: PhysioNet's name of a record, with or without the suffix of one of its files, or a table that ends in
            '.csv' or has no suffix; as given, or below the folder that RNNLAB_DATA names.
        lead: its name, or its number from 0 on; None for the first one.
        rate: samples a second of a record that does not say it.
        encoding: of a CSV file.

    Raises:
        ValueError: "file: what is wrong".
    """
    name = Path(path)
    if name.suffix.lower() == ".csv" or (not name.suffix and name.is_file()):
        table = CSVLead(find_file(path, "record"), lead, rate, encoding)
        return _checked(Lead(table.name, table.rate, table.num_samples, table.pieces, table.notes))
    return _checked(physionet_lead(header_file(path), lead, rate))


def _checked(lead: Lead) -> Lead:
    """Return a lead that can be answered.

    Raises:
        ValueError: its rate is none, it is too short, it stands still or goes one way, or it lacks values.
    """
    if not SLOWEST <= lead.rate <= _FASTEST:
        raise ValueError(f"{lead.name}: {lead.rate:g} samples a second, from {SLOWEST:g} to {_FASTEST:g} can be read")
    place, last, rises, falls = 0, None, False, False
    for piece in lead.pieces():
        lost = np.flatnonzero(~np.isfinite(piece))
        if len(lost):
            number = place + int(lost[0])
            raise ValueError(f"{lead.name}: has no value at sample {number} ({number / lead.rate:.3f} s)")
        steps = np.diff(piece, prepend=piece[:1] if last is None else last)
        rises, falls = rises or bool((steps > 0).any()), falls or bool((steps < 0).any())
        place, last = place + len(piece), float(piece[-1])
    if lead.num_samples < lead.rate:
        raise ValueError(f"{lead.name}: has {lead.num_samples} samples, less than a second")
    if not rises and not falls:
        raise ValueError(f"{lead.name}: is a flat line, every sample is {last:g}")
    if not rises or not falls:
        raise ValueError(
            f"{lead.name}: never {'falls' if rises else 'rises'}, like a counter or a clock; "
            "data.lead=NAME is another lead"
        )
    return lead


def answer_table(points: Any, is_wide: Any) -> str:
    """Return a row a beat of R, Q, S, QRS on- and offset in seconds (K, 5), the duration, and whether it is wide."""
    rows = [",".join(_HEADER)]
    for row, wide in zip(np.asarray(points).tolist(), np.asarray(is_wide).tolist(), strict=True):
        duration = 1000 * (row[4] - row[3])
        rows.append(",".join([*(f"{time:.4f}" for time in row), f"{duration:.1f}", str(int(wide))]))
    return "\n".join(rows) + "\n"
