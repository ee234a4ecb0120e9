"""Regularisers and constraints, by value."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import rnnlab.nn
from rnnlab.nn.penalties import (
    activation_regularisation,
    l1,
    l2,
    max_norm_,
    non_negative_,
    orthogonality,
    temporal_activation_regularisation,
    unit_norm_,
)


def constant_model():
    """An LSTM of 2 layers and a GRU cell, every parameter -0.5, and a head that does not count."""
    model = nn.ModuleDict({"layer": rnnlab.nn.LSTM(3, 2, 2), "cell": nn.GRUCell(3, 2), "head": nn.Linear(2, 2)})
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.5)
    return model


@pytest.mark.parametrize(("names", "count"), [(("weight_hh",), 44), (("weight_ih",), 58), (("weight", "bias"), 146)])
def test_l1_and_l2_sum_over_the_weights_named(names, count):
    model = constant_model()
    assert l1(model, names).item() == 0.5 * count
    assert l2(model, names).item() == 0.25 * count


def test_penalties_have_gradients_where_they_should():
    model = constant_model()
    (l1(model) + l2(model["cell"])).backward()
    assert (model["layer"].weight_hh_l1.grad == -1).all() and (model["cell"].weight_hh.grad == -2).all()
    assert model["layer"].weight_ih_l0.grad is None and model["head"].weight.grad is None


def test_parametrised_weights_count_as_they_are_used():
    layer = weight_norm(rnnlab.nn.GRU(3, 2), "weight_hh_l0")
    layer.parametrizations.weight_hh_l0.original0.data.fill_(3.0)  # the norm of each row
    torch.testing.assert_close(l2(layer), torch.tensor(6 * 9.0))


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="Linear has no recurrent weights called weight_hh"):
        l1(nn.Linear(2, 2))


def test_orthogonality_is_zero_for_orthogonal_gates():
    square = nn.init.orthogonal_(torch.empty(6, 6, dtype=torch.float64))
    assert float(orthogonality(torch.cat([square, -square, square.t()]))) < 1e-20
    # W^T W = 4 in each of two gates of two units.
    assert float(orthogonality(2 * torch.eye(2).repeat(2, 1))) == 2 * 2 * 9
    tall = torch.eye(4)[:, :3].repeat(2, 1)  # a projection to 3
    assert float(orthogonality(tall, num_gates=2)) == 0
    with pytest.raises(ValueError, match="not made of square gate blocks"):
        orthogonality(tall)
    with pytest.raises(ValueError, match="not made of 3 gate blocks"):
        orthogonality(tall, num_gates=3)


OUTPUT = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[3.0, 2.0], [0.0, math.nan]], [[0.0, 2.0], [math.nan, 0.0]]])
MASK = torch.tensor([[True, True], [True, False], [True, False]])


def test_activation_regularisation():
    rows = OUTPUT[:, :1]
    assert float(activation_regularisation(rows, 2.0)) == pytest.approx(2 * (1 + 4 + 9 + 4 + 0 + 4) / 6)
    assert float(activation_regularisation(OUTPUT, 2.0, MASK)) == pytest.approx(2 * 23 / 8)
    assert float(temporal_activation_regularisation(rows, 3.0)) == pytest.approx(3 * (4 + 9) / 4)
    assert float(temporal_activation_regularisation(OUTPUT, 3.0, MASK)) == pytest.approx(3 * 13 / 4)
    assert float(temporal_activation_regularisation(rows[:1], 3.0)) == 0.0
    assert float(temporal_activation_regularisation(OUTPUT, 3.0, MASK & False)) == 0.0


def test_padding_has_no_part_in_the_gradient():
    output = OUTPUT.clone().requires_grad_()
    (activation_regularisation(output, 1.0, MASK) + temporal_activation_regularisation(output, 1.0, MASK)).backward()
    assert torch.equal(output.grad[1:, 1], torch.zeros(2, 2))
    # d/dh of h_0^2 / 8 + (h_1 - h_0)^2 / 4
    torch.testing.assert_close(output.grad[0, 0], torch.tensor([2 / 8 - 2 * 2 / 4, 4 / 8]))


def test_max_norm_shortens_long_vectors_only():
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    assert max_norm_(weight, 2.0) is weight
    torch.testing.assert_close(weight.detach(), torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]))
    columns = nn.Parameter(torch.tensor([[3.0, 0.0], [4.0, 0.5]]))
    torch.testing.assert_close(max_norm_(columns, 1.0, dim=0).detach(), torch.tensor([[0.6, 0.0], [0.8, 0.5]]))
    with pytest.raises(ValueError, match="limit must be above 0"):
        max_norm_(weight, 0.0)


def test_unit_norm_and_non_negative():
    weight = nn.Parameter(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
    torch.testing.assert_close(unit_norm_(weight).detach(), torch.tensor([[0.6, -0.8], [0.0, 0.0]]))
    torch.testing.assert_close(non_negative_(weight).detach(), torch.tensor([[0.6, 0.0], [0.0, 0.0]]))
    assert weight.requires_grad and weight.is_leaf
