"""Cells: RNNCell, LSTMCell and GRUCell take, return and refuse what torch.nn's cells do."""

import pytest
import torch
from torch import Tensor, nn

import rnnlab.nn
from tests.nn.cases import (
    BACKENDS,
    CELLS,
    both_libraries,
    build,
    every_cell,
    map_state,
    pair,
    raises,
    randn,
    random_cell_state,
    states,
    tolerance,
    working_dtype,
    zeros,
)
from tests.tolerances import FLOAT64


@both_libraries
@every_cell
def test_cells_accept_empty_sizes(library, kind):
    batch = torch.zeros(2, 0)
    for result in (build(library, kind, 0, 4)(batch), build(library, kind, 3, 0)(torch.zeros(2, 3))):
        hidden = result[0] if kind == "LSTMCell" else result
        assert hidden.shape in {(2, 4), (2, 0)}


@every_cell
def test_cells_refuse_negative_sizes(kind):
    with pytest.raises(ValueError, match="input_size"):
        build(rnnlab.nn, kind, -1, 4)
    with pytest.raises(ValueError, match="hidden_size"):
        build(rnnlab.nn, kind, 3, -1)


@both_libraries
@every_cell
def test_cells_refuse_sizes_that_are_no_int(library, kind):
    with pytest.raises(TypeError):
        build(library, kind, 3.0, 4)
    with pytest.raises(TypeError):
        build(library, kind, "3", 4)


def test_rnn_cell_refuses_an_unknown_nonlinearity_at_once():
    with pytest.raises(ValueError, match="nonlinearity"):
        rnnlab.nn.RNNCell(3, 4, nonlinearity="x")


@both_libraries
@every_cell
def test_cell_names_and_shapes(library, kind):
    rows = {"RNNCell_TANH": 4, "RNNCell_RELU": 4, "GRUCell": 12, "LSTMCell": 16}[kind]
    shapes = {name: tuple(p.shape) for name, p in build(library, kind, 3, 4).named_parameters()}
    assert shapes == {"weight_ih": (rows, 3), "weight_hh": (rows, 4), "bias_ih": (rows,), "bias_hh": (rows,)}


@both_libraries
@every_cell
def test_cell_without_bias_registers_none(library, kind):
    module = build(library, kind, 3, 4, bias=False)
    assert list(module.state_dict()) == ["weight_ih", "weight_hh"]
    assert list(module._parameters) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert module.bias_ih is None
    assert module.bias_hh is None


@pytest.mark.parametrize("kind", CELLS)
def test_cells_with_the_same_seed_have_the_same_weights(kind):
    torch.manual_seed(3)
    theirs = build(nn, kind, 3, 4).state_dict()
    torch.manual_seed(3)
    ours = build(rnnlab.nn, kind, 3, 4).state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_repr_of_cells(kind, bias):
    ours, theirs = pair(kind, 3, 4, bias=bias)
    assert repr(ours) == repr(theirs)


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [None, 0, 3])
@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_cell_values_match_torch(kind, bias, batch, with_state, backend):
    ours, theirs = pair(kind, 3, 5, bias=bias, backend=backend)
    x = randn(3, backend=backend) if batch is None else randn(batch, 3, backend=backend)
    hx = random_cell_state(kind, batch, 5, working_dtype(backend)) if with_state else None
    actual, expected = ours(x, hx), theirs(x, hx)
    assert isinstance(actual, tuple) == (kind == "LSTMCell")
    for mine, yours in zip(states(actual), states(expected), strict=True):
        torch.testing.assert_close(mine, yours, **tolerance(backend))


@both_libraries
def test_lstm_cell_takes_a_list_of_states(library):
    cell, x = library.LSTMCell(3, 4), torch.randn(2, 3)
    hx = [torch.randn(2, 4), torch.randn(2, 4)]
    torch.testing.assert_close(cell(x, hx), cell(x, tuple(hx)))


@both_libraries
@every_cell
@pytest.mark.parametrize("dims", [0, 3])
def test_cell_input_must_have_one_or_two_dimensions(library, kind, dims):
    name = kind.partition("_")[0]
    with raises(ValueError, f"{name}: Expected input to be 1D or 2D, got {dims}D instead"):
        build(library, kind, 3, 4)(torch.zeros([2] * dims))


