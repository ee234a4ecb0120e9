"""torch's own LSTM on rows of unequal lengths is the plain loop on each row alone."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.additions import Additions
from rnnlab_kernels.schedules.layout import Weights, lengths_to_mask
from rnnlab_kernels.schedules.library.aten import held
from rnnlab_kernels.schedules.reference import reference
from tests.tolerances import FLOAT64

LENGTHS = torch.tensor([6, 1, 0, 4, 6, 3])


def problem(dtype, bias=True):
    x = torch.randn(6, 6, 3, dtype=dtype)
    states = tuple(torch.randn(6, 5, dtype=dtype) for _ in range(2))
    shapes = [(20, 3), (20, 5), *([(20,), (20,)] if bias else [])]
    weights = Weights(*(torch.randn(shape, dtype=dtype) for shape in shapes))
    leaves = [leaf.requires_grad_() for leaf in (x, *states, *(weight for weight in weights if weight is not None))]
    return x, states, weights, leaves


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_states_and_gradients_are_those_of_the_plain_loop(dtype, bias, reverse):
    x, states, weights, leaves = problem(dtype, bias)
    mask = lengths_to_mask(LENGTHS, 6)
    results = []
    for schedule in (held, reference):
        output, final = schedule(CELLS["lstm"], x, states, weights, mask, reverse=reverse)
        values = (output, *final)
        torch.manual_seed(1)
        upstream = [torch.randn_like(value) for value in values]
        results.append((*values, *torch.autograd.grad(values, leaves, upstream)))
    tolerance = FLOAT64 if dtype == torch.float64 else {}
    torch.testing.assert_close(*results, **tolerance)
    padding = ~mask.squeeze(-1)
    assert not results[0][0][padding].any() and not results[0][3][padding].any()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("which", range(3))
def test_each_upstream_gradient_alone(which, reverse):
    x, states, weights, leaves = problem(torch.float64)
    results = []
    for schedule in (held, reference):
        output, final = schedule(CELLS["lstm"], x, states, weights, lengths_to_mask(LENGTHS, 6), reverse=reverse)
        value = (output, *final)[which]
        results.append(torch.autograd.grad(value.square().sum(), leaves, materialize_grads=True))
    torch.testing.assert_close(*results, **FLOAT64)


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_the_cell_state_is_held_exactly_however_long_the_padding_and_large_the_gates(size):
    layer = torch.nn.LSTM(3, 5)
    weights = Weights(*(parameter.detach() * size for parameter in layer.parameters()))
    x, states = torch.randn(300, 2, 3), (torch.randn(2, 5), torch.randn(2, 5))
    _, (h_n, c_n) = held(CELLS["lstm"], x, states, weights, lengths_to_mask(torch.tensor([2, 300]), 300))
    _, (h_2, c_2) = held(CELLS["lstm"], x[:2], states, weights, lengths_to_mask(torch.tensor([2, 2]), 2))
    torch.testing.assert_close((h_n[0], c_n[0]), (h_2[0], c_2[0]))
    _, (_, c_0) = held(CELLS["lstm"], x, states, weights, lengths_to_mask(torch.tensor([0, 300]), 300))
    assert torch.equal(c_0[0], states[1][0])


def test_what_it_cannot_run_is_refused():
    x, states, weights, _ = problem(torch.float32)
    mask = lengths_to_mask(LENGTHS, 6)
    for cell, given, additions in (
        (CELLS["gru"], mask, Additions()),
        (CELLS["lstm"], None, Additions()),
        (CELLS["lstm"], mask, Additions(clip=1.0)),
    ):
        with pytest.raises(ValueError, match="plain LSTM over rows with lengths"):
            held(cell, x, states, weights, given, additions=additions)
