"""What a study has found: claims of theory beside measurements, the numbers behind them, and their picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Claim(NamedTuple):
    """A number that theory says, or bounds, and the one that was measured.

    Attributes:
        text: what the number is.
        measured: as found.
        relation: '=', '<=' or '>=': how theory says that it lies to the next one.
        theory: as derived.
        allowed: how far off it may be, from chance or rounding.
    """

    text: str
    measured: float
    relation: str
    theory: float
    allowed: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether theory and measurement agree; a measurement that is no finite number agrees with nothing."""
        excess = self.measured - self.theory
        if self.relation == "=":
            return abs(excess) <= self.allowed
        return math.isfinite(self.measured) and {"<=": excess, ">=": -excess}[self.relation] <= self.allowed


class Outcome(NamedTuple):
    """What a study returns.

    Attributes:
        claims: what was checked.
        finding: what was seen, half a sentence.
        rows: the numbers that are drawn, of one set of names.
        figure: the picture.
    """

    claims: Sequence[Claim]
    finding: str
    rows: Sequence[Mapping[str, str | float]]
    figure: Figure

    @property
    def agrees(self) -> bool:
        return all(claim.holds for claim in self.claims)

    @property
    def verdict(self) -> str:
        """One line: whether theory and measurement agree, and what was found or does not agree."""
        failed = [claim.text for claim in self.claims if not claim.holds]
        if failed:
            return f"theory and measurement disagree in {len(failed)} of {len(self.claims)} claims: {'; '.join(failed)}"
        return f"theory and measurement agree in all {len(self.claims)} claims: {self.finding}"


def greatest(values: Iterable[float]) -> float:
    """Return the greatest of numbers, NaN where one of them is: Python's max passes over a NaN but the first."""
    numbers = list(values)
    return math.nan if any(map(math.isnan, numbers)) else max(numbers)


def least(values: Iterable[float]) -> float:
    """Return the least of numbers, NaN where one of them is."""
    return -greatest(-value for value in values)


def within(text: str, values: Sequence[float], theory: float, deviations: float = 3.0) -> Claim:
    """Return the claim that the mean of independent values is what theory says, within so many of its deviations.

    Args:
        text: what the values are.
        values: one of each draw, two at least.
        theory: their expected value.
        deviations: how many standard deviations of the mean, that of the values over sqrt(number), are chance.
    """
    count = len(values)
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return Claim(text, mean, "=", theory, deviations * math.sqrt(variance / count))
