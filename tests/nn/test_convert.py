"""Weights between torch, Keras and ONNX, by value: both libraries' equations in numpy, and ONNX nodes in a runtime."""

import itertools

import numpy as np
import pytest
import torch

import rnnlab.nn
from rnnlab.nn.convert import convert_weights, from_keras, from_onnx, to_keras, to_onnx
from tests.nn.cases import build, every_cell, every_kind, named, pair, raises

LAYERS = [
    pytest.param(*case, id="layers{}-directions{}-bias{:d}".format(*case))
    for case in itertools.product((1, 2), (1, 2), (True, False))
]
every_stack = pytest.mark.parametrize(("num_layers", "directions", "bias"), LAYERS)
CONVERTERS = {"keras": (to_keras, from_keras), "onnx": (to_onnx, from_onnx)}
every_format = pytest.mark.parametrize("form", CONVERTERS)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


ACTIVATIONS = {"RNN_TANH": np.tanh, "RNN_RELU": lambda x: np.maximum(x, 0.0)}


def stack(kind, num_layers=1, directions=1, bias=True):
    """A float64 layer whose biases differ from each other, and an input (T, B, I)."""
    module = build(
        rnnlab.nn, kind, 3, 4, num_layers, bias=bias, bidirectional=directions == 2, dtype=torch.float64
    ).requires_grad_(False)
    return module, torch.randn(5, 2, 3, dtype=torch.float64)


def keras_step(kind, x, states, arrays):
    """One step by the equations in Keras' documentation and code; gates i f c o and z r h side by side in columns."""
    kernel, recurrent, bias = arrays if len(arrays) == 3 else (*arrays, None)
    h, units = states[0], recurrent.shape[0]
    if kind == "GRU":  # reset_after=True: two rows of biases
        bias = np.zeros((2, 3 * units)) if bias is None else bias
        x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, -1)
        inner_z, inner_r, inner_h = np.split(h @ recurrent + bias[1], 3, -1)
        z, r = sigmoid(x_z + inner_z), sigmoid(x_r + inner_r)
        return (z * h + (1 - z) * np.tanh(x_h + r * inner_h),)
    total = x @ kernel + h @ recurrent + (0.0 if bias is None else bias)
    if kind != "LSTM":
        return (ACTIVATIONS[kind](total),)
    z_i, z_f, z_c, z_o = np.split(total, 4, -1)
    c = sigmoid(z_f) * states[1] + sigmoid(z_i) * np.tanh(z_c)
    return sigmoid(z_o) * np.tanh(c), c


def onnx_step(kind, x, states, w, r, b):
    """One step by the equations of the ONNX operators; gates i o f c and z r h below each other in rows."""
    h, units = states[0], r.shape[1]
    w_bias, r_bias = np.split(np.zeros(2 * len(r)) if b is None else b, 2)
    if kind == "GRU":  # linear_before_reset=1
        (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w, 3), np.split(r, 3)
        (wb_z, wb_r, wb_h), (rb_z, rb_r, rb_h) = np.split(w_bias, 3), np.split(r_bias, 3)
        z, gate = sigmoid(x @ w_z.T + h @ r_z.T + wb_z + rb_z), sigmoid(x @ w_r.T + h @ r_r.T + wb_r + rb_r)
        new = np.tanh(x @ w_h.T + gate * (h @ r_h.T + rb_h) + wb_h)
        return ((1 - z) * new + z * h,)
    total = x @ w.T + h @ r.T + w_bias + r_bias
    if kind != "LSTM":
        return (ACTIVATIONS[kind](total),)
    i, o, f, c = (total[:, k * units : (k + 1) * units] for k in range(4))
    cell = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(c)
    return sigmoid(o) * np.tanh(cell), cell


def unrolled(step, x, num_states):
    """Run one direction over (T, B, I) from zeros; the caller turns the time axis for the other."""
    states, outputs = (np.zeros((x.shape[1], 4)),) * num_states, []
    for x_t in x:
        states = step(x_t, states)
        outputs.append(states[0])
    return np.stack(outputs)


