"""Forward on tensors: torch.nn's values and shapes for every form of input and state."""

import pytest
import torch

from tests.nn.cases import (
    KINDS_AND_OPTIONS,
    both_libraries,
    build,
    every_kind,
    map_state,
    named,
    pair,
    randn,
    random_state,
    states,
)
from tests.tolerances import FLOAT64


def assert_same_forward(ours, theirs, x, hx=None) -> None:
    actual, expected = named(ours(x, hx)), named(theirs(x, hx))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, **FLOAT64)


@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched", "unbatched-batch-first"])
@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "hx"])
def test_matches_torch(kind, options, form, with_state):
    ours, theirs = pair(kind, 5, 7, **options, batch_first="batch-first" in form)
    x = randn(4, 5) if "unbatched" in form else randn(4, 3, 5)
    batch = None if "unbatched" in form else x.shape[0 if form == "batch-first" else 1]
    assert_same_forward(ours, theirs, x, random_state(theirs, batch) if with_state else None)


@every_kind
@pytest.mark.parametrize("time, batch", [(1, 1), (1, 3), (4, 1), (4, 0), (1, 0)])
@pytest.mark.parametrize("hidden_size", [1, 5, 16])
def test_sizes_at_the_edge(kind, time, batch, hidden_size):
    ours, theirs = pair(kind, 3, hidden_size, 2, bidirectional=True)
    assert_same_forward(ours, theirs, randn(time, batch, 3))
    assert_same_forward(ours, theirs, randn(time, batch, 3), random_state(theirs, batch))


@both_libraries
@every_kind
def test_shapes_and_types(library, kind):
    module = build(library, kind, 3, 4, 2, batch_first=True, bidirectional=True)
    output, hx = module(torch.zeros(5, 6, 3))
    assert output.shape == (5, 6, 8)
    assert isinstance(hx, tuple) == (kind == "LSTM")
    assert [state.shape for state in states(hx)] == [(4, 5, 4)] * len(states(hx)), "states are never batch-first"
    output, hx = module(torch.zeros(6, 3))
    assert output.shape == (6, 8)
    assert [state.shape for state in states(hx)] == [(4, 4)] * len(states(hx))


@both_libraries
def test_a_projection_shrinks_h_and_not_c(library):
    module = library.LSTM(3, 4, 2, bidirectional=True, proj_size=2, dtype=torch.float64)
    output, (h_n, c_n) = module(torch.zeros(5, 6, 3, dtype=torch.float64))
    assert (output.shape, h_n.shape, c_n.shape) == ((5, 6, 4), (4, 6, 2), (4, 6, 4))


@both_libraries
@every_kind
def test_index_of_h_n_is_layer_times_directions_plus_direction(library, kind):
    module = build(library, kind, 3, 4, 2, bidirectional=True)
    output, hx = module(torch.randn(5, 2, 3))
    h_n = states(hx)[0]
    torch.testing.assert_close(h_n[2], output[-1, :, :4])
    torch.testing.assert_close(h_n[3], output[0, :, 4:])


@both_libraries
@every_kind
def test_input_and_hx_go_by_keyword(library, kind):
    module, x = build(library, kind, 3, 4), torch.randn(5, 2, 3)
    torch.testing.assert_close(module(input=x, hx=None)[0], module(x)[0])


@both_libraries
def test_lstm_takes_a_list_of_states(library):
    module, x = library.LSTM(3, 4), torch.randn(5, 2, 3)
    hx = random_state(module, 2)
    torch.testing.assert_close(module(x, list(hx))[0], module(x, hx)[0])


@every_kind
@pytest.mark.parametrize("form", ["expanded", "transposed", "sliced"])
def test_states_of_any_strides(kind, form):
    ours, theirs = pair(kind, 3, 4, 2)
    views = {
        "expanded": lambda s: s[:, :1].expand(-1, 3, -1),
        "transposed": lambda s: s.transpose(0, 1).contiguous().transpose(0, 1),
        "sliced": lambda s: torch.stack([s, s], dim=-1)[..., 0],
    }
    hx = map_state(views[form], random_state(theirs, 3))
    assert not any(state.is_contiguous() for state in states(hx))
    assert_same_forward(ours, theirs, randn(5, 3, 3), hx)


@every_kind
@pytest.mark.parametrize("form", ["expanded", "transposed", "sliced", "reversed"])
def test_inputs_of_any_strides(kind, form):
    ours, theirs = pair(kind, 4, 4)
    x = {
        "expanded": randn(5, 1, 4).expand(5, 3, 4),
        "transposed": randn(3, 5, 4).transpose(0, 1),
        "sliced": randn(10, 3, 8)[::2, :, ::2],
        "reversed": randn(5, 4, 3).mT,
    }[form]
    assert not x.is_contiguous()
    assert_same_forward(ours, theirs, x)


@every_kind
def test_large_preactivations_stay_finite(kind):
    ours, theirs = pair(kind, 3, 4, dtype=torch.float32)
    for scale in (1e4, -1e4):
        x = torch.full((2, 2, 3), scale)
        result, expected = named(ours(x)), named(theirs(x))
        for name in expected:
            assert torch.isfinite(result[name]).all()
            torch.testing.assert_close(result[name], expected[name])


@every_kind
def test_input_and_state_are_left_alone(kind):
    ours, _ = pair(kind, 3, 4, 2, bidirectional=True)
    x, hx = randn(5, 2, 3), random_state(ours, 2)
    kept = [tensor.clone() for tensor in (x, *states(hx))]
    ours(x, hx)
    for tensor, copy in zip((x, *states(hx)), kept, strict=True):
        assert torch.equal(tensor, copy)
        assert tensor._version == 0


def test_gru_applies_the_reset_gate_after_the_recurrent_product():
    ours, _ = pair("GRU", 3, 4)
    x, h = randn(2, 3), randn(2, 4)
    input_r, input_z, input_n = (x @ ours.weight_ih_l0.T + ours.bias_ih_l0).chunk(3, dim=-1)
    hidden_r, hidden_z, hidden_n = (h @ ours.weight_hh_l0.T + ours.bias_hh_l0).chunk(3, dim=-1)
    r, z = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
    n = torch.tanh(input_n + r * hidden_n)
    torch.testing.assert_close(ours(x[None], h[None])[0][0], (1 - z) * n + z * h, **FLOAT64)


def test_lstm_gates_are_i_f_g_o():
    ours, _ = pair("LSTM", 3, 4)
    x, h, c = randn(2, 3), randn(2, 4), randn(2, 4)
    gates = x @ ours.weight_ih_l0.T + ours.bias_ih_l0 + h @ ours.weight_hh_l0.T + ours.bias_hh_l0
    i, f, g, o = gates.chunk(4, dim=-1)
    c_n = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    output, (_, actual) = ours(x[None], (h[None], c[None]))
    torch.testing.assert_close(actual[0], c_n, **FLOAT64)
    torch.testing.assert_close(output[0], torch.sigmoid(o) * torch.tanh(c_n), **FLOAT64)
