"""Answers that need no network: the source itself, and what was seen most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

Tokens = tuple[str, ...]
Answers = Callable[[Sequence[Tokens]], list[Tokens]]


def copy(sources: Sequence[Tokens]) -> list[Tokens]:
    """Answer with the source itself."""
    return list(sources)


def most_frequent_answer(
    counts: Iterable[tuple[Tokens, Tokens, int]], otherwise: Callable[[Tokens], Tokens]
) -> Answers:
    """Return a function that answers a source with what it was seen with most often; ties go to the first.

    Args:
        counts: source, answer, and how often they were seen.
        otherwise: from a source that was never seen to its answer.

    Example:
        >>> counts = [(("is",), ("be",), 3), (("is",), ("is",), 1)]
        >>> answer = most_frequent_answer(counts, otherwise=lambda source: source)
        >>> answer([("is",), ("dog",)])
        [('be',), ('dog',)]
    """
    seen: dict[Tokens, Counter[Tokens]] = {}
    for source, answer, count in counts:
        seen.setdefault(source, Counter())[answer] += count
    usual = {source: max(answers, key=answers.__getitem__) for source, answers in seen.items()}
    return lambda sources: [usual[source] if source in usual else otherwise(source) for source in sources]