def run_stack(steps, x, num_states):
    """Run layers of one or two directions: `steps` holds for each layer one step function a direction."""
    for layer in steps:
        forward, *backward = layer
        parts = [unrolled(forward, x, num_states), *(unrolled(step, x[::-1], num_states)[::-1] for step in backward)]
        x = np.concatenate(parts, -1)
    return x


@every_stack
@every_kind
def test_keras_equations_give_the_layers_output(kind, num_layers, directions, bias):
    module, x = stack(kind, num_layers, directions, bias)
    arrays, count = to_keras(module), 3 if bias else 2
    runs = [arrays[start : start + count] for start in range(0, len(arrays), count)]
    steps = [(lambda x, states, run=run: keras_step(kind, x, states, run)) for run in runs]
    layers = [steps[k : k + directions] for k in range(0, len(steps), directions)]
    output = run_stack(layers, x.numpy(), 2 if kind == "LSTM" else 1)
    np.testing.assert_allclose(output, module(x)[0].numpy(), rtol=1e-9, atol=1e-9)


@every_stack
@every_kind
def test_onnx_equations_give_the_layers_output(kind, num_layers, directions, bias):
    module, x = stack(kind, num_layers, directions, bias)
    arrays, count = to_onnx(module), 3 if bias else 2
    layers = []
    for start in range(0, len(arrays), count):
        w, r, *b = arrays[start : start + count]
        rows = [(w[d], r[d], b[0][d] if bias else None) for d in range(directions)]
        layers.append([lambda x, states, row=row: onnx_step(kind, x, states, *row) for row in rows])
    output = run_stack(layers, x.numpy(), 2 if kind == "LSTM" else 1)
    np.testing.assert_allclose(output, module(x)[0].numpy(), rtol=1e-9, atol=1e-9)


@every_format
@every_stack
@every_kind
def test_loading_what_was_given_out_computes_the_same(kind, num_layers, directions, bias, form):
    give, take = CONVERTERS[form]
    module, x = stack(kind, num_layers, directions, bias)
    other, _ = stack(kind, num_layers, directions, bias)
    assert take(other, give(module)) is other
    torch.testing.assert_close(named(other(x)), named(module(x)), rtol=1e-12, atol=1e-12)
    for again, array in zip(give(other), give(module), strict=True):
        np.testing.assert_allclose(again, array, rtol=1e-15, atol=1e-15)  # two biases became one sum and 0
    assert all(array.flags.c_contiguous for array in give(module))


@every_format
@every_cell
def test_cells(kind, form):
    give, take = CONVERTERS[form]
    library = {"torch": torch.nn, "rnnlab": rnnlab.nn}
    ours, theirs = (build(library[name], kind, 3, 4) for name in ("rnnlab", "torch"))
    take(ours, give(theirs))
    x = torch.randn(2, 3)
    torch.testing.assert_close(ours(x), theirs(x))


@every_kind
def test_torchs_own_layers(kind):
    _, theirs = pair(kind, 3, 4, 2, bidirectional=True)
    ours = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(from_keras(ours, to_keras(theirs))(x), theirs(x), rtol=1e-9, atol=1e-9)


@every_stack
@every_kind
def test_every_pair_of_formats(kind, num_layers, directions, bias):
    module, _ = stack(kind, num_layers, directions, bias)
    options = {"num_layers": num_layers, "bidirectional": directions == 2}
    keras, onnx = (convert_weights(module.state_dict(), "torch", form, **options) for form in ("keras", "onnx"))
    crossed = convert_weights(convert_weights(onnx, "onnx", "keras", **options), "keras", "onnx", **options)
    for one, two in zip(keras, convert_weights(crossed, "onnx", "keras", **options), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-15, atol=1e-15)
    back = convert_weights(onnx, "onnx", "torch", **options)
    assert back.keys() == module.state_dict().keys()
    assert all(torch.equal(back[name], weight) for name, weight in module.state_dict().items())


