"""Compiled functions by address."""

from functools import cache
from typing import Any

import numba

from rnnlab_kernels.cells.compiled import FASTMATH

_alive: list[Any] = []


@cache
def address_of(function: Any, key: str = "") -> int:
    """Return the address of a function of int64 numbers, compiled at its first use."""
    count = function.__code__.co_argcount
    options = {"nopython": True, "fastmath": FASTMATH, "error_model": "numpy"}
    found = numba.cfunc(f"void({', '.join(['int64'] * count)})", **options)(function)
    _alive.append(found)
    return found.address
