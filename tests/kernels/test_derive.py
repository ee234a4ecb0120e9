"""Gradients written by `derive`: against hand-written ones, autograd and finite differences, and on the schedules."""

import dataclasses
import math
import random

import numpy as np
import pytest
import torch

from rnnlab_kernels.cells import CELLS, PARTS, Cell, bind_numba, bind_torch, vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES, rebind
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import exp, fma, relu, relu_grad, sigmoid, sigmoid_grad, softplus, tanh, tanh_grad
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.kit_torch import eager
from tests.conftest import INTERPRETING
from tests.kernels.problems import OPTIONS, assert_close_in_float32, make_problem
from tests.tolerances import FLOAT64

CELL_NAMES = list(CELLS)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def make_leaky(rate, activation):
    def gates_fwd(gates, carried):
        (g,) = gates
        (h_prev,) = carried
        return (h_prev + rate * (activation(g) - h_prev),), ()

    return Cell("leaky", ("g",), ("h",), ("h",), (), 0, gates_fwd)


def _swish(x):
    return x * sigmoid(x)


def _words_fwd(gates, carried):
    a, b, _, z_x, z_h = gates
    h_prev, c_prev = carried
    z = sigmoid(fma(0.5, z_h, z_x))
    c = fma(z, c_prev, (1 - z) * _swish(a)) / (1.5 + softplus(b) ** 2)
    slope = sigmoid_grad(b, z) + tanh_grad(c, tanh(a)) - relu_grad(a, b)
    return (tanh(slope) * exp(-relu(c)) - h_prev, +c), (a, b)


# Every word of the vocabulary, every operator, a split gate, a gate that gets no gradient.
WORDS = Cell("words", ("a", "b", "unused", "z"), ("h", "c"), ("h", "c"), (), 1, _words_fwd)


RATE = 0.1


def _repeated(x, count, *, rate=RATE):
    return x if count == 0 else rate * tanh(_repeated(x, count - 1))


def _helped_fwd(gates, carried):
    h_prev, mask = carried
    total = sum(sigmoid(gate) for gate in gates)
    total += _repeated(h_prev, 3) / RATE**2
    return (total * mask,), None


# Python around the maths: a loop, a helper that calls itself, constants; and a carried value that is not a state.
HELPED = Cell("helped", ("a", "b"), ("h",), ("h", "mask"), (), 0, _helped_fwd)


def _constant_fwd(gates, carried):
    used, _ = gates
    _, c_prev = carried
    return (used, c_prev), ()


# An identity activation, a state handed on as it is, and inputs that get no gradient.
CONSTANT = Cell("constant", ("used", "unused"), ("h", "c"), ("h", "c"), (), 0, _constant_fwd)


def _short_fwd(gates, carried):
    a, _, z_x, z_h = gates
    _, c_prev = carried
    return (softplus(a) / (1 + exp(z_x)) - 0.5 * z_h, c_prev), ()


# What is new to the compiled loops, in a cell that compiles quickly; saves pre-activations as they came.
SHORT = Cell("short", ("a", "unused", "z"), ("h", "c"), ("h", "c"), (), 1, _short_fwd)

DERIVED = {
    **{name: derive(dataclasses.replace(cell, gates_bwd=None)) for name, cell in CELLS.items()},
    "leaky": derive(make_leaky(0.25, tanh)),
    "words": derive(WORDS),
    "constant": derive(CONSTANT),
    "short": derive(SHORT),
    "helped": derive(HELPED),
}


def arguments(cell, *shape, scale=1.0):
    count = cell.num_gates + cell.split
    values = [scale * torch.randn(*shape, dtype=torch.float64) for _ in range(count + len(cell.carried))]
    return tuple(values[:count]), tuple(values[count:])


def gradients(cell, gates, carried, dstate):
    state, saved = bind_torch(cell.gates_fwd)(gates, carried)
    assert len(saved) == len(cell.saved)
    return (*state, *(grad for part in bind_torch(cell.gates_bwd)(dstate, saved, carried, state) for grad in part))


