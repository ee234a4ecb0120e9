"""Fixed points that are known beforehand."""

import math

import pytest
import torch

import rnnlab.nn as rnn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.fixed_points import fixed_points


def elman(weight, nonlinearity="tanh"):
    cell = rnn.ElmanCell(1, len(weight), nonlinearity, bias=False, dtype=torch.float64)
    cell.weight_hh.data.copy_(weight)
    cell.weight_ih.data.fill_(1.0)
    return Dynamics(cell)


def starts(count, size):
    return torch.randn(count, size, dtype=torch.float64)


def test_a_switch_has_two_stable_states_and_one_between():
    """h = tanh(w h) has with w = atanh(1/2) / (1/2) the solutions -1/2, 0 and 1/2, of slope w (1 - h^2)."""
    w = 2 * math.atanh(0.5)
    found = fixed_points(elman(torch.tensor([[w]])), starts(30, 1))
    assert len(found) == 3
    torch.testing.assert_close(sorted(point.state.item() for point in found), [-0.5, 0.0, 0.5], rtol=0, atol=1e-7)
    assert [point.is_stable for point in found] == [True, True, False]
    slopes = [point.eigenvalues.real.item() for point in found]
    torch.testing.assert_close(slopes, [0.75 * w, 0.75 * w, w], rtol=0, atol=1e-7)


def test_two_switches_have_nine_states_of_which_four_are_stable():
    w = 2 * math.atanh(0.5)
    found = fixed_points(elman(w * torch.eye(2)), starts(300, 2))
    assert len(found) == 9 and sum(point.is_stable for point in found) == 4


def test_of_a_linear_network_it_is_the_solution_of_equations():
    weight = torch.tensor([[0.5, 0.3], [-0.4, 0.2]], dtype=torch.float64)
    (point,) = fixed_points(elman(weight, "identity"), starts(5, 2), x=torch.tensor([2.0]))
    expected = torch.linalg.solve(torch.eye(2).double() - weight, torch.tensor([2.0, 2.0]).double())
    torch.testing.assert_close(point.state, expected, rtol=0, atol=1e-9)
    expected = torch.linalg.eigvals(weight).abs().sort(descending=True).values
    torch.testing.assert_close(point.eigenvalues.abs(), expected, rtol=0, atol=1e-9)
    assert point.is_stable and point.q < 1e-20


def test_where_there_is_none_nothing_is_found():
    """h + 1 = h has no solution; the search ends all the same."""
    assert fixed_points(elman(torch.eye(2), "identity"), starts(4, 2), x=torch.ones(1), max_iterations=20) == []


def test_they_are_where_a_gated_network_comes_to_rest():
    flow = Dynamics(rnn.LSTMCell(2, 6))
    rest = flow.run(torch.zeros(2000, 2))[-1]
    found = fixed_points(flow, starts(10, 12))
    assert any((point.state - rest).norm() < 1e-6 and point.is_stable for point in found)


def test_a_start_that_is_not_a_number_is_left_out():
    flow = elman(0.5 * torch.eye(2))
    begun = starts(3, 2)
    begun[1] = math.nan
    assert fixed_points(flow, begun[1:2]) == []
    (point,) = fixed_points(flow, begun)
    torch.testing.assert_close(point.state, torch.zeros(2).double(), rtol=0, atol=1e-9)


def test_a_search_needs_a_start():
    flow = Dynamics(rnn.GRU(3, 4))
    with pytest.raises(ValueError, match="needs a state to start from"):
        fixed_points(flow, torch.zeros(0, 4))