def test_keras_gru_with_reset_before_the_product():
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(shape) for shape in ((3, 12), (4, 12), (12,))]
    x, h = generator.standard_normal((2, 3)), generator.standard_normal((2, 4))
    x_z, x_r, x_h = np.split(x @ arrays[0] + arrays[2], 3, -1)  # Keras with reset_after=False
    r_z, r_r, r_h = np.split(arrays[1], 3, -1)
    z, r = sigmoid(x_z + h @ r_z), sigmoid(x_r + h @ r_r)
    expected = z * h + (1 - z) * np.tanh(x_h + (r * h) @ r_h)

    weights = convert_weights(arrays, "keras", "torch", reset_after=False)
    w, u, b_ih, b_hh = (weights[f"{name}_l0"].numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n) = (np.split(part, 3) for part in (w, u, b_ih + b_hh))
    r, z = sigmoid(x @ w_r.T + h @ u_r.T + b_r), sigmoid(x @ w_z.T + h @ u_z.T + b_z)
    actual = (1 - z) * np.tanh(x @ w_n.T + (r * h) @ u_n.T + b_n) + z * h
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    for one, two in zip(convert_weights(weights, "torch", "keras", reset_after=False), arrays, strict=True):
        np.testing.assert_array_equal(one, two)
    with raises(ValueError, "layer 0 bias (reset_after=True) must be (2, 12), got (12,)"):
        convert_weights(arrays, "keras", "torch")
    assert not b_hh.any()


def test_values_by_hand():
    """One unit, each gate its own number: the orders are those of the documentation."""
    lstm = {"weight_ih_l0": torch.tensor([[1.0], [2.0], [3.0], [4.0]]), "weight_hh_l0": torch.zeros(4, 1)}  # i f g o
    assert convert_weights(lstm, "torch", "keras")[0].tolist() == [[1.0, 2.0, 3.0, 4.0]]  # i f c o
    assert convert_weights(lstm, "torch", "onnx")[0].tolist() == [[[1.0], [4.0], [2.0], [3.0]]]  # i o f c
    gru = {"weight_ih_l0": torch.tensor([[1.0], [2.0], [3.0]]), "weight_hh_l0": torch.zeros(3, 1)}  # r z n
    assert convert_weights(gru, "torch", "keras")[0].tolist() == [[2.0, 1.0, 3.0]]  # z r h
    assert convert_weights(gru, "torch", "onnx")[0].tolist() == [[[2.0], [1.0], [3.0]]]  # z r h


def test_parametrised_weights_count_as_they_are_used():
    module, _ = stack("LSTM")
    expected = to_keras(module)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    for array, want in zip(to_keras(module), expected, strict=True):
        np.testing.assert_allclose(array, want, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes(dtype):
    module = rnnlab.nn.LSTM(3, 4, dtype=dtype)
    arrays = to_onnx(module)
    assert arrays[0].dtype == (np.float32 if dtype == torch.bfloat16 else np.dtype(str(dtype).removeprefix("torch.")))
    other = from_onnx(rnnlab.nn.LSTM(3, 4, dtype=dtype), arrays)
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))


def test_arrays_are_copies():
    module, _ = stack("RNN_TANH")
    before = module.weight_ih_l0.clone()
    for array in (*to_keras(module), *to_onnx(module)):
        array[:] = 7.0
    assert torch.equal(module.weight_ih_l0, before)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("kind", "operator"), [("LSTM", "LSTM"), ("GRU", "GRU"), ("RNN_RELU", "RNN")])