def assert_gradient_is_autograds(cell, original):
    gates, carried = arguments(cell, 5, 7)
    leaves = [value.requires_grad_() for value in (*gates, *carried)]
    state, _ = bind_torch(original.gates_fwd)(gates, carried)
    dstate = tuple(torch.randn_like(value) for value in state)
    expected = torch.autograd.grad(state, leaves, dstate, allow_unused=True)
    actual = gradients(cell, gates, carried, dstate)
    torch.testing.assert_close(actual[: len(state)], state, **EXACT)
    for name, grad, value in zip((*cell.gates, *cell.carried), actual[len(state) :], expected, strict=False):
        value = torch.zeros_like(grad) if value is None else value
        torch.testing.assert_close(grad, value, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_derived_is_the_hand_written_gradient(name, scale):
    gates, carried = arguments(CELLS[name], 20, 10, scale=scale)
    dstate = tuple(torch.randn(20, 10, dtype=torch.float64) for _ in CELLS[name].states)
    expected = gradients(CELLS[name], gates, carried, dstate)
    torch.testing.assert_close(gradients(DERIVED[name], gates, carried, dstate), expected, **EXACT)
    assert len(DERIVED[name].saved) == len(CELLS[name].saved)


@pytest.mark.parametrize("name", ["leaky", "words", "constant", "short", "helped"])
def test_derived_is_autograds_gradient(name):
    assert_gradient_is_autograds(DERIVED[name], DERIVED[name])


@pytest.mark.parametrize(
    "original", [make_leaky(0.3, _swish), WORDS, CONSTANT, SHORT, HELPED, *CELLS.values()], ids=lambda c: c.name
)
def test_forward_is_the_same_to_the_bit(original):
    cell = derive(dataclasses.replace(original, gates_bwd=None))
    for scale in (0.1, 1.0, 30.0):
        gates, carried = (tuple(scale * v.item() for v in part) for part in arguments(original, 1))
        assert cell.gates_fwd(gates, carried)[0] == original.gates_fwd(gates, carried)[0]


@pytest.mark.parametrize("name", DERIVED)
def test_derived_passes_gradcheck(name):
    cell = DERIVED[name]
    count = cell.num_gates + cell.split

    class Maths(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *values):
            state, saved = bind_torch(cell.gates_fwd)(values[:count], values[count:])
            ctx.sizes = len(saved), len(cell.carried)
            ctx.save_for_backward(*saved, *values[count:], *state)
            return tuple(value.clone() for value in state)

        @staticmethod
        def backward(ctx, *dstate):
            (saved, carried), values = ctx.sizes, ctx.saved_tensors
            given = values[:saved], values[saved : saved + carried], values[saved + carried :]
            dgates, dcarried = bind_torch(cell.gates_bwd)(dstate, *given)
            return (*dgates, *dcarried)

    gates, carried = arguments(cell, 2, 3)
    assert torch.autograd.gradcheck(Maths.apply, [value.requires_grad_() for value in (*gates, *carried)])


@pytest.mark.parametrize("name", DERIVED)
def test_derived_is_linear_in_the_upstream_gradient(name):
    cell = DERIVED[name]
    num_states = len(cell.states)
    gates, carried = arguments(cell, 3, 4)
    first, second = (tuple(torch.randn(3, 4, dtype=torch.float64) for _ in cell.states) for _ in range(2))
    both = tuple(2.0 * a - b for a, b in zip(first, second, strict=True))
    one, two, sums = (gradients(cell, gates, carried, dstate)[num_states:] for dstate in (first, second, both))
    for a, b, c in zip(one, two, sums, strict=True):
        torch.testing.assert_close(2.0 * a - b, c, **EXACT)


def random_cell(seed):
    """Return a cell of random gate maths over values kept small, as its text and as a function."""
    rng = random.Random(seed)
    lines, names = ["def fwd(gates, carried):", "    a, b, n_x, n_h = gates", "    h_prev, c_prev = carried"], []
    known = ["a", "b", "n_x", "n_h", "h_prev", "c_prev"]
    for k in range(rng.randint(3, 14)):
        x, y, z = (rng.choice(known) for _ in range(3))
        number = round(rng.uniform(-2, 2), 2)
        lines.append(
            f"    v{k} = "
            + rng.choice(
                [
                    f"{x} + {y}",
                    f"{x} - {y}",
                    f"{number} - {x}",
                    f"tanh({x}) * {y}",
                    f"-{x} * {number}",
                    f"{x} / (1.5 + sigmoid({y}))",
                    f"{number} / (1.0 + exp(tanh({x})))",
                    f"fma(tanh({x}), {y}, {z})",
                    f"tanh({x}) ** {rng.choice([2, 3, 5])}",
                    f"(1.0 + softplus({x})) ** -2",
                    f"relu({x})",
                    f"softplus({x}) - {y}",
                    f"sigmoid({x})",
                ]
            )
        )
        names.append(f"v{k}")
        known.append(f"v{k}")
    lines.append(f"    return ({names[-1]}, {rng.choice(known)}), ()")
    scope = {word: getattr(vocabulary, word) for word in TORCH_NAMES}
    exec("\n".join(lines), scope)
    return Cell(f"random{seed}", ("a", "b", "n"), ("h", "c"), ("h", "c"), (), 1, scope["fwd"])


@pytest.mark.parametrize("seed", range(20))
def test_random_gate_maths(seed):
    original = random_cell(seed)
    assert_gradient_is_autograds(derive(original), original)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", [name for name in DERIVED if name != "helped"])
def test_derived_runs_on_the_eager_schedule(name, option):
    problem = make_problem(DERIVED[name], (6, 3, 4, 5), **OPTIONS[option])
    expected, actual = problem.run(reference), problem.run(eager)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


def test_derived_runs_on_the_fused_schedule():
    pytest.importorskip("numba")
    from rnnlab_kernels.schedules.compiled.api import fused

    assert_close_in_float32(make_problem(DERIVED["short"], (5, 3, 4, 9), ragged=True), fused)


def test_hand_written_numbers_are_float32_to_numba():
    numba = pytest.importorskip("numba")

    def gates_fwd(gates, carried):
        (g,) = gates
        (h_prev,) = carried
        keep, take = (0.75, 0.25)
        return (keep * h_prev + take * g, 1.0 - g), (g / 3.0,)

    bound = bind_numba(gates_fwd)
    call = numba.njit(lambda g, h_prev: bound((g,), (h_prev,)))
    assert call(np.float32(2.0), np.float32(4.0)) == ((3.5, -1.0), (np.float32(2.0 / 3.0),))
    (signature,) = call.nopython_signatures
    pair, one = (numba.types.UniTuple(numba.float32, count) for count in (2, 1))
    assert signature.return_type == numba.types.Tuple((pair, one))


@pytest.mark.interpret
@pytest.mark.parametrize("name", ["leaky", "short", "words"])
def test_derived_runs_on_the_pointwise_schedule(name):
    from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

    assert_close_in_float32(make_problem(DERIVED[name], (4, 3, 4, 5), ragged=True), pointwise)


@pytest.mark.skipif(INTERPRETING, reason="interpreted kernels cannot be compiled")
@pytest.mark.parametrize("direction", ["fwd", "bwd"])
def test_derived_compiles_without_spilling(direction, monkeypatch):
    pytest.importorskip("triton")
    from rnnlab_kernels.aot import compile_variant, variants

    monkeypatch.setitem(CELLS, "words", DERIVED["words"])  # all dtypes and alignments
    monkeypatch.setitem(PARTS, "words", DERIVED["words"])
    variant = next(v for v in variants() if v.name == f"pointwise_{direction} words bf16 aligned")
    report = compile_variant(variant, 90)
    assert report.faults == [] and 0 < report.registers < 128


def test_compiled_exp_and_softplus_at_extremes():
    numba = pytest.importorskip("numba")
    from rnnlab_kernels.cells import compiled

    x = torch.tensor([-math.inf, -200, -87.5, -20, -1e-3, 0, 1e-3, 20, 88.3, 88.5, 200, math.inf, math.nan])
    call = numba.njit(lambda v: (compiled.exp(v), compiled.softplus(v)))
    actual = torch.tensor([call(value) for value in x.numpy()])
    expected = torch.stack([TORCH_NAMES["exp"](x), TORCH_NAMES["softplus"](x)], 1)
    expected[9, 0] = math.inf  # the compiled exponential ends at 88.37, float32 at 88.72
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=2e-38, equal_nan=True)


def _softplus_kernel(x_ptr, y_ptr):
    i = tl.arange(0, 256)  # noqa: F821
    tl.store(y_ptr + i, softplus(tl.load(x_ptr + i)))  # noqa: F821


@pytest.mark.interpret
def test_device_softplus_keeps_its_relative_accuracy():
    import triton
    import triton.language as tl

    from rnnlab_kernels.cells import device

    x = torch.linspace(-80, 80, 256)
    y = torch.empty_like(x)
    triton.jit(rebind(_softplus_kernel, {"tl": tl, "softplus": device.softplus}))[(1,)](x, y)
    torch.testing.assert_close(y, TORCH_NAMES["softplus"](x.double()).float(), rtol=2e-6, atol=0.0)
