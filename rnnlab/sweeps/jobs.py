"""Jobs of a sweep: what they are called, and where their words come from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

_MOST_CHARACTERS = 100  # of a name: file systems allow 255 bytes, and some keep a part for themselves


class Refused(ValueError):
    """What was to run jobs does not, and says why."""


class Job(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of the job, and of its folder in the sweep's.
        overrides: `key=value` words of its configuration, all of them.
        told: how far its launcher had read the ledger, in bytes: what stands after that is news.
    """

    name: str
    overrides: list[str]
    told: int = 0


def named(jobs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[Job]:
    """Return jobs by name, 'rnn=gru,seed=1': what sets them apart, in characters that no shell and no folder minds.

    Args:
        jobs: for each the words that differ among the jobs, and all its words.
    """
    names: dict[str, Job] = {}
    for varied, overrides in jobs:
        name = re.sub(r"[^\w=,.+-]+", "-", ",".join(word.lstrip("+~") for word in varied)).strip("-.") or "run"
        if len(name) > _MOST_CHARACTERS or name in names:
            digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:8]
            name = f"{name[: _MOST_CHARACTERS - 9]}-{digest}"
        names[name] = Job(name, list(overrides))
    return list(names.values())
