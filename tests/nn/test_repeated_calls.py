"""One layer called more than once in a graph: gradients with and without a graph behind them, modes in between."""

import pytest
import torch

import rnnlab.nn
from tests.nn.cases import build, every_kind
from tests.tolerances import FLOAT64


def pair_of(kind, backend):
    ours = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64, backend=backend)
    theirs = build(torch.nn, kind, 3, 4, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@every_kind
@pytest.mark.parametrize("backend", ["auto", "eager", "reference"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_two_calls_with_a_carried_state(kind, backend, create_graph):
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    grads = []
    for layer in pair_of(kind, backend):
        _, state = layer(x)
        output, _ = layer(x, state)
        grads.append(torch.autograd.grad(output.sin().sum(), list(layer.parameters()), create_graph=create_graph))
    torch.testing.assert_close(*grads, **FLOAT64)


@every_kind
@pytest.mark.parametrize("create_graph", [False, True])
def test_tied_biases_get_their_sum_once(kind, create_graph):
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    grads = []
    for layer in pair_of(kind, "eager"):
        layer.bias_hh_l0 = layer.bias_ih_l0
        grads.append(torch.autograd.grad(layer(x)[0].sin().sum(), layer.bias_ih_l0, create_graph=create_graph))
    torch.testing.assert_close(*grads, **FLOAT64)


@every_kind
def test_backward_inside_inference_mode_spoils_nothing_after_it(kind):
    layer = build(rnnlab.nn, kind, 3, 4, backend="eager")
    x = torch.randn(5, 2, 3)
    loss = layer(x)[0].sum()
    with torch.inference_mode():
        loss.backward()
    layer.zero_grad(set_to_none=True)  # these gradients are inference tensors, to which nothing can be added
    layer(x)[0].sum().backward()


@every_kind
def test_frozen_weights_get_no_gradient_and_the_rest_theirs(kind):
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    grads = []
    for layer in pair_of(kind, "eager"):
        layer.weight_hh_l0.requires_grad_(False)
        layer.bias_ih_l0.requires_grad_(False)
        layer(x)[0].sin().sum().backward()
        grads.append([parameter.grad for parameter in layer.parameters()])
    assert [grad is None for grad in grads[0]] == [False, True, True, False]
    torch.testing.assert_close(grads[0][0], grads[1][0], **FLOAT64)
    torch.testing.assert_close(grads[0][3], grads[1][3], **FLOAT64)


def test_detach_state_cuts_tensors_and_tuples():
    x = torch.randn(5, 2, 3)
    _, h_n = rnnlab.nn.GRU(3, 4)(x)
    _, state = rnnlab.nn.LSTM(3, 4)(x)
    assert not rnnlab.nn.detach_state(h_n).requires_grad
    assert not any(part.requires_grad for part in rnnlab.nn.detach_state(state))