@both_libraries
@every_cell
def test_cell_state_must_have_one_or_two_dimensions(library, kind):
    name, what = kind.partition("_")[0], "hx[0]" if kind == "LSTMCell" else "hidden"
    with raises(ValueError, f"{name}: Expected {what} to be 1D or 2D, got 3D instead"):
        build(library, kind, 3, 4)(torch.zeros(2, 3), zeros(kind, 1, 2, 4))


@both_libraries
@every_cell
@pytest.mark.parametrize("shape", [(2, 5), (5,)], ids=["batched", "unbatched"])
def test_cell_input_of_the_wrong_size(library, kind, shape):
    with raises(RuntimeError, "input has inconsistent input_size: got 5 expected 3"):
        build(library, kind, 3, 4)(torch.zeros(shape))


@both_libraries
@every_cell
def test_cell_state_of_the_wrong_batch(library, kind):
    with raises(RuntimeError, "Input batch size 2 doesn't match hidden0 batch size 3"):
        build(library, kind, 3, 4)(torch.zeros(2, 3), zeros(kind, 3, 4))


@both_libraries
@every_cell
def test_cell_state_of_the_wrong_size(library, kind):
    with raises(RuntimeError, "hidden0 has inconsistent hidden_size: got 5, expected 4"):
        build(library, kind, 3, 4)(torch.zeros(2, 3), zeros(kind, 2, 5))


@both_libraries
def test_lstm_cell_c_of_the_wrong_shape(library):
    cell, x, h = library.LSTMCell(3, 4), torch.zeros(2, 3), torch.zeros(2, 4)
    with raises(RuntimeError, "hidden1 has inconsistent hidden_size: got 5, expected 4"):
        cell(x, (h, torch.zeros(2, 5)))
    with raises(RuntimeError, "Input batch size 2 doesn't match hidden1 batch size 3"):
        cell(x, (h, torch.zeros(3, 4)))


@pytest.mark.parametrize("shape", [(2, 4), (4,)])
def test_lstm_cell_given_one_tensor_as_state(shape):
    with pytest.raises(TypeError, match="hx"):
        rnnlab.nn.LSTMCell(3, 4)(torch.zeros(*shape[:-1], 3), torch.zeros(shape))


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_cell_gradients_match_torch(kind, bias, batch, backend):
    ours, theirs = pair(kind, 3, 5, bias=bias, backend=backend)
    x = randn(3, backend=backend) if batch is None else randn(batch, 3, backend=backend)
    hx = random_cell_state(kind, batch, 5, working_dtype(backend))
    gradients = []
    for module in (ours, theirs):
        leaf, state = x.clone().requires_grad_(), map_state(Tensor.clone, hx)
        map_state(Tensor.requires_grad_, state)
        sum(tensor.square().sum() for tensor in states(module(leaf, state))).backward()
        gradients.append([leaf.grad, *(s.grad for s in states(state)), *(p.grad for p in module.parameters())])
    torch.testing.assert_close(*gradients, **tolerance(backend))


def test_lstm_cell_gradient_of_c_alone():
    ours, theirs = pair("LSTMCell", 3, 5, backend="eager")
    x = randn(2, 3)
    for module in (ours, theirs):
        module(x)[1].sum().backward()
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, yours.grad, **FLOAT64)


@every_cell
def test_cells_follow_autocast(kind):
    cell = build(rnnlab.nn, kind, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = cell(torch.randn(2, 3), random_cell_state(kind, 2, 4, torch.float32))
    assert [state.dtype for state in states(result)] == [torch.bfloat16] * len(states(result))


@pytest.mark.parametrize("backend", ["auto", "eager", "reference", "aten"])
def test_cell_refuses_a_state_of_another_dtype(backend):
    with pytest.raises(RuntimeError, match="hidden0 dtype"):
        rnnlab.nn.GRUCell(3, 4, backend=backend)(torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_vmap_over_a_cell(name):
    cell = getattr(rnnlab.nn, name)(3, 4)
    x = torch.randn(6, 2, 3)
    state = torch.func.vmap(cell)(x)
    torch.testing.assert_close(state, torch.utils._pytree.tree_map(lambda *s: torch.stack(s), *map(cell, x)))
