"""Answers that need no network: the source itself, what was seen most often, letters one by one."""

from __future__ import annotations

from collections.abc import Sequence

Tokens = tuple[str, ...]


def copy(sources: Sequence[Tokens]) -> list[Tokens]:
    """Answer with the source itself."""
    return list(sources)
