"""Automata are found again in noisy states of machines that are known."""

import numpy as np
import pytest

from rnnlab.analysis.automaton import automaton_picture, read_out

# Carry of binary addition: state 0 none, 1 carry; symbols 2 a + b.
CARRY = np.array([[0, 0, 0, 1], [0, 1, 1, 1]])
SUM = np.array([[0, 1, 1, 0], [1, 0, 0, 1]])


def walk(following, answers, steps, seed=0, doubled=False):
    """Return a walk whose states are points with noise; doubled: each state has two places, taken by chance."""
    rng = np.random.default_rng(seed)
    symbols = rng.integers(following.shape[1], size=steps)
    states = [0]
    for symbol in symbols:
        states.append(int(following[states[-1], symbol]))
    places = 5 * rng.standard_normal((2 * len(following), 6))
    twins = len(following) * rng.integers(2, size=steps + 1) if doubled else 0
    points = places[np.array(states) + twins] + 0.05 * rng.standard_normal((steps + 1, 6))
    return points[:-1], symbols, answers[states[:-1], symbols], points[1:]


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("max_states", [4, 20])
def test_the_carry_is_found_whatever_its_states_are_split_into(doubled, max_states):
    machine = read_out(*walk(CARRY, SUM, 800, doubled=doubled), max_states)
    assert machine.following.tolist() == CARRY.tolist() and machine.answers.tolist() == SUM.tolist()
    assert machine.agreement == 1 and machine.state_of[0] == 0


def test_states_that_differ_only_later_stay_apart():
    following = np.array([[1, 0], [2, 1], [0, 2]])  # counts modulo three, and says so only for symbol 1
    answers = np.array([[0, 0], [0, 0], [0, 1]])
    assert len(read_out(*walk(following, answers, 900)).following) == 3


def test_what_is_no_machine_agrees_less():
    before, symbols, answers, after = walk(CARRY, SUM, 800)
    answers[::10] ^= 1
    machine = read_out(before, symbols, answers, after)
    assert machine.following.tolist() == CARRY.tolist() and machine.agreement == pytest.approx(0.9)


def test_picture_names_states_and_arrows():
    before, *others = walk(CARRY, SUM, 100)
    figure = automaton_picture(read_out(before, *others), before, ["00", "01", "10", "11"], ["0", "1"], "carry")
    texts = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"0", "1", "11 : 0", "00 : 1"} <= texts


def test_nothing_to_read_is_refused():
    with pytest.raises(ValueError, match="needs a step and a state at least, got 0 and 20"):
        read_out(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)))
