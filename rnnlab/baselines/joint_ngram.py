"""A joint n-gram over letters with their sounds (Bisani and Ney, 2008), smoothed as by Kneser and Ney (1995).

A word is a sequence of units, each a letter with its sounds, between a start and an end. With h the n - 1 units before,
h' the same without its first, and d the discount of each order (Ney, Essen and Kneser, 1994):

    p(x | h) = max(c(hx) - d, 0) / c(h) + d n(h) / c(h) p(x | h')

c counts occurrences in the highest order and behind the start, and in lower orders the different units before hx; n(h)
is how many different x are seen behind h. The sounds of a word are those of its likeliest units, by a beam search.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from rnnlab.baselines.letters import Unit
from rnnlab.baselines.pairs import Answers, Tokens

_START: Unit = ("<start>", ())
_END: Unit = ("<end>", ())
_CHOICES = 8  # units of a letter that are looked at behind each history

History = tuple[Unit, ...]


def joint_ngram(aligned: Sequence[Sequence[Unit]], order: int = 7, beam: int = 8) -> Answers:
    """Return a function from letters to sounds.

    Args:
        aligned: words, as `rnnlab.baselines.letters.align` returns them.
        order: units of the longest n-gram.
        beam: histories that are followed.
    """
    counts = _counts(aligned, order)
    discounts = [_discount(counts, length) for length in range(order)]
    units = {unit for units in aligned for unit in units} | {_END}
    by_letter: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units):
        by_letter[unit[0]].append(unit)

    @functools.cache
    def probabilities(history: History, letter: str) -> dict[Unit, float]:
        if history not in counts:
            return probabilities(history[1:], letter)
        seen = counts[history]
        total, discount = seen.total(), discounts[len(history)]
        left = discount * len(seen) / total
        if history:
            result = {unit: left * value for unit, value in probabilities(history[1:], letter).items()}
        else:
            result = dict.fromkeys(by_letter[letter], left / len(units))
        for unit in result.keys() & seen.keys():
            result[unit] += (seen[unit] - discount) / total
        return result

    @functools.cache
    def choices(history: History, letter: str) -> list[tuple[float, Unit]]:
        if history not in counts:
            return choices(history[1:], letter)
        best = heapq.nlargest(_CHOICES, ((p, unit) for unit, p in probabilities(history, letter).items()))
        return [(math.log(p), unit) for p, unit in best]

    def answer(source: Tokens) -> Tokens:
        paths: list[tuple[float, History]] = [(0.0, (_START,))]
        for letter in (*source, _END[0]):
            if letter in by_letter:  # what was never seen is silent
                further = (
                    (score + log_p, (*path, unit))
                    for score, path in paths
                    for log_p, unit in choices(path[max(0, len(path) + 1 - order) :], letter)
                )
                paths = heapq.nlargest(beam, further)
        return tuple(sound for _, chunk in paths[0][1] for sound in chunk)

    return lambda sources: [answer(source) for source in sources]


def _counts(aligned: Sequence[Sequence[Unit]], order: int) -> dict[History, Counter[Unit]]:
    """Return c(hx) by h and x, for h of every length below the order."""
    levels: list[dict[History, Counter[Unit]]] = [defaultdict(Counter) for _ in range(order)]
    for units in aligned:
        path = (_START, *units, _END)
        for end in range(1, len(path)):
            history = path[max(0, end + 1 - order) : end]
            levels[len(history)][history][path[end]] += 1
    for length in range(order - 1, 0, -1):
        for history, seen in levels[length].items():
            shorter = levels[length - 1][history[1:]]
            for unit in seen:
                shorter[unit] += 1
    return {history: seen for level in levels for history, seen in level.items()}


def _discount(counts: dict[History, Counter[Unit]], length: int) -> float:
    """Return n1 / (n1 + 2 n2), where nk n-grams of histories of a length occur k times; 1/2 where that is no share."""
    frequency = Counter(count for history, seen in counts.items() if len(history) == length for count in seen.values())
    once, twice = frequency[1], frequency[2]
    return once / (once + 2 * twice) if once and twice else 0.5
