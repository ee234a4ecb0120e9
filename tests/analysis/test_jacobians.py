"""Jacobian products against exact powers, and both routes to them against each other."""

import math

import pytest
import torch

import rnnlab.nn as rnn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.jacobians import (
    jacobian_product,
    leading_log_singular_values,
    log_singular_values,
    pull_back,
    push_forward,
    step_jacobians,
)
from rnnlab.analysis.lyapunov import lyapunov_exponents
from tests.tolerances import FLOAT64


def linear(weight):
    cell = rnn.ElmanCell(1, len(weight), "identity", bias=False, dtype=torch.float64)
    cell.weight_hh.data.copy_(weight)
    return Dynamics(cell)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_of_a_linear_network_they_are_powers_whatever_the_input():
    weight, x = random(4, 4), random(7, 1)
    jacobians = step_jacobians(linear(weight), x)
    torch.testing.assert_close(jacobian_product(jacobians), torch.linalg.matrix_power(weight, 7), **FLOAT64)
    expected = torch.linalg.svdvals(torch.linalg.matrix_power(weight, 5)).log()
    torch.testing.assert_close(log_singular_values(jacobians)[4], expected, **FLOAT64)


def test_scaling_reaches_where_numbers_end():
    values = log_singular_values((1e-3 * torch.eye(2, dtype=torch.float64)).expand(400, 2, 2))
    torch.testing.assert_close(values[-1], torch.full((2,), -1200 * math.log(10), dtype=torch.float64), **FLOAT64)


@pytest.mark.parametrize("make", [rnn.GRUCell, rnn.LSTMCell, rnn.RNNCell])
def test_products_with_vectors_are_the_exact_ones(make):
    flow, x = Dynamics(make(3, 5)), random(9, 3)
    states, product = flow.run(x), jacobian_product(step_jacobians(flow, x))
    vectors = random(2, flow.size)
    torch.testing.assert_close(push_forward(flow, states, x, vectors)[-1], vectors @ product.T, **FLOAT64)
    torch.testing.assert_close(pull_back(flow, states, x, vectors)[0], vectors @ product, **FLOAT64)
    expected = torch.linalg.svdvals(product)[:3].log()
    torch.testing.assert_close(leading_log_singular_values(flow, x, 3, iterations=500), expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("diagonal", "num_steps"), [([3.0, 2.0, 0.5], 700), ([0.1, 0.05, 0.01], 400), ([2.0, 1.0, 0.5], 0)]
)
def test_vectors_reach_where_numbers_end_and_small_values_beside_large_ones(diagonal, num_steps):
    weight = torch.tensor(diagonal, dtype=torch.float64)
    found = leading_log_singular_values(linear(weight.diag()), torch.zeros(num_steps, 1), 3)
    torch.testing.assert_close(found, num_steps * weight.log(), rtol=1e-9, atol=0.0)


def test_of_no_step_there_are_no_jacobians():
    flow = Dynamics(rnn.LSTMCell(2, 3))
    jacobians = step_jacobians(flow, torch.zeros(0, 2))
    assert jacobians.shape == (0, 6, 6) and log_singular_values(jacobians).shape == (0, 6)
    assert torch.equal(jacobian_product(jacobians), torch.eye(6, dtype=torch.float64))


def test_exponents_of_a_linear_network_are_logarithms_of_eigenvalues():
    vectors = random(4, 4)
    weight = vectors @ torch.tensor([1.2, -0.9, 0.5, 0.1], dtype=torch.float64).diag() @ torch.linalg.inv(vectors)
    found = lyapunov_exponents(linear(weight), torch.zeros(200, 1), warm_up=100)
    expected = torch.tensor([1.2, 0.9, 0.5, 0.1], dtype=torch.float64).log()
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-9)
    leading = lyapunov_exponents(linear(weight), torch.zeros(200, 1), count=2, warm_up=100)
    torch.testing.assert_close(leading, expected[:2], rtol=0.0, atol=1e-9)


def test_exponents_of_an_orthogonal_network_are_zero():
    weight = torch.linalg.qr(random(5, 5)).Q
    found = lyapunov_exponents(linear(weight), random(30, 1))
    torch.testing.assert_close(found, torch.zeros(5, dtype=torch.float64), **FLOAT64)


def test_their_sum_is_the_mean_logarithm_of_the_determinant():
    flow, x = Dynamics(rnn.GRUCell(2, 4)), random(50, 2)
    expected = torch.linalg.slogdet(step_jacobians(flow, x)).logabsdet.mean()
    torch.testing.assert_close(lyapunov_exponents(flow, x).sum(), expected, **FLOAT64)


def test_a_state_to_start_from_may_be_of_single_precision():
    flow, x, h = Dynamics(rnn.LSTMCell(2, 3)), torch.randn(20, 2), torch.randn(6)
    expected = lyapunov_exponents(flow, x, h=h.double())
    torch.testing.assert_close(lyapunov_exponents(flow, x, h=h), expected, rtol=0.0, atol=0.0)
    assert step_jacobians(flow, x, h).dtype == torch.float64


@pytest.mark.parametrize(("options", "text"), [({"count": 9}, "from 1 to 4"), ({"warm_up": 5}, "from 0 to 4")])
def test_what_cannot_be_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        lyapunov_exponents(Dynamics(rnn.GRUCell(2, 4)), torch.zeros(5, 2), **options)
