"""Initialisers by name."""

import pytest
import torch

import rnnlab.nn
from rnnlab.nn.init import initialise


def test_orthogonal_and_glorot_act_on_the_whole_kernel():
    layer = initialise(rnnlab.nn.LSTM(3, 8), input="glorot", recurrent="orthogonal", bias="zeros")
    torch.testing.assert_close(layer.weight_hh_l0.t() @ layer.weight_hh_l0, torch.eye(8))
    bound = (6 / (3 + 4 * 8)) ** 0.5
    assert 0.8 * bound < layer.weight_ih_l0.abs().max() <= bound
    assert not layer.bias_ih_l0.any() and not layer.bias_hh_l0.any()


@pytest.mark.parametrize("library", [rnnlab.nn, torch.nn], ids=["rnnlab", "torch"])
@pytest.mark.parametrize("wrap", [False, True], ids=["layer", "inside"])
def test_forget_bias_is_the_sum_of_both_biases_in_every_layer_and_direction(library, wrap):
    layer = library.LSTM(3, 4, num_layers=2, bidirectional=True)
    initialise(torch.nn.Sequential(layer) if wrap else layer, forget_bias=1.5)
    for suffix in ("l0", "l1", "l0_reverse", "l1_reverse"):
        total = getattr(layer, f"bias_ih_{suffix}") + getattr(layer, f"bias_hh_{suffix}")
        assert (total[4:8] == 1.5).all() and not (total[:4] == 1.5).any()


def test_other_cells_have_no_forget_gate():
    plain, given = (rnnlab.nn.GRU(3, 4) for _ in range(2))
    given.load_state_dict(plain.state_dict())
    initialise(given, forget_bias=1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), given.parameters(), strict=True))


def test_identity_stacks_squares():
    layer = initialise(rnnlab.nn.RNN(5, 4, nonlinearity="relu"), recurrent="identity")
    assert torch.equal(layer.weight_hh_l0, torch.eye(4))


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (rnnlab.nn.LSTM(1, 4), {"input": "identity"}),
        (rnnlab.nn.LSTM(3, 4, proj_size=2), {"recurrent": "identity"}),
        (torch.nn.Linear(2, 2), {}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": "orthonormal"}),
    ],
)
def test_initialise_refuses(module, arguments):
    with pytest.raises(ValueError, match="identity needs|expected a recurrent|Unknown initialiser"):
        initialise(module, **arguments)
