"""The eager schedule against the plain loop in float64, every input's gradient for every upstream gradient."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.kit_torch import eager
from tests.covering import few
from tests.kernels.problems import (
    CELL_NAMES,
    OPTIONS,
    SIZE_IDS,
    SIZES,
    UPSTREAMS,
    assert_close_in_float32,
    assert_within_ratio,
    make_problem,
)
from tests.tolerances import EPS, FLOAT64, RATIO


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@pytest.mark.parametrize(("name", "upstream"), UPSTREAMS)
def test_eager_matches_reference(name, upstream, size, option, poisoned_empty):
    problem = make_problem(CELLS[name], size, **OPTIONS[option])
    expected, actual = problem.run(reference, upstream), problem.run(eager, upstream)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("option", ["plain", "reverse", "ragged", "no-bias"])
@pytest.mark.parametrize("size", SIZES[:3], ids=SIZE_IDS[:3])
def test_eager_projection_matches_reference(size, option, poisoned_empty):
    problem = make_problem(CELLS["lstm"], size, projection=True, **OPTIONS[option])
    expected, actual = problem.run(reference), problem.run(eager)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


def as_function(problem, schedule):
    """Return `schedule` as a function of the problem's input tensors, for gradcheck."""

    def function(*tensors):
        named = dict(zip(problem.inputs, tensors, strict=True))
        weights = Weights(*(named.get(key) for key in Weights._fields))
        state_0 = tuple(value for key, value in named.items() if key.endswith("_0"))
        output, state = schedule(problem.cell, named["x"], state_0, weights, problem.mask, reverse=problem.reverse)
        return output, *state

    return function


@pytest.mark.parametrize("option", ["plain", "ragged-reverse"])
@pytest.mark.parametrize("name", few(CELL_NAMES, ("rnn_relu", "lstm", "gru")))
def test_eager_passes_gradcheck_and_gradgradcheck(name, option):
    problem = make_problem(CELLS[name], (3, 2, 2, 3), **OPTIONS[option])
    function = as_function(problem, eager)
    assert torch.autograd.gradcheck(function, tuple(problem.inputs.values()))
    assert torch.autograd.gradgradcheck(function, tuple(problem.inputs.values()))


@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@pytest.mark.parametrize("name", CELL_NAMES)
def test_eager_in_float32_is_close_to_float64(name, size):
    problem = make_problem(CELLS[name], size).to(torch.float32)
    if name == "rnn_identity":  # no bound on its values: torch's own float32 sums may be off by more
        assert_close_in_float32(problem, eager)
        return
    exact, actual = problem.to(torch.float64).run(reference), problem.run(eager)
    for key, value in exact.items():
        torch.testing.assert_close(actual[key], value.float(), msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", SIZES[1:], ids=SIZE_IDS[1:])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_eager_error_in_half_precision_is_within_twice_torchs(name, size, dtype):
    problem = make_problem(CELLS[name], size).to(dtype)
    exact, same_dtype, actual = problem.to(torch.float64).run(reference), problem.run(reference), problem.run(eager)
    for key, value in exact.items():
        # Where rounding moves a unit across 0, relu's gradient switches: there is no error bound to hold.
        if name != "rnn_relu" or not key.startswith("d"):
            assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[dtype])


@pytest.mark.parametrize("name", CELL_NAMES)
def test_eager_leaves_saved_tensors_and_upstream_gradients_alone(name):
    problem = make_problem(CELLS[name], (5, 3, 4, 6))
    inputs = tuple(problem.inputs.values())
    outputs = as_function(problem, eager)(*inputs)
    upstream = [torch.randn_like(value) for value in outputs]
    before = [value.detach().clone() for value in (*inputs, *outputs, *upstream)]
    first = torch.autograd.grad(outputs, inputs, upstream, retain_graph=True)
    second = torch.autograd.grad(outputs, inputs, upstream)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip((*inputs, *outputs, *upstream), before, strict=True))


@pytest.mark.parametrize("name", CELL_NAMES)
def test_eager_accepts_expanded_and_transposed_upstream_gradients(name):
    problem = make_problem(CELLS[name], (4, 3, 2, 5))
    inputs = tuple(problem.inputs.values())
    output, *states = as_function(problem, eager)(*inputs)
    expanded = torch.ones((), dtype=torch.float64).expand_as(output)
    transposed = torch.randn(5, 3, dtype=torch.float64).t()
    actual = torch.autograd.grad((output, states[0]), inputs, (expanded, transposed), retain_graph=True)
    plain = torch.autograd.grad((output, states[0]), inputs, (expanded.clone(), transposed.contiguous()))
    torch.testing.assert_close(actual, plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", CELL_NAMES)
def test_eager_is_finite_at_large_preactivations(name):
    if name == "rnn_relu":
        pytest.skip("relu is unbounded: its values overflow by definition")
    problem = make_problem(CELLS[name], (4, 2, 3, 5), scale=1e4).to(torch.float32)
    assert all(value.isfinite().all() for value in problem.run(eager).values())


def test_eager_padding_may_hold_anything():
    problem = make_problem(CELLS["gru"], (6, 3, 2, 4), ragged=True)
    clean = problem.run(eager)
    with torch.no_grad():
        problem.inputs["x"].masked_fill_(~problem.mask, float("nan"))
    dirty = problem.run(eager)
    for key, value in clean.items():
        torch.testing.assert_close(dirty[key], value, rtol=0, atol=0, msg=lambda text, key=key: f"{key}: {text}")