def test_an_onnx_node_in_the_runtime_gives_the_layers_output(kind, operator, directions):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    module, x = stack(kind, 1, directions)
    module, x = module.float(), x.float().numpy()
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    if kind == "RNN_RELU":
        options = {"activations": ["Relu"] * directions}
    direction = "bidirectional" if directions == 2 else "forward"
    node = onnx.helper.make_node(operator, ["x", "W", "R", "B"], ["Y"], hidden_size=4, direction=direction, **options)
    arrays = dict(zip("WRB", to_onnx(module), strict=True))
    graph = onnx.helper.make_graph(
        [node],
        "layer",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(x.shape))],
        [onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, [5, directions, 2, 4])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    output = y.transpose(0, 2, 1, 3).reshape(5, 2, 4 * directions)
    torch.testing.assert_close(torch.from_numpy(output), module(torch.from_numpy(x))[0])


KERAS = [np.zeros((3, 16)), np.zeros((4, 16)), np.zeros(16)]
ONNX = [np.zeros((1, 16, 3)), np.zeros((1, 16, 4)), np.zeros((1, 32))]


@pytest.mark.parametrize(
    ("weights", "source", "options", "message"),
    [
        (KERAS, "tensorflow", {}, "Unknown source='tensorflow'. Select from torch, keras, onnx."),
        (KERAS, "torch", {}, "torch weights come as a state_dict, got: list"),
        ({}, "keras", {}, "keras weights come as a list of arrays, got: dict"),
        (
            KERAS[:1],
            "keras",
            {},
            "keras weights of 1 part(s) are kernel, recurrent_kernel[, bias] for each: 2 or 3 arr",
        ),
        (KERAS, "keras", {"bidirectional": True}, "keras weights of 2 part(s)"),
        ([KERAS[0], KERAS[1].T, KERAS[2]], "keras", {}, "layer 0 recurrent_kernel must be (H, G*H) with G = 1, 3 or 4"),
        ([KERAS[0].T, *KERAS[1:]], "keras", {}, "layer 0 kernel must be (I, 16), got (16, 3)"),
        ([*KERAS[:2], np.zeros((2, 16))], "keras", {}, "layer 0 bias must be (16,), got (2, 16)"),
        (
            [*KERAS, *KERAS[:2], np.zeros(4)],
            "keras",
            {"bidirectional": True},
            "layer 0 backward bias must be (16,), got (4,)",
        ),
        (ONNX, "onnx", {"bidirectional": True}, "layer 0 R must be (2, 16, 4), got (1, 16, 4)"),
        ([ONNX[0], ONNX[1][0], ONNX[2]], "onnx", {}, "layer 0 R must be (D, G*H, H) with G = 1, 3 or 4, got (16, 4)"),
        ([*ONNX[:2], ONNX[2][0]], "onnx", {}, "layer 0 B must be (1, 32), got (32,)"),
        (
            {"weight_ih_l0": torch.zeros(4, 3), "weight_hh": torch.zeros(4, 4)},
            "torch",
            {},
            "the state_dict of 1 layer(s) in 1 direction(s) does not fit: missing ['weight_hh_l0'], not known",
        ),
        (rnnlab.nn.LSTM(3, 4, proj_size=2).state_dict(), "torch", {}, "neither Keras nor ONNX has a projecting LSTM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named(weights, source, options, message):
    with raises(ValueError, message):
        convert_weights(weights, source, "onnx" if source == "keras" else "keras", **options)


def test_loading_names_the_array_and_leaves_the_module_alone():
    module = rnnlab.nn.LSTM(3, 4)
    before = [parameter.clone() for parameter in module.parameters()]
    with raises(ValueError, "array 0 (kernel) must be (3, 16) for this LSTM, got (5, 16)"):
        from_keras(module, [np.zeros((5, 16)), *KERAS[1:]])
    with raises(ValueError, "LSTM needs 3 arrays, kernel, recurrent_kernel, bias for each layer and direction, got 2"):
        from_keras(module, KERAS[:2])
    with raises(ValueError, "array 2 (B) must be (1, 32) for this LSTM, got (1, 16)"):
        from_onnx(module, [*ONNX[:2], np.zeros((1, 16))])
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), before, strict=True))
    with raises(TypeError, "expected a layer or cell of rnnlab.nn or torch.nn, got: Linear"):
        to_keras(torch.nn.Linear(3, 4))
