"""Step by step, chunk by chunk, call by call: one sequence, however it is cut."""

import copy

import pytest
import torch

from rnnlab.nn import GatedLSTMCell
from rnnlab.nn.recurrent import Recurrent
from tests.nn.plain import (
    DTYPE,
    KINDS,
    Leaky,
    Opaque,
    assert_close,
    every_kind,
    factory,
    flags,
    gradients,
    make,
    randn,
)
from tests.nn.research_equations import ALL, H, I

T, B = 6, 3


def tuples(state):
    return [tuple(each) for each in state]


def stepwise(layer, x):
    """Return the outputs of a layer that is given x (T, ...) step by step, stacked, and its last state."""
    state, outputs = None, []
    for x_t in x:
        y_t, state = layer.step(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs), state


@every_kind
@pytest.mark.parametrize("batch", [None, B], ids=["unbatched", "batched"])
def test_steps_equal_one_call(kind, batch):
    layer = Recurrent(factory(kind), 2, input_size=3, zoneout=0.2, norm="layer", learn_initial_state=True).eval()
    x = randn(*((T, 3) if batch is None else (T, batch, 3)))
    expected, final = layer(x)
    outputs, state = stepwise(layer, x)
    assert_close(outputs, expected)
    assert_close(tuples(state), tuples(final))
    assert [type(each) for each in state] == [type(each) for each in final]
    y, _ = layer.step(x[0], layer.initial_state(batch) if batch else None)
    assert_close(y, expected[0])


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_steps_of_plain_cells_equal_one_call(kind, backend):
    layer = Recurrent(factory(kind), 2, input_size=3, backend=backend)
    x = randn(T, B, 3)
    expected, final = layer(x)
    wanted = gradients(layer, expected)
    outputs, state = stepwise(layer, x)
    assert_close(outputs, expected)
    assert_close(tuples(state), tuples(final))
    assert_close(gradients(layer, outputs), wanted)


@pytest.mark.parametrize("name", ALL)
def test_steps_of_research_cells_equal_one_call(name):
    make_cell, options = ALL[name]
    layer = Recurrent(make_cell(I, H, **options, dtype=DTYPE))
    x = randn(T, B, I)
    expected, final = layer(x)
    outputs, state = stepwise(layer, x)
    assert_close(outputs, expected)
    assert_close(tuples(state), tuples(final))


@pytest.mark.parametrize("options", [{"bias": "single"}, {"bias": False}, {"num_heads": 2}, {"proj_size": 2}], ids=str)
def test_steps_of_what_is_almost_torchs_cell(options):
    layer = Recurrent(GatedLSTMCell(3, 4, **options, dtype=DTYPE))
    x = randn(2, B, 3)
    (first, state), (expected, _) = layer.step(x[0]), layer(x)
    assert_close(torch.stack([first, layer.step(x[1], state)[0]]), expected)


@pytest.mark.parametrize(
    "options",
    [{"norm": "layer"}, {"residual": True}, {"dropout": 0.5}, {"zoneout": 0.5}, {"recurrent_dropout": 0.5}],
    ids=str,
)
def test_steps_of_layers_to_which_something_is_added(options):
    layer, x = Recurrent(GatedLSTMCell(4, 4, dtype=DTYPE), 2, **options), randn(1, B, 4)
    found = []
    for run in (lambda: layer(x)[0][0], lambda: layer.step(x[0])[0]):
        torch.manual_seed(0)
        found.append(run())
    assert_close(found[1], found[0])


def test_a_step_reads_and_gives_out_as_the_cell_says():
    class Framed(GatedLSTMCell):
        def inputs(self, x):
            return x + 1

        def outputs(self, y):
            return 2 * y

    layer = Recurrent(Framed(3, 4, dtype=DTYPE))
    x = randn(1, B, 3)
    assert_close(layer.step(x[0])[0], layer(x)[0][0])


