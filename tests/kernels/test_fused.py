"""The fused CPU schedule against the plain loop in float64, and its vocabulary against the scalar one."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rnnlab_kernels import launch
from rnnlab_kernels.cells import CELLS, vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.layout import Weights
from tests.covering import few
from tests.kernels.problems import (
    CELL_NAMES,
    FEW_NAMES,
    FEW_UPSTREAMS,
    OPTIONS,
    SIZE_IDS,
    SIZES,
    UPSTREAMS,
    assert_close_in_float32,
    make_problem,
)

numba = pytest.importorskip("numba")


def fused(*args, **kwargs):
    from rnnlab_kernels.schedules.compiled.api import fused

    return fused(*args, **kwargs)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@pytest.mark.parametrize(("name", "upstream"), few(UPSTREAMS, FEW_UPSTREAMS, several=True))
def test_fused_matches_reference(name, upstream, size, option, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], size, **OPTIONS[option]), fused, upstream)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_fused_projection_matches_reference(ragged, poisoned_empty):
    problem = make_problem(CELLS["lstm"], (5, 3, 4, 7), projection=True, ragged=ragged)
    assert_close_in_float32(problem, fused)


@pytest.mark.parametrize("name", FEW_NAMES)
def test_fused_with_more_rows_than_a_tile_has(name, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], (3, 77, 5, 20), ragged=True), fused)


def test_fused_gives_rows_the_same_bits_on_any_number_of_threads():
    problem, threads = make_problem(CELLS["gru"], (5, 40, 3, 17)).to(torch.float32), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(problem.run(fused))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for key in ("output", "h_n", "dh_0"):
            torch.testing.assert_close(other[key], found[0][key], rtol=0, atol=0)


def test_fused_runs_in_several_threads_at_once():
    problems = [make_problem(CELLS["lstm"], (9, 20 + k, 3, 17)).to(torch.float32) for k in range(4)]
    expected = [problem.run(fused) for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for actual, one in zip(pool.map(lambda problem: problem.run(fused), problems), expected, strict=True):
                torch.testing.assert_close(actual, one, rtol=0, atol=0)


def test_zoneout_takes_a_state_as_it_is_new_or_old():
    problem = make_problem(CELLS["lstm"], (1, 9, 3, 21)).to(torch.float32)
    weights = Weights(*(problem.inputs.get(name) for name in Weights._fields))
    state_0 = problem.inputs["h_0"], problem.inputs["c_0"]
    with torch.no_grad():
        _, new = fused(problem.cell, problem.inputs["x"], state_0, weights)
        additions = Additions(noise=Noise(3, zoneout=(0.5, 0.5)))
        _, mixed = fused(problem.cell, problem.inputs["x"], state_0, weights, additions=additions)
    for value, old, other in zip(mixed, state_0, new, strict=True):
        assert torch.equal((value == old) | (value == other), torch.ones_like(value).bool())
        assert 0.3 < (value == old).float().mean() < 0.7


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_fused_is_finite_at_large_preactivations(name):
    problem = make_problem(CELLS[name], (4, 2, 3, 5), scale=1e4).to(torch.float32)
    assert all(value.isfinite().all() for value in problem.run(fused).values())


@pytest.mark.parametrize("name", few(CELL_NAMES, FEW_NAMES))
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
        found, expected = call(*arguments), exact(*(float(value) for value in arguments))
        close = math.isclose(found, expected, rel_tol=2e-6, abs_tol=2e-7)
        assert close or math.isnan(found) and math.isnan(expected), (name, point)


def test_fused_refuses_what_its_loops_would_misread():
    with pytest.raises(RuntimeError, match="float32, not float64"):
        make_problem(CELLS["lstm"], (3, 2, 4, 5)).run(fused)


def test_fused_reads_values_that_a_flag_negates_and_zeros_without_memory(poisoned_empty):
    leaf, values = make_problem(CELLS["lstm"], (3, 2, 4, 5)).to(torch.float32).inputs, torch.randn(2, 5)
    given = {"ih": leaf["ih"], "hh": leaf["hh"]}
    negated = torch._neg_view(values)
    assert negated.is_neg() and negated.is_contiguous()
    # The gradient of c_n alone: that of h is added to others, which gives it memory of its own.
    for flagged, plain in ((negated, -values), (torch._efficientzerotensor(2, 5), torch.zeros(2, 5))):
        found = []
        for upstream in (flagged, plain):
            _, (_, last) = fused(CELLS["lstm"], leaf["x"], (leaf["h_0"], leaf["c_0"]), given)
            found.append(torch.autograd.grad(last, (leaf["x"], leaf["hh"]), upstream))
        torch.testing.assert_close(*found, rtol=0, atol=0)


def test_fused_takes_saved_tensors_back_in_any_layout(poisoned_empty):
    problem = make_problem(CELLS["gru"], (3, 2, 4, 5)).to(torch.float32)
    expected = problem.run(fused)
    turned = torch.autograd.graph.saved_tensors_hooks(
        lambda x: x.mT.contiguous() if x.dim() > 1 else x, lambda x: x.mT if x.dim() > 1 else x
    )
    with turned:
        actual = problem.run(fused)
    torch.testing.assert_close(actual, expected)


def test_fused_supported_says_why_not(monkeypatch):
    assert launch.fused_supported(torch.device("cpu"), torch.float32)[0]
    assert "float64" in launch.fused_supported(torch.device("cpu"), torch.float64)[1]
    assert "cuda" in launch.fused_supported(torch.device("cuda"), torch.float32)[1]
    monkeypatch.setattr(launch, "has_numba", lambda: False)
    assert "pip install numba" in launch.fused_supported(torch.device("cpu"), torch.float32)[1]
