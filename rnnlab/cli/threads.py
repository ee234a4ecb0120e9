"""The threads that torch computes with on a CPU. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
from functools import cache

from rnnlab.cli.errors import UsageError


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has said how they should; before torch is loaded.

    By default they spin. Two runs on the same cores then take each other's time: an epoch of half a second takes half a
    minute.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def use_threads(count: int | None) -> None:
    """Let torch compute with so many threads; None for as many as it takes by itself.

    Raises:
        UsageError: not a number of threads.
    """
    import torch

    named = os.environ.get("OMP_NUM_THREADS", "")
    default = int(named) if named.isdecimal() else _default()
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise UsageError(f"threads must be an integer >= 1, or null for torch's own choice, got {count!r}")
    if torch.get_num_threads() != (wanted := count or default):
        torch.set_num_threads(wanted)


@cache
def _default() -> int:
    import torch

    return torch.get_num_threads()
