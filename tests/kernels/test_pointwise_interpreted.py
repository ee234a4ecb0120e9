"""Level 1: the pointwise kernels in Triton's interpreter, on CPU tensors, against the plain loop in float64."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.reference import reference
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
from tests.tolerances import EPS, RATIO

pytestmark = pytest.mark.interpret


def pointwise(*args, **kwargs):
    # Imported late: outside the interpreter's process this module would fix the kernels as compiled ones.
    from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

    return pointwise(*args, **kwargs)


def assert_close_to_float64(problem, upstream="all"):
    if problem.cell.name == "rnn_identity":  # no bound on its values: torch's own float32 sums may be off by more
        assert_close_in_float32(problem, pointwise, upstream)
        return
    exact = problem.to(torch.float64).run(reference, upstream)
    actual = problem.run(pointwise, upstream)
    for key, value in exact.items():
        torch.testing.assert_close(actual[key], value.float(), msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("size", SIZES[:3], ids=SIZE_IDS[:3])
@pytest.mark.parametrize(("name", "upstream"), UPSTREAMS)
def test_pointwise_matches_reference(name, upstream, size, poisoned_empty):
    assert_close_to_float64(make_problem(CELLS[name], size).to(torch.float32), upstream)


@pytest.mark.parametrize("name", few(CELL_NAMES, ("lstm",)))
def test_pointwise_covers_several_blocks_of_rows(name, poisoned_empty):
    assert_close_to_float64(make_problem(CELLS[name], SIZES[3]).to(torch.float32))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", SIZES[:3], ids=SIZE_IDS[:3])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_options_match_reference(name, size, option, poisoned_empty):
    assert_close_to_float64(make_problem(CELLS[name], size, **OPTIONS[option]).to(torch.float32))


def test_pointwise_covers_several_blocks_of_columns(poisoned_empty):
    assert_close_to_float64(make_problem(CELLS["gru"], (2, 9, 3, 261)).to(torch.float32))


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_pointwise_projection_matches_reference(ragged, poisoned_empty):
    problem = make_problem(CELLS["lstm"], (5, 3, 4, 7), projection=True, ragged=ragged)
    assert_close_to_float64(problem.to(torch.float32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", SIZES[1:3], ids=SIZE_IDS[1:3])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_error_in_half_precision_is_within_twice_torchs(name, size, dtype):
    problem = make_problem(CELLS[name], size).to(dtype)
    exact, same_dtype, actual = problem.to(torch.float64).run(reference), problem.run(reference), problem.run(pointwise)
    for key, value in exact.items():
        # Where rounding moves a unit across 0, relu's gradient switches: there is no error bound to hold.
        if name != "rnn_relu" or not key.startswith("d"):
            assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[dtype])


@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_twice_backward_is_bitwise_equal(name):
    problem = make_problem(CELLS[name], (5, 3, 4, 6)).to(torch.float32)
    first, second = problem.run(pointwise), problem.run(pointwise)
    assert all(torch.equal(first[key], second[key]) for key in first)


# The interpreter computes exp in numpy, which warns where the hardware quietly gives inf, as the formula expects.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_pointwise_is_finite_at_large_preactivations(name):
    problem = make_problem(CELLS[name], (4, 2, 3, 5), scale=1e4).to(torch.float32)
    exact, actual = problem.to(torch.float64).run(reference), problem.run(pointwise)
    assert all(value.isfinite().all() for value in actual.values())
    torch.testing.assert_close(actual["output"], exact["output"].float())


def test_pointwise_double_backward_names_the_reference_backend():
    problem = make_problem(CELLS["gru"], (2, 2, 2, 3)).to(torch.float32)
    x = problem.inputs["x"]
    weights = Weights(*(problem.inputs[name] for name in ("ih", "hh", "bias_ih", "bias_hh")))
    output, _ = pointwise(problem.cell, x, (problem.inputs["h_0"],), weights)
    with pytest.raises(RuntimeError, match='backend="reference"'):
        torch.autograd.grad(output.sum(), x, create_graph=True)


@pytest.mark.parametrize("module", ["RNN", "LSTM", "GRU"])
def test_layers_run_whole_on_interpreted_kernels(module):
    import rnnlab.nn

    ours = getattr(rnnlab.nn, module)(3, 5, num_layers=2, bidirectional=True, backend="triton")
    theirs = getattr(torch.nn, module)(3, 5, num_layers=2, bidirectional=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(6, 4, 3)
    (y, state), (expected, expected_state) = ours(x), theirs(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(state, expected_state)
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}")
