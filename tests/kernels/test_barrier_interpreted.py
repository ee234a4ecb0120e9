"""Level 1: the kernels with their barrier, all programs of a grid at once, in some orders (`make races`: in all).

The oracle is the same source without its barrier, in launches of a step or less, which other tests hold against the
plain loop in float64.
"""

import functools

import numpy as np
import pytest
import torch

from tests.covering import few
from tests.kernels.at_once.cases import CASES, Case, alike
from tests.kernels.at_once.faults import FAULTS, edited, found_by
from tests.kernels.at_once.grid import at_once
from tests.kernels.at_once.losing import silent_losses
from tests.kernels.at_once.memory import HABITS, Habits, Memory

pytestmark = pytest.mark.interpret
SCHEDULES = (("in turn", "slow"), ("ahead", "quick"), ("random", "mixed"))
SOME_CASES = ("gru, ragged, parts", "gru_reset_before", "lstm, both directions")
SOME_FAULTS = ("no wait after a step", "relaxed arrival", "relaxed poll", "h through L1", "counters never zeroed")


@functools.cache
def oracle(case: Case) -> dict[str, torch.Tensor]:
    return case.run()


# Rows beyond the batch have no sums of other programs: their norms of nothing grow, and are stored nowhere.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", few(CASES, SOME_CASES))
def test_every_order_gives_the_same_bits_and_no_race(name, poisoned_empty):
    expected = oracle(CASES[name])
    for seed, (order, habits) in enumerate(SCHEDULES):
        with at_once(order, habits, seed) as report:
            actual = CASES[name].run()
        assert alike(actual, expected) and not report.races, (order, habits, report.races)
        assert report.launches == 2 - CASES[name].inference and report.turns > 50


# Programs that are not waited for compute with what was never written.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", few(FAULTS, SOME_FAULTS))
def test_a_fault_is_found(name, poisoned_empty):
    fault = FAULTS[name]
    expected = oracle(fault.case)
    found = [found_by(fault, expected, order, habits, seed) for seed, (order, habits) in enumerate(SCHEDULES)]
    assert set().union(*found) == ({"stuck"} if name == "never arrives" else {"numbers", "races"})


def test_a_fault_is_gone_with_its_plant(poisoned_empty):
    case, expected = CASES["lstm"], oracle(CASES["lstm"])
    with edited("wait_for_all", 'sem="release"', 'sem="relaxed"'), at_once() as report:
        assert not alike(case.run(), expected) and report.races
    with at_once() as report:
        assert alike(case.run(), expected) and not report.races


# What an acquire does on a chip: it empties L1, and loads through it are right.
@pytest.mark.parametrize("name", few(["h through L1", "row sums through L1"], ["h through L1"]))
def test_reads_through_l1_are_right_where_an_acquire_empties_it(name, poisoned_empty):
    fault = FAULTS[name]
    expected = oracle(fault.case)
    with at_once("in turn", HABITS["slow"]._replace(emptied=True)) as report, fault.plant():
        assert alike(fault.case.run(), expected) and not report.races


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    "name", few(["lstm", "peephole_lstm", "layer_norm_gru", "gru_reset_before"], ["peephole_lstm"])
)
def test_what_was_given_up_does_not_look_like_a_result(name, backwards):
    losses = list(silent_losses(Case(name, (2, 2, 3, 17)), backwards, 1))
    assert len(losses) >= 2 - backwards and not any(losses)


def test_a_norm_given_up_in_the_last_step_shows_in_the_gradient_of_its_product():
    assert list(silent_losses(Case("layer_norm_rnn_tanh", (1, 2, 3, 17)), True, 1)) == [[], []]


class Litmus:
    """Two programs and two words, one for what is handed over and one to say so."""

    def __init__(self, habits: Habits) -> None:
        self.words = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
        self.memory = Memory({"word": self.words[0], "counter": self.words[1]}, 2, habits, 0)

    def at(self, number: int) -> np.ndarray:
        return self.memory.find(np.array([self.words[number].data_ptr()], np.uint64), 4)

    def hand_over(self, cta_barrier: bool = True, releases: bool = True) -> None:
        self.memory.store(0, self.at(0), np.array([[7, 0, 0, 0]], np.uint8))
        if cta_barrier:
            self.memory.cta_barrier(0)
        self.memory.atomic_add(0, self.at(1), 1, releases, False)

    def take(self, cta_barrier: bool = True, acquires: bool = True, past_l1: bool = True) -> int:
        assert self.memory.atomic_add(1, self.at(1), 0, False, acquires) == 1
        if cta_barrier:
            self.memory.cta_barrier(1)
        return int(self.memory.load(1, self.at(0), past_l1)[0, 0])


@pytest.mark.parametrize("habits", HABITS)
def test_what_is_released_and_acquired_is_seen(habits):
    litmus = Litmus(HABITS[habits])
    litmus.hand_over()
    assert litmus.take() == 7 and not litmus.memory.races


@pytest.mark.parametrize(
    ("side", "missing"),
    [("hand_over", "cta_barrier"), ("hand_over", "releases"), ("take", "acquires"), ("take", "cta_barrier")],
)
def test_what_is_not_released_or_not_acquired_may_be_missed_and_is_a_race(side, missing):
    for habits, value in (("slow", 0), ("quick", 7)):
        litmus = Litmus(HABITS[habits])
        litmus.hand_over(**({missing: False} if side == "hand_over" else {}))
        assert litmus.take(**({missing: False} if side == "take" else {})) == value
        assert litmus.memory.races == {"word: program 1 loads"}


def test_a_line_of_l1_stays_with_all_its_neighbours():
    for emptied in (False, True):
        litmus = Litmus(HABITS["slow"]._replace(emptied=emptied))
        assert litmus.memory.load(1, litmus.at(0) + 4, False)[0, 0] == 0
        litmus.hand_over()
        assert litmus.take(past_l1=False) == 7 * emptied
        assert litmus.memory.races == (set() if emptied else {"word: program 1 loads through L1"})


def test_a_store_over_what_is_still_read_is_a_race():
    litmus = Litmus(HABITS["quick"])
    litmus.memory.load(1, litmus.at(0), True)
    litmus.hand_over()
    assert litmus.memory.races == {"word: program 0 stores over what may still be loaded"}