def test_steps_with_hooks_and_wrong_states_of_a_cell():
    class Short(Opaque):
        def forward(self, x_t, state):
            return state.h, (state.h,)

    layer = Recurrent(Short(3, 4, dtype=DTYPE))
    with pytest.raises(RuntimeError, match="Short took 2 states and returned 1"):
        layer.step(randn(B, 3))
    seen = []
    layer = Recurrent(make("opaque"))
    layer.cells[0].register_forward_pre_hook(lambda *_: seen.append(1))
    layer.step(randn(B, 3))
    assert seen == [1]
    layer = Recurrent(make("torch-lstm"))
    layer.cells[0].register_forward_pre_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="hook before its forward"):
        layer.step(randn(B, 3))


def test_what_a_step_gives_out_is_the_callers():
    for kind in KINDS:
        layer = Recurrent(make(kind))
        state = layer.initial_state(B)
        y, new = layer.step(randn(B, 3), state)
        addresses = [part.untyped_storage().data_ptr() for part in (y, *new[0], *state[0])]
        assert len({*addresses}) == len(addresses), kind


def test_gradients_flow_through_steps():
    layer = Recurrent(make("torch-lstm"), 2)
    x = randn(T, B, 3)
    outputs, state = stepwise(layer, x)
    actual = gradients(layer, outputs)
    assert_close(actual, gradients(layer, layer(x)[0]))


def test_step_in_another_layout():
    layer = Recurrent(make("leaky"), batch_first=True, return_all_states=True)
    x = randn(B, T, 3)
    assert_close(layer.step(x[:, 0])[0], layer(x)[0][:, 0])


def test_step_refuses():
    for options in ({"bidirectional": True}, {"go_backwards": True}):
        with pytest.raises(ValueError, match="cannot run step by step"):
            Recurrent(Leaky(3, 4), **options).step(torch.zeros(2, 3))
    layer = Recurrent(Leaky(3, 4))
    with pytest.raises(ValueError, match="Expected input to be 1D or 2D, got 3D"):
        layer.step(torch.zeros(1, 2, 3))
    with pytest.raises(RuntimeError, match="Expected 3, got 4"):
        layer.step(torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match=r"Expected hx.h size \(2, 4\), got \[3, 4\]"):
        layer.step(torch.zeros(2, 3), layer.initial_state(3))
    layer = Recurrent(GatedLSTMCell(3, 4))
    with pytest.raises(RuntimeError, match=r"hx.h dtype \(torch.float64\) does not match the cell's"):
        layer.step(torch.zeros(2, 3), (torch.zeros(2, 4).double(), torch.zeros(2, 4).double()))


@every_kind
def test_chunks_equal_one_call(kind):
    layer = Recurrent(factory(kind), 2, input_size=3)
    x, mask, reset = randn(T, B, 3), flags(T, B), flags(T, B, p=0.3)
    expected, final = layer(x, mask=mask, reset=reset)
    wanted = gradients(layer, expected)
    first, state = layer(x[:2], mask=mask[:2], reset=reset[:2])
    second, state = layer(x[2:], state, mask=mask[2:], reset=reset[2:])
    assert_close(torch.cat([first, second]), expected)
    assert_close(tuples(state), tuples(final))
    assert_close(gradients(layer, torch.cat([first, second])), wanted)


@every_kind
def test_a_stateful_layer_goes_on_where_it_stopped(kind):
    layer = Recurrent(factory(kind), 2, input_size=3, stateful=True)
    x = randn(T, B, 3)
    plain = Recurrent(list(layer.cells))
    expected, final = plain(x)
    outputs = [layer(part)[0] for part in (x[:2], x[2:5], x[5:])]
    assert_close(torch.cat(outputs), expected)
    assert_close(list(layer.get_carry()), tuples(final))
    layer.reset_state()
    assert layer.get_carry() is None
    assert_close(layer(x)[0], expected)
    given = plain.initial_state(B)
    assert_close(layer(x, given)[0], plain(x, given)[0])  # what is given goes before what is carried


