"""Comparisons, `where` and the functions of gate maths: derived gradients against autograd, then on each backend."""

import math

import pytest
import torch

from rnnlab_kernels.cells import CELLS, PARTS, Cell, vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES, rebind
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import abs, cos, exp, log, maximum, minimum, sin, tanh, where
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.kit_torch import eager
from tests.conftest import INTERPRETING
from tests.kernels.one_launch import sequence, step
from tests.kernels.problems import assert_close_in_float32, make_problem
from tests.kernels.test_derive import assert_gradient_is_autograds, gradients
from tests.tolerances import FLOAT64

EDGES = [-math.inf, -2.0, -0.0, 0.0, 1e-40, 0.7, 3.0, math.inf, math.nan]
MATHS = {
    "leaky": lambda a, b, h: where(a > b, a, 0.3 * b) * h,
    "step": lambda a, b, h: where(a <= 0.1, 1, 0.25) * h + where(0.0 < b, 1, 1) + a,
    "nested": lambda a, b, h: where(a < 0, where(tanh(b) >= h, h, -1.0), b * a),
    "of_gradients": lambda a, b, h: where(a >= b, where(a >= b, a, b), tanh(where(a >= b, 2.0, h))),
    "abs": lambda a, b, h: abs(a) * h + abs(tanh(b)),
    "sin": lambda a, b, h: sin(a * h) + cos(b) * cos(a),
    "exp": lambda a, b, h: exp(-(a**2)) * h + log(1.0 + exp(b)),
    "maximum": lambda a, b, h: maximum(a, b) - h * minimum(a, h),
    "clipped": lambda a, b, h: minimum(maximum(-0.5, a), 0.5) * b + h,
}


def make_cell(name):
    maths = MATHS[name]

    def fwd(gates, carried):
        return (maths(*gates, *carried),), ()

    return Cell(name, ("a", "b"), ("h",), ("h",), (), 0, fwd)


def _all_fwd(gates, carried):
    a, b = gates
    (h_prev,) = carried
    bent = where(a > 0.0, sin(a), log(1.0 + abs(b))) * where(b <= 0.2, 1.0, 0.5)
    return (tanh(bent + maximum(a, -0.5) * cos(h_prev) - minimum(h_prev, b)),), ()


# All of it in one cell, for what costs seconds a cell.
ALL = derive(Cell("all_words", ("a", "b"), ("h",), ("h",), (), 0, _all_fwd))


@pytest.mark.parametrize("name", MATHS)
def test_derived_is_autograds(name):
    cell = derive(make_cell(name))
    assert_gradient_is_autograds(cell, cell)
    problem = make_problem(cell, (4, 3, 4, 5), ragged=True)
    expected, actual = problem.run(reference), problem.run(eager)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", MATHS)
def test_gradcheck_away_from_kinks(name):
    cell = derive(make_cell(name))
    inputs = make_problem(cell, (2, 2, 2, 3)).inputs
    assert torch.autograd.gradcheck(
        lambda x, h_0, *weights: eager(cell, x, (h_0,), dict(zip(("ih", "hh"), weights, strict=True)))[0],
        [inputs[key] for key in ("x", "h_0", "ih", "hh")],
    )


