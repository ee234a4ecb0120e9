"""Bad calls: torch.nn's exceptions and words where it has good ones, clear ones where it fails late or in silence."""

import pytest
import torch
from torch import Tensor

import rnnlab.nn
from tests.nn.cases import both_libraries, build, every_layer, map_state, raises, working_dtype, zeros

X = torch.zeros(5, 2, 3)


@both_libraries
@every_layer
@pytest.mark.parametrize("dims", [0, 1, 4])
def test_input_must_have_two_or_three_dimensions(library, kind, dims):
    name, word = kind.partition("_")[0], " tensor" if kind.startswith("RNN") else ""
    with raises(ValueError, f"{name}: Expected input to be 2D or 3D, got {dims}D{word} instead"):
        build(library, kind, 3, 4)(torch.zeros([2] * dims))


@both_libraries
@every_layer
@pytest.mark.parametrize("x", [torch.zeros(5, 2, 4), torch.zeros(5, 4)], ids=["batched", "unbatched"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_wrong_number_of_features(library, kind, x, batch_first):
    with raises(RuntimeError, "input.size(-1) must be equal to input_size. Expected 3, got 4"):
        build(library, kind, 3, 4, batch_first=batch_first)(x)


@both_libraries
@every_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_input_of_another_dtype(library, kind, dtype):
    with raises(ValueError, f"RNN input dtype ({dtype}) does not match weight dtype (torch.float32)"):
        build(library, kind, 3, 4)(X.to(dtype))


@both_libraries
@every_layer
@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 2, 4), (1, 2, 5)])
def test_h_of_the_wrong_shape(library, kind, shape):
    what = "hidden[0]" if kind == "LSTM" else "hidden"
    with raises(RuntimeError, f"Expected {what} size (1, 2, 4), got {list(shape)}"):
        build(library, kind, 3, 4)(X, zeros(kind, *shape))


@both_libraries
def test_c_of_the_wrong_shape(library):
    with raises(RuntimeError, "Expected hidden[1] size (1, 2, 4), got [1, 3, 4]"):
        library.LSTM(3, 4)(X, (torch.zeros(1, 2, 4), torch.zeros(1, 3, 4)))
    with raises(RuntimeError, "Expected hidden[1] size (1, 2, 4), got [1, 2, 2]"):
        library.LSTM(3, 4, proj_size=2)(X, (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)))


@both_libraries
@every_layer
def test_state_without_a_batch_for_an_input_with_one(library, kind):
    words = "hx and cx should also be 3-D but got (2-D, 2-D) tensors"
    words = words if kind == "LSTM" else "hx should also be 3-D but got 2-D tensor"
    with raises(RuntimeError, f"For batched 3-D input, {words}"):
        build(library, kind, 3, 4)(X, zeros(kind, 1, 4))


@both_libraries
@every_layer
def test_state_with_a_batch_for_an_input_without_one(library, kind):
    words = "hx and cx should also be 2-D but got (3-D, 3-D) tensors"
    words = words if kind == "LSTM" else "hx should also be 2-D but got 3-D tensor"
    with raises(RuntimeError, f"For unbatched 2-D input, {words}"):
        build(library, kind, 3, 4)(X[:, 0], zeros(kind, 1, 1, 4))


@both_libraries
@every_layer
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched", "no-batch"])
def test_a_sequence_without_steps(library, kind, form):
    shape = {"time-first": (0, 2, 3), "batch-first": (2, 0, 3), "unbatched": (0, 3), "no-batch": (0, 0, 3)}[form]
    with raises(RuntimeError, "Expected sequence length to be larger than 0 in RNN"):
        build(library, kind, 3, 4, batch_first=form == "batch-first")(torch.zeros(shape))


@both_libraries
@every_layer
def test_devices_that_differ(library, kind):
    module = build(library, kind, 3, 4)
    with raises(RuntimeError, "Input and parameter tensors are not"):
        module(X.to("meta"))
    with raises(RuntimeError, "Input and hidden tensors are not"):
        module(X, zeros(kind, 1, 2, 4, device="meta"))
    with raises(RuntimeError, "Input and parameter tensors are not"):
        build(library, kind, 3, 4, device="meta")(X)


@every_layer
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])
def test_state_of_another_dtype_names_both(kind, backend):
    module = build(rnnlab.nn, kind, 3, 4, backend=backend)
    with pytest.raises(RuntimeError, match=r"(?s)(float64.*float32|float32.*float64)"):
        module(X, zeros(kind, 1, 2, 4, dtype=working_dtype(backend)))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("x", [X, X[:, 0]], ids=["batched", "unbatched"])
def test_lstm_given_one_tensor_as_state(num_layers, x):
    with pytest.raises(TypeError, match="hx"):
        rnnlab.nn.LSTM(3, 4, num_layers)(x, torch.zeros(num_layers, *x.shape[1:-1], 4))


@both_libraries
def test_lstm_given_three_states(library):
    with raises(RuntimeError, "lstm expects two hidden states"):
        library.LSTM(3, 4)(X, (torch.zeros(1, 2, 4),) * 3)


@pytest.mark.parametrize("kind", ["RNN_TANH", "GRU"])
@pytest.mark.parametrize("form", [tuple, list])
@pytest.mark.parametrize("count", [1, 2])
def test_one_state_given_as_a_tuple(kind, form, count):
    with pytest.raises(TypeError, match="hx"):
        build(rnnlab.nn, kind, 3, 4)(X, form([torch.zeros(1, 2, 4)] * count))


@pytest.mark.parametrize("kind", ["RNN_TANH", "GRU", "LSTM"])
def test_a_failed_call_leaves_the_layer_usable(kind):
    module = build(rnnlab.nn, kind, 3, 4)
    before = module(X)[0]
    with pytest.raises(RuntimeError):
        module(torch.zeros(5, 2, 4))
    torch.testing.assert_close(module(X)[0], before)


@both_libraries
@every_layer
def test_nested_tensors_are_refused(library, kind):
    rows: list[Tensor] = [torch.zeros(5, 3), torch.zeros(2, 3)]
    with pytest.raises(RuntimeError):
        build(library, kind, 3, 4)(torch.nested.nested_tensor(rows, layout=torch.jagged))


@every_layer
def test_gradients_do_not_hide_a_bad_state(kind):
    bad = map_state(lambda state: state.requires_grad_(), zeros(kind, 1, 3, 4))
    with pytest.raises(RuntimeError, match="Expected hidden"):
        build(rnnlab.nn, kind, 3, 4)(X, bad)
