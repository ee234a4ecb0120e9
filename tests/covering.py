"""Which cases of a parametrised test stand for all of them: the short set of `make test`.

Every pair of values of two options stands in some case that is kept (pairwise testing: Cohen et al., 1997, "The AETG
system"). Faults that need three options at once to show are left to the full grids, `make test-all`. In Triton's
interpreter, where a case takes seconds, it is every value.
"""

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any

import pytest

Case = dict[str, Hashable]


def few(values: Iterable[Any], kept: Sequence[Any], several: bool = False) -> list[Any]:
    """Return values for `pytest.mark.parametrize`, slow but those `kept`: one of a kind, where each costs seconds.

    Args:
        values: all of them.
        kept: those that the short set has, too.
        several: a value is a tuple of several arguments.
    """
    values = list(values)
    assert all(value in values for value in kept), f"not all of {kept} are among the values"
    return [
        value if value in kept else pytest.param(*(value if several else [value]), marks=pytest.mark.slow)
        for value in values
    ]


def options_of(params: dict[str, Any]) -> Case:
    """Return the options that a case is made of: a dictionary among its parameters counts by its entries."""
    found: Case = {}
    for name, value in params.items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": _plain(entry) for key, entry in value.items()}
        else:
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> Hashable:
    """Return what tells a value from others: what it prints as, or which object of a list it is."""
    if isinstance(value, str | int | float | None) or type(value).__module__ == "torch":
        return (type(value).__name__, str(value))
    return id(value)


def covering(cases: Sequence[Case], together: int = 2) -> list[int]:
    """Return the places of cases in which all values of so many options `together` stand that stand in any.

    Greedy: each next case is the one with most pairs that are new. An option that a case lacks counts as a value.
    """
    names = sorted({name for case in cases for name in case})
    rows = [[(name, case.get(name)) for name in names] for case in cases]
    pairs = [set(combinations(row, min(together, len(row)))) for row in rows]
    missing, left, kept = set().union(*pairs), set(range(len(cases))), []
    gains = [len(found) for found in pairs]  # upper bounds: a gain only falls
    while missing:
        best, most = -1, 0
        for place in sorted(left, key=lambda place: (-gains[place], place)):
            if gains[place] <= most:
                break
            gains[place] = len(pairs[place] & missing)
            if gains[place] > most:
                best, most = place, gains[place]
        missing -= pairs[best]
        left.discard(best)
        kept.append(best)
    return sorted(kept)