@pytest.mark.parametrize("name", MATHS)
def test_torchs_convention_at_kinks(name):
    cell = derive(make_cell(name))
    points = torch.tensor([0.0, 0.1, 0.5, -0.5], dtype=torch.float64)
    a, b, h = (part.flatten() for part in torch.meshgrid(points, points, points, indexing="ij"))
    leaves = [value.clone().requires_grad_() for value in (a, b, h)]
    state, _ = cell.torch_fwd(tuple(leaves[:2]), tuple(leaves[2:]))
    dstate = torch.randn_like(state[0])
    expected = torch.autograd.grad(state, leaves, dstate, materialize_grads=True)
    torch.testing.assert_close(gradients(cell, (a, b), (h,), (dstate,))[1:], expected, **FLOAT64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_numbers_take_the_dtype_of_the_values(dtype):
    cell = derive(make_cell("step"))
    state, _ = cell.torch_fwd((torch.tensor([0.3], dtype=dtype),) * 2, (torch.tensor([0.7], dtype=dtype),))
    assert state[0].dtype == dtype


def test_saved_values_are_real_numbers():
    assert all("<" not in name for name in ALL.saved) and "a > 0.0" in ALL.source.split("all_words_bwd")[1]


def test_compiled_loops_match_reference():
    pytest.importorskip("numba")
    from rnnlab_kernels.schedules.compiled.api import fused

    assert_close_in_float32(make_problem(ALL, (4, 3, 4, 9), ragged=True), fused)


@pytest.mark.interpret
def test_pointwise_kernels_match_reference():
    from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

    assert_close_in_float32(make_problem(ALL, (4, 3, 4, 5), ragged=True), pointwise)


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", [sequence, step])
def test_one_launch_matches_reference(schedule):
    assert_close_in_float32(make_problem(ALL, (3, 3, 4, 5), ragged=True), schedule)


def _sine_kernel(x_ptr, y_ptr):
    i = tl.arange(0, 512)  # noqa: F821
    x = tl.load(x_ptr + i)  # noqa: F821
    tl.store(y_ptr + i, sin(x))  # noqa: F821
    tl.store(y_ptr + 512 + i, cos(x))  # noqa: F821


@pytest.mark.interpret
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy, of the infinite ones
def test_device_sines_are_accurate_far_out():
    import triton
    import triton.language as tl

    from rnnlab_kernels.cells import device

    x = torch.cat([torch.linspace(-8, 8, 480), 10.0 ** torch.arange(1, 9), -(10.0 ** torch.arange(1, 25))])
    x[-1], x[-2] = math.inf, math.nan
    y = torch.empty(2, 512)
    triton.jit(rebind(_sine_kernel, {"tl": tl, "sin": device.sin, "cos": device.cos}))[(1,)](x, y)
    near = x.abs() <= 1e8
    expected = torch.stack([x.double().sin(), x.double().cos()]).float()
    torch.testing.assert_close(y[:, near], expected[:, near], rtol=0, atol=2e-7)
    assert (y[:, :-2].abs() <= 1.000001).all() and y[:, -2:].isnan().all()


def _edges_kernel(a_ptr, b_ptr, y_ptr):
    i = tl.arange(0, 128)  # noqa: F821
    a = tl.load(a_ptr + i)  # noqa: F821
    tl.store(y_ptr + i, function(a, tl.load(b_ptr + i)))  # noqa: F821


@pytest.mark.interpret
@pytest.mark.parametrize("name", ["maximum", "minimum", "relu_grad"])
def test_device_edges_are_torchs(name):
    import triton
    import triton.language as tl

    from rnnlab_kernels.cells import device

    a, b = torch.cartesian_prod(torch.tensor([*EDGES, 0.0, 0.0]), torch.tensor([*EDGES, 0.0, 0.0]))[:128].T.contiguous()
    a, b = (torch.nn.functional.pad(part, (0, 128 - len(part))) for part in (a, b))
    y = torch.empty(128)
    triton.jit(rebind(_edges_kernel, {"tl": tl, "function": getattr(device, name)}))[(1,)](a, b, y)
    torch.testing.assert_close(y, TORCH_NAMES[name](a, b), equal_nan=True)


@pytest.mark.skipif(INTERPRETING, reason="interpreted kernels cannot be compiled")
@pytest.mark.parametrize("direction", ["fwd", "bwd"])
def test_kernels_compile_without_spilling(direction, monkeypatch):
    pytest.importorskip("triton")
    from rnnlab_kernels.aot import compile_variant, variants

    monkeypatch.setitem(CELLS, ALL.name, ALL)
    monkeypatch.setitem(PARTS, ALL.name, ALL)
    variant = next(v for v in variants() if v.name == f"pointwise_{direction} {ALL.name} bf16 aligned")
    assert compile_variant(variant, 90).faults == []


@pytest.mark.parametrize("name", ["abs", "log", "maximum", "minimum", "relu", "relu_grad"])
def test_edges_are_torchs(name):
    numba = pytest.importorskip("numba")
    from rnnlab_kernels.cells import compiled

    exact, function = getattr(vocabulary, name), getattr(compiled, name)
    a, b = torch.cartesian_prod(torch.tensor(EDGES), torch.tensor(EDGES)).unbind(-1)
    if name in ("abs", "log", "relu"):
        points, call = [a], numba.njit(lambda x: function(x))
    else:
        points, call = [a, b], numba.njit(lambda x, y: function(x, y))
    expected = TORCH_NAMES[name](*points)
    rows = list(zip(*(part.numpy() for part in points), strict=True))
    for found in ([call(*row) for row in rows], [exact(*map(float, row)) for row in rows]):
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float32), expected, equal_nan=True)


def test_where_of_two_numbers_by_hand_is_named():
    with pytest.raises(TypeError, match=r"where of the numbers 1\.0 and 0\.0"):
        TORCH_NAMES["where"](torch.tensor([True]), 1.0, 0.0)
