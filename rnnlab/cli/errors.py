"""Errors that are the user's to mend, and the search for what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Bad input: the message is one line that says what was wrong and what is allowed; the exit code is 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ", did you mean 'a' or 'b'?" for the valid names nearest to a wrong one, or an empty string."""
    names = list(names)
    found = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not found:
        # A right last part under a wrong path: hidden_size for rnn.hidden_size.
        tails = {candidate: candidate.rsplit(".", 1)[-1].rsplit("/", 1)[-1] for candidate in names}
        tail = name.rsplit(".", 1)[-1].rsplit("/", 1)[-1]
        close = set(difflib.get_close_matches(tail, tails.values(), n=2, cutoff=0.6))
        found = [candidate for candidate, last in tails.items() if last in close][:3]
    return f", did you mean {' or '.join(repr(candidate) for candidate in found)}?" if found else ""
