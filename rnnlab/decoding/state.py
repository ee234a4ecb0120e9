"""Rows of a recurrent state.

A state is None (zeros), a tensor (..., B, H), or a tuple of states: what the layers of `rnnlab.nn` take and return.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def select_rows(state: Any, index: Tensor) -> Any:
    """Return a state whose row j is row `index[j]` of the one given: chosen, in another order, or repeated.

    Args:
        state: of B rows.
        index: int64 (N,), values in [0, B).

    Returns:
        A state of N rows in the form of the one given, NamedTuples included; None for None.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.index_select(-2, index.to(state.device))
    return getattr(type(state), "_make", tuple)([select_rows(part, index) for part in state])
