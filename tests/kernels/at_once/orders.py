"""Whose turn it is: orders in which programs of a grid run, random ones and such as look for trouble."""

import functools
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tests.kernels.at_once.grid import Grid


class Order(Protocol):
    """Whose turn it is of those that are ready, at least one; None has one of those who wait poll in vain."""

    def __call__(self, grid: "Grid", ready: Sequence[int]) -> int | None: ...


def in_turn(grid: "Grid", ready: Sequence[int]) -> int:
    return min(ready, key=lambda program: (program <= grid.current, program))


def _furthest_behind(grid: "Grid", ready: Sequence[int]) -> int:
    return min(ready, key=lambda program: grid.turns[program])


def _furthest_ahead(grid: "Grid", ready: Sequence[int]) -> int:
    return max(ready, key=lambda program: grid.turns[program])


def _last_first(grid: "Grid", ready: Sequence[int]) -> int:
    return max(ready)


def _starved(seed: int) -> Order:
    """One program runs only while all others wait."""
    return lambda grid, ready: in_turn(grid, [each for each in ready if each != seed % len(grid.turns)] or ready)


def _favoured(seed: int) -> Order:
    """One program runs whenever it may."""
    return lambda grid, ready: seed % len(grid.turns) if seed % len(grid.turns) in ready else in_turn(grid, ready)


def _at_random(seed: int, stay: float = 0.0) -> Order:
    """Anyone; or who has the turn keeps it with this probability."""
    random = Random(seed)

    def order(grid: "Grid", ready: Sequence[int]) -> int:
        return grid.current if grid.current in ready and random.random() < stay else random.choice(ready)

    return order


def _by_rank(seed: int) -> Order:
    """A random rank decides, and who has the turn falls to the last rank now and then (Burckhardt et al., 2010)."""
    random, ranks = Random(seed), dict[int, float]()

    def order(grid: "Grid", ready: Sequence[int]) -> int:
        for program in ready:
            ranks.setdefault(program, random.random())
        if random.random() < 0.02:
            ranks[grid.current] = min(ranks.values()) - 1
        return max(ready, key=lambda program: ranks[program])

    return order


def lost(program: int, arrivals: int) -> Order:
    """One program stops after so many arrivals at its barrier, until all others gave up and came to their end."""

    def order(grid: "Grid", ready: Sequence[int]) -> int | None:
        if grid.arrivals[program] < arrivals or grid.alive == [program]:
            return in_turn(grid, ready)
        others = [each for each in ready if each != program]
        return in_turn(grid, others) if others else None

    return order


ORDERS: dict[str, Callable[[int], Order]] = {
    "in turn": lambda seed: in_turn,
    "behind": lambda seed: _furthest_behind,
    "ahead": lambda seed: _furthest_ahead,
    "last first": lambda seed: _last_first,
    "starved": _starved,
    "favoured": _favoured,
    "random": _at_random,
    "bursts": functools.partial(_at_random, stay=0.9),
    "ranks": _by_rank,
}
