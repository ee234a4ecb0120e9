"""Checks of constructor arguments: each message says what was given and what is allowed."""

from __future__ import annotations

import codecs
import numbers
from collections.abc import Collection
from typing import Any


def check_integer(name: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int, or raise ValueError when it is no integer in [minimum, maximum]."""
    allowed = f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum or (maximum is not None and value > maximum):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return int(value)


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float, or raise ValueError when it does not lie strictly between 0 and 1."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not 0 < float(value) < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)


def check_number(name: str, value: object, least: float, most: float) -> float:
    """Return `value` as a float, or raise ValueError when it is no number in [least, most]."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not least <= value <= most:
        raise ValueError(f"{name} must lie from {least:g} to {most:g}, got {value!r}")
    return float(value)


def check_range(name: str, low: Any, high: Any, least: float, most: float) -> tuple[float, float]:
    """Return both ends of a range as floats, or raise ValueError unless least <= low <= high <= most.

    The settings are called `min_name` and `max_name`.
    """
    is_real = all(isinstance(end, numbers.Real) and not isinstance(end, bool) for end in (low, high))
    if not is_real or not least <= low <= high <= most:
        allowed = f"from {least:g} to {most:g}, the lower end first"
        raise ValueError(f"min_{name} and max_{name} must lie {allowed}, got {low!r} and {high!r}")
    return float(low), float(high)


def check_choice(name: str, value: str, allowed: Collection[str]) -> str:
    """Return `value`, or raise ValueError when it is none of the allowed names."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(sorted(allowed))}, got {value!r}")
    return value


def check_batch_size(batch_size: object, num_train: int) -> int:
    """Return `batch_size`, or raise ValueError when not even one batch of it can be filled by the training part."""
    size = check_integer("batch_size", batch_size, 1)
    if size > num_train:
        raise ValueError(f"batch_size must be at most the size of the training part, {num_train}, got {size}")
    return size


def check_encoding(encoding: str) -> str:
    """Return `encoding`, or raise ValueError when Python knows no encoding of text by this name."""
    try:
        is_known = codecs.lookup(encoding)._is_text_encoding
    except (LookupError, TypeError, ValueError):
        is_known = False
    if not is_known:
        raise ValueError(f"encoding must be one that Python knows, as utf-8, latin-1 or cp1252, got {encoding!r}")
    return encoding
