"""The finite automaton in the states of a network that reads symbols: states that act alike are one.

As Omlin and Giles (1996) read it out: states are put into clusters, a cluster goes on and answers as most of its states
do, and of clusters that no sequence of symbols tells apart one is left.

Letters: N steps, H units, K clusters, S symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROUNDS = 50  # of k-means, at most


class Automaton(NamedTuple):
    """A Mealy machine of K states; what was never seen is -1.

    Attributes:
        following: number of the state after each symbol, int64 (K, S).
        answers: number of the answer to each symbol, int64 (K, S).
        state_of: state in which each step was read, int64 (N,).
        agreement: share of steps whose answer and following state are the machine's.
    """

    following: np.ndarray
    answers: np.ndarray
    state_of: np.ndarray
    agreement: float


def read_out(
    before: np.ndarray, symbols: np.ndarray, answers: np.ndarray, after: np.ndarray, max_states: int = 20
) -> Automaton:
    """Return the machine in the steps of a network.

    Args:
        before: state before each step, (N, H).
        symbols: number of the symbol that was read, (N,).
        answers: number of what the network answered, (N,).
        after: state after each step, (N, H).
        max_states: clusters before those that act alike become one.

    Raises:
        ValueError: no step, or a number of clusters below 1.

    Example:
        >>> states = np.array([0, 1, 1, 0, 0])  # parity: a 1 changes the state
        >>> machine = read_out(states[:-1, None], np.array([1, 0, 1, 0]), states[1:], states[1:, None])
        >>> machine.following.tolist(), machine.agreement
        ([[0, 1], [1, 0]], 1.0)
    """
    if max_states < 1 or not len(before):
        raise ValueError(f"an automaton needs a step and a state at least, got {len(before)} and {max_states}")
    centres = _centres(np.concatenate([before[:1], after]), max_states)
    start, end = _nearest(before, centres), _nearest(after, centres)
    following = _majority(start, symbols, end, len(centres))
    replies = _majority(start, symbols, answers, len(centres))
    class_of = _merged(following, replies)
    # Named in the order in which they come first, the state before the first step being 0.
    order = list(dict.fromkeys(class_of[np.concatenate([start, end])].tolist()))
    rename = np.zeros(class_of.max() + 1, dtype=np.int64)
    rename[order] = np.arange(len(order))
    start, end = rename[class_of[start]], rename[class_of[end]]
    following = _majority(start, symbols, end, len(order))
    replies = _majority(start, symbols, answers, len(order))
    agrees = (following[start, symbols] == end) & (replies[start, symbols] == answers)
    return Automaton(following, replies, start, float(agrees.mean()))


def _centres(points: np.ndarray, number: int) -> np.ndarray:
    """Return the centres of at most so many clusters: k-means from points that are far apart (K, H)."""
    chosen = [points[0]]
    distance = np.square(points - chosen[0]).sum(axis=1)
    while len(chosen) < number and distance.max() > 1e-12:
        chosen.append(points[distance.argmax()])
        distance = np.minimum(distance, np.square(points - chosen[-1]).sum(axis=1))
    centres = np.stack(chosen).astype(np.float64)
    for _ in range(_ROUNDS):
        cluster = _nearest(points, centres)
        moved = np.stack(
            [points[cluster == k].mean(axis=0) if (cluster == k).any() else c for k, c in enumerate(centres)]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return (np.square(centres).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)


def _majority(cluster: np.ndarray, symbols: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Return the most frequent value of each cluster and symbol, int64 (K, S); -1 where there is none."""
    counts = np.zeros((number, int(symbols.max()) + 1, int(values.max()) + 1), dtype=np.int64)
    np.add.at(counts, (cluster, symbols, values), 1)
    return np.where(counts.sum(axis=2) > 0, counts.argmax(axis=2), -1)


def _merged(following: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return the class of each state, (K,): those are in one that answer alike now and after any symbols (Moore)."""
    class_of = np.unique(answers, axis=0, return_inverse=True)[1].ravel()
    while True:
        then = np.where(following >= 0, class_of[following], -1)
        finer = np.unique(np.column_stack([class_of, then]), axis=0, return_inverse=True)[1].ravel()
        if finer.max() == class_of.max():
            return class_of
        class_of = finer


def automaton_picture(
    machine: Automaton,
    states: np.ndarray,
    symbols: Sequence[str],
    answers: Sequence[str],
    title: str = "The automaton in the states",
) -> Figure:
    """Draw the states before each step along their two main axes, coloured by the machine's, and the machine beside.

    Args:
        machine: of `read_out`.
        states: the network's before each step, (N, H).
        symbols, answers: their names.
        title: says what the figure shows.
    """
    from matplotlib.figure import Figure

    from rnnlab.analysis.plots import PALETTE

    figure = Figure(figsize=(10, 4.4), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2)
    number = len(machine.following)
    colours = [PALETTE[state % len(PALETTE)] for state in range(number)]
    centred = states - states.mean(axis=0)
    axes = np.linalg.svd(centred[:2000], full_matrices=False)[2][:2]
    places = centred @ axes.T
    places = np.column_stack([places, np.zeros(len(places))])[:, :2]  # of one unit there is one axis
    for state, colour in enumerate(colours):
        left.plot(*places[machine.state_of == state].T, ".", color=colour, markersize=3, label=f"state {state}")
    left.set(xlabel="first main axis", ylabel="second main axis", title="states before each step")
    left.legend(frameon=False, fontsize=8)
    _draw_machine(right, machine, symbols, answers, colours)
    right.set_title(f"symbol : answer; {number} states, {machine.agreement:.2%} of steps", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_machine(
    axis: Axes, machine: Automaton, symbols: Sequence[str], answers: Sequence[str], colours: list[str]
) -> None:
    number = len(machine.following)
    angle = np.pi - 2 * np.pi * np.arange(number) / number
    spots = np.column_stack([np.cos(angle), np.sin(angle)]) if number > 1 else np.zeros((1, 2))
    labels: dict[tuple[int, int], list[str]] = {}
    for state, symbol in zip(*np.nonzero(machine.following >= 0), strict=True):
        arrow = f"{symbols[symbol]} : {answers[machine.answers[state, symbol]]}"
        labels.setdefault((int(state), int(machine.following[state, symbol])), []).append(arrow)
    for (state, then), texts in labels.items():
        here, there = spots[state], spots[then]
        if state == then:
            outwards = here / max(float(np.linalg.norm(here)), 1e-9) if number > 1 else np.array([0.0, 1.0])
            axis.annotate("\n".join(texts), here + 0.42 * outwards, ha="center", va="center", fontsize=8)
            continue
        style = {"arrowstyle": "->", "connectionstyle": "arc3,rad=0.25", "shrinkA": 16, "shrinkB": 16}
        axis.annotate("", there, here, arrowprops=style)
        across = np.array([here[1] - there[1], there[0] - here[0]])
        axis.annotate("\n".join(texts), (here + there) / 2 - 0.18 * across, ha="center", va="center", fontsize=8)
    for state, spot in enumerate(spots):
        axis.plot(*spot, "o", color=colours[state], markersize=26)
        axis.annotate(str(state), spot, color="white", ha="center", va="center")
    axis.set(xlim=(-1.8, 1.8), ylim=(-1.6, 1.6))
    axis.axis("off")
