"""The fused CPU schedule against the plain loop in float64, and its vocabulary against the scalar one."""

import math

import pytest
import torch

from rnnlab_kernels import launch
from rnnlab_kernels.cells import CELLS, vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES
from rnnlab_kernels.schedules.reference import reference
from tests.kernels.problems import CELL_NAMES, OPTIONS, SIZE_IDS, SIZES, UPSTREAMS, assert_within_ratio, make_problem
from tests.tolerances import EPS, RATIO

numba = pytest.importorskip("numba")


def fused(*args, **kwargs):
    from rnnlab_kernels.schedules.fused import fused

    return fused(*args, **kwargs)


def assert_close_to_float64(problem, upstream="all"):
    exact, actual = problem.to(torch.float64).run(reference, upstream), problem.run(fused, upstream)
    same_dtype = problem.run(reference, upstream)
    for key, value in exact.items():
        # The default tolerance, unless torch's own float32 sums over many steps come near it too: then the ratio rule.
        if not torch.allclose(actual[key], value.float(), rtol=1.3e-6, atol=1e-5):
            assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[torch.float32])


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@pytest.mark.parametrize(("name", "upstream"), UPSTREAMS)
def test_fused_matches_reference(name, upstream, size, option, poisoned_empty):
    assert_close_to_float64(make_problem(CELLS[name], size, **OPTIONS[option]).to(torch.float32), upstream)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_fused_projection_matches_reference(ragged, poisoned_empty):
    problem = make_problem(CELLS["lstm"], (5, 3, 4, 7), projection=True, ragged=ragged)
    assert_close_to_float64(problem.to(torch.float32))


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_fused_is_finite_at_large_preactivations(name):
    problem = make_problem(CELLS[name], (4, 2, 3, 5), scale=1e4).to(torch.float32)
    assert all(value.isfinite().all() for value in problem.run(fused).values())


@pytest.mark.parametrize("name", CELL_NAMES)
def test_fused_lets_nan_through(name):
    problem = make_problem(CELLS[name], (3, 2, 4, 5)).to(torch.float32)
    with torch.no_grad():
        problem.inputs["x"][1, 0, 2] = float("nan")
    output = problem.run(fused)["output"]
    assert output[0].isfinite().all() and output[1:, 0].isnan().all() and output[:, 1].isfinite().all()


@pytest.mark.parametrize("name", sorted(TORCH_NAMES))
def test_compiled_vocabulary_is_accurate(name):
    from rnnlab_kernels.cells import compiled

    function, exact = getattr(compiled, name), getattr(vocabulary, name)
    num_arguments = exact.__code__.co_argcount
    calls = {1: lambda a: function(a), 2: lambda a, b: function(a, b), 3: lambda a, b, c: function(a, b, c)}
    call = numba.njit(calls[num_arguments])
    for point in torch.linspace(-20, 20, 401).tolist():
        arguments = [torch.tensor(value).numpy()[()] for value in (point, 0.3, -0.2)[:num_arguments]]
        assert math.isclose(
            call(*arguments), exact(*(float(value) for value in arguments)), rel_tol=2e-6, abs_tol=2e-7
        ), (name, point)


def test_fused_supported_says_why_not(monkeypatch):
    assert launch.fused_supported(torch.device("cpu"), torch.float32)[0]
    assert "float64" in launch.fused_supported(torch.device("cpu"), torch.float64)[1]
    assert "cuda" in launch.fused_supported(torch.device("cuda"), torch.float32)[1]
    monkeypatch.setattr(launch, "has_numba", lambda: False)
    assert "rnnlab[cpu]" in launch.fused_supported(torch.device("cpu"), torch.float32)[1]