def test_what_is_carried_is_cut_off_from_its_graph():
    layer = Recurrent(make("torch-lstm"), stateful=True)
    x = randn(T, B, 3)
    layer(x[:3])[0].sum().backward()
    state = layer.get_carry()
    assert not any(part.requires_grad for each in state for part in each)
    expected = gradients(layer, Recurrent(list(layer.cells))(x[3:], state)[0])
    assert_close(gradients(layer, layer(x[3:])[0]), {name: grad for name, grad in expected.items()})


def test_rows_that_end_hold_their_state_for_the_next_call():
    layer = Recurrent(make("leaky"), stateful=True)
    x = randn(T, B, 3)
    layer(x, lengths=[2, 0, 6])
    (held,) = layer.get_carry()
    assert_close(held[0][0], Recurrent(list(layer.cells))(x[:2, :1])[1][0].h[0])
    assert held[0][1].eq(0).all()


def test_a_carry_is_saved_and_put_back(tmp_path):
    layer = Recurrent(make("torch-lstm"), 2, stateful=True)
    x = randn(T, B, 3)
    layer(x)
    torch.save({"weights": layer.state_dict(), "carry": layer.get_carry()}, tmp_path / "saved.pt")
    fresh = Recurrent(make("torch-lstm"), 2, stateful=True)
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    fresh.load_state_dict(saved["weights"])
    fresh.set_carry(saved["carry"])
    other = copy.deepcopy(layer)
    expected = layer(x)[0]
    assert torch.equal(fresh(x)[0], expected)
    assert torch.equal(other(x)[0], expected)
    assert list(layer.state_dict()) == list(Recurrent(make("torch-lstm"), 2).state_dict())


def test_the_batch_may_not_change_without_a_reset():
    layer = Recurrent(Leaky(3, 4), stateful=True)
    layer(torch.zeros(T, B, 3))
    with pytest.raises(RuntimeError, match="carried over are of 3 rows, the input has 2.*reset_state"):
        layer(torch.zeros(T, 2, 3))
    layer.reset_state()
    assert layer(torch.zeros(T, 2, 3))[0].shape == (T, 2, 4)


def test_a_carry_moves_with_the_module():
    layer = Recurrent(Leaky(3, 4), stateful=True)
    layer(torch.zeros(T, B, 3))
    assert layer.to(DTYPE)(randn(T, B, 3))[0].dtype == DTYPE


def test_only_a_stateful_layer_carries():
    layer = Recurrent(Opaque(3, 4))
    layer(torch.zeros(T, B, 3))
    assert layer.get_carry() is None
    with pytest.raises(RuntimeError, match="stateful=True"):
        layer.set_carry(None)


def test_a_stateful_layer_takes_unbatched_and_packed_input():
    layer = Recurrent(make("leaky"), stateful=True)
    plain = Recurrent(list(layer.cells))
    x = randn(T, 3)
    assert_close(torch.cat([layer(x[:2])[0], layer(x[2:])[0]]), plain(x)[0])
    layer.reset_state()
    packed = torch.nn.utils.rnn.pack_sequence([randn(2, 3), randn(4, 3)], enforce_sorted=False)
    state = plain(packed)[1]
    layer(packed)
    assert torch.equal(layer(packed)[0].data, plain(packed, state)[0].data)


@pytest.mark.parametrize("layers", [1, 2])
def test_windows_with_cut_gradients_walk_the_same_states(layers):
    """Truncated backpropagation: the same values; gradients of one window alone."""
    layer = Recurrent(make("gru"), layers)
    x, state = randn(T, B, 3), None
    expected = layer(x)[0]
    for start in range(0, T, 2):
        output, state = layer(x[start : start + 2], state)
        assert_close(output, expected[start : start + 2])
        state = [tuple(part.detach() for part in each) for each in state]


def test_a_carry_from_inference_mode_can_be_trained_on():
    layer, x = Recurrent(make("torch-lstm"), stateful=True), randn(T, B, 3)
    with torch.inference_mode():
        layer(x)
    carry = layer.get_carry()
    actual = gradients(layer, layer(x)[0])
    layer.set_carry(tuple(tuple(part.clone() for part in state) for state in carry))
    assert_close(actual, gradients(layer, layer(x)[0]))
