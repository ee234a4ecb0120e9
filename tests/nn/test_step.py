"""step() and initial_state(): T steps of one input each equal one call over the sequence."""

import pytest
import torch

import rnnlab.nn
from tests.nn.cases import (
    OWN_BACKENDS,
    build,
    every_kind,
    named,
    pair,
    randn,
    random_state,
    run,
    states,
    tolerance,
    upstream_for,
    working_dtype,
)
from tests.tolerances import FLOAT64

OPTIONS = {
    "one layer": {},
    "two layers": {"num_layers": 2},
    "no bias": {"num_layers": 2, "bias": False},
    "batch-first": {"num_layers": 2, "batch_first": True},
}


@every_kind
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("backend", ["auto", "aten", *OWN_BACKENDS])
def test_steps_equal_one_call(kind, options, batch, backend):
    ours, theirs = pair(kind, 3, 5, **{k: v for k, v in options.items() if k != "batch_first"}, backend=backend)
    ours.batch_first = options.get("batch_first", False)  # one step has no time axis: it must not matter
    x = torch.randn(*((4, 3) if batch is None else (4, batch, 3)), dtype=working_dtype(backend))
    state, outputs = None, []
    for x_t in x:
        y_t, state = ours.step(x_t, state)
        outputs.append(y_t)
    actual, expected = named((torch.stack(outputs), state)), named(theirs(x))
    torch.testing.assert_close(actual, expected, **tolerance(backend))


@pytest.mark.parametrize("batch", [None, 3])
def test_steps_with_a_projection(batch):
    ours, theirs = pair("LSTM", 3, 5, 2, proj_size=2)
    x = torch.randn(*((4, 3) if batch is None else (4, batch, 3)), dtype=torch.float64)
    state = random_state(theirs, batch)
    expected, outputs = named(theirs(x, state)), []
    for x_t in x:
        y_t, state = ours.step(x_t, state)
        outputs.append(y_t)
    torch.testing.assert_close(named((torch.stack(outputs), state)), expected, **FLOAT64)


@every_kind
def test_gradients_flow_through_steps(kind):
    ours, theirs = pair(kind, 3, 5, 2)
    x = randn(4, 2, 3)
    _, expected = run(theirs, x, into=("h_n",))
    state, outputs = None, []
    for x_t in x:
        y_t, state = ours.step(x_t, state)
        outputs.append(y_t)
    values = named((torch.stack(outputs), state))
    values["h_n"].backward(upstream_for(values)["h_n"])
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], **FLOAT64)


@every_kind
def test_chunks_equal_one_call(kind):
    ours, _ = pair(kind, 3, 5, 2)
    x = randn(7, 2, 3)
    expected = named(ours(x))
    first, state = ours(x[:3])
    second, state = ours(x[3:], state)
    torch.testing.assert_close(named((torch.cat([first, second]), state)), expected, **FLOAT64)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_kind
def test_initial_state_is_zeros_in_the_form_of_hx(kind, options, dtype):
    module = build(rnnlab.nn, kind, 3, 4, dtype=dtype, **options)
    state = module.initial_state(5)
    rows = module.num_layers * (2 if module.bidirectional else 1)
    assert isinstance(state, tuple) == (kind == "LSTM")
    for tensor in states(state):
        assert tensor.shape == (rows, 5, 4)
        assert tensor.dtype == dtype
        assert tensor.eq(0).all()
    x = torch.randn(5, 5, 3, dtype=dtype)
    torch.testing.assert_close(module(x, state)[0], module(x)[0])


def test_initial_state_with_a_projection():
    h_0, c_0 = rnnlab.nn.LSTM(3, 4, 2, proj_size=2, device="meta").initial_state(5)
    assert (h_0.shape, c_0.shape) == ((2, 5, 2), (2, 5, 4))
    assert h_0.device.type == c_0.device.type == "meta"


@every_kind
def test_step_is_for_one_direction(kind):
    with pytest.raises(ValueError, match="bidirectional"):
        build(rnnlab.nn, kind, 3, 4, bidirectional=True).step(torch.zeros(2, 3))


@every_kind
@pytest.mark.parametrize("dims", [0, 3])
def test_step_refuses_other_dimensions(kind, dims):
    with pytest.raises(ValueError, match=f"{dims}D|{dims}-D|1D or 2D|x_t"):
        build(rnnlab.nn, kind, 3, 4).step(torch.zeros([2] * dims))


@every_kind
def test_step_checks_features_and_state(kind):
    module = build(rnnlab.nn, kind, 3, 4)
    with pytest.raises(RuntimeError, match="Expected 3, got 4"):
        module.step(torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match="Expected hidden"):
        module.step(torch.zeros(2, 3), module.initial_state(3))
