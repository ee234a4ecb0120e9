"""Cells without a recurrent product, whole sequences at once: compiled calls and interpreted kernels against the loop.

The level 0 test of the gate maths in float64 is here as well; the loop itself is plain autograd over it.
"""

import pytest
import torch

from rnnlab_kernels import launch
from rnnlab_kernels.cells import Cell, bind_torch
from rnnlab_kernels.cells.chain import without_product
from rnnlab_kernels.cells.indrnn import INDRNN_IDENTITY, INDRNN_RELU, INDRNN_TANH
from rnnlab_kernels.cells.lstm import LSTM
from rnnlab_kernels.cells.min_rnn import MIN_GRU, MIN_LSTM
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad
from rnnlab_kernels.schedules.compiled.api import fused
from rnnlab_kernels.schedules.persistent.api import sequence
from rnnlab_kernels.schedules.reference import reference
from tests.conftest import INTERPRETING
from tests.covering import few
from tests.kernels.problems import assert_within_ratio
from tests.tolerances import EPS, FLOAT64, RATIO


def _two_fwd(gates, carried):
    z, f, o = gates
    c_prev, v_f, v_o = carried
    f = sigmoid(fma(v_f, c_prev, f))
    c = fma(f, c_prev - z, z)
    o = sigmoid(fma(v_o, c_prev, o))
    return (o * tanh(c), c), (z, f, o)


def _two_bwd(dstate, saved, carried, state):
    dh, dc = dstate
    z, f, o = saved
    c_prev, v_f, v_o = carried
    h, c = state
    tanh_c = tanh(c)
    do = sigmoid_grad(dh * tanh_c, o)
    dc = dc + tanh_grad(dh * o, tanh_c)
    df = sigmoid_grad(dc * (c_prev - z), f)
    return (dc - dc * f, df, do), (dc * f + df * v_f + do * v_o, df * c_prev, do * c_prev)


# Two states of which h is not carried, three gates, saved values, two constants (in the manner of Lei et al., 2018).
TWO = Cell("two", ("z", "f", "o"), ("h", "c"), ("c", "v_f", "v_o"), ("z", "f", "o"), 0, _two_fwd, _two_bwd)


def _swap_fwd(gates, carried):
    (a,) = gates
    c_prev, h_prev = carried
    h = tanh(a + c_prev)
    return (h, 0.5 * h_prev - 0.3 * c_prev), ()


def _swap_bwd(dstate, saved, carried, state):
    dh, dc = dstate
    h, c = state
    c_prev, h_prev = carried
    da = tanh_grad(dh, h)
    return (da,), (da - 0.3 * dc, 0.5 * dc)


# Both states carried, in another order than that of `states`, and no constant.
SWAP = Cell("swap", ("a",), ("h", "c"), ("c", "h"), (), 0, _swap_fwd, _swap_bwd)

CELLS = {cell.name: cell for cell in (INDRNN_TANH, INDRNN_RELU, INDRNN_IDENTITY, MIN_GRU, MIN_LSTM, TWO, SWAP)}
NUM_CONSTANTS = {name: len(set(cell.carried) - set(cell.states)) for name, cell in CELLS.items()}
SIZES = [(1, 1, 1), (3, 2, 7), (17, 3, 63), (33, 5, 20)]
SIZE_IDS = ["x".join(map(str, size)) for size in SIZES]
OPTIONS = {"plain": {}, "reverse": {"reverse": True}, "ragged": {"ragged": True}}
OPTIONS["ragged-reverse"] = {"reverse": True, "ragged": True}
METHODS = {"loop": reference, "numba": fused, "triton": sequence}
needs_numba = pytest.mark.skipif(not launch.has_numba(), reason="Numba is not installed")
EACH_CELL = pytest.mark.parametrize("name", CELLS)
COMPILED_CELL = pytest.mark.parametrize("name", few(CELLS, ("two",)))


class Problem:
    """Inputs of one call by name, leaf tensors that require gradients; gates outside the mask are NaN."""

    def __init__(self, name, size, reverse=False, ragged=False, dtype=torch.float64):
        self.cell, self.reverse, (num_steps, batch, hidden) = CELLS[name], reverse, size
        gates = torch.randn(num_steps, batch, self.cell.num_gates * hidden, dtype=torch.float64)
        self.mask = None
        if ragged:
            self.mask = torch.rand(num_steps, batch, 1) < 0.6
            gates = torch.where(self.mask, gates, float("nan"))
        self.inputs = {"gates_x": gates}
        self.inputs |= {f"{state}_0": torch.randn(batch, hidden, dtype=torch.float64) for state in self.cell.states}
        for k in range(NUM_CONSTANTS[name]):
            self.inputs[f"constant_{k}"] = torch.rand(hidden, dtype=torch.float64) * 1.6 - 0.8
        self.inputs = {name: value.to(dtype).requires_grad_() for name, value in self.inputs.items()}

    def to(self, dtype):
        other = object.__new__(Problem)
        other.cell, other.mask, other.reverse = self.cell, self.mask, self.reverse
        other.inputs = {name: value.detach().to(dtype).requires_grad_() for name, value in self.inputs.items()}
        return other

    def call(self, method, inputs=None):
        values = list(self.inputs.values()) if inputs is None else list(inputs)
        gates_x, *rest = values
        chain, num_states = without_product(self.cell), len(self.cell.states)
        constants = dict(zip(chain.constants, rest[num_states:], strict=True))
        output, state_n = METHODS[method](
            chain, gates_x, tuple(rest[:num_states]), constants, self.mask, reverse=self.reverse
        )
        return {"output": output, **{f"{s}_n": value for s, value in zip(self.cell.states, state_n, strict=True)}}

    def run(self, method, upstream="all"):
        results = self.call(method)
        chosen = {name: value for name, value in results.items() if upstream in ("all", name)}
        generator = torch.Generator().manual_seed(7)
        seeds = {k: torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in results.items()}
        grads = torch.autograd.grad(
            list(chosen.values()),
            list(self.inputs.values()),
            [seeds[name].to(value) for name, value in chosen.items()],
            allow_unused=True,
        )
        for (name, value), grad in zip(self.inputs.items(), grads, strict=True):
            results[f"d{name}"] = torch.zeros_like(value) if grad is None else grad
        return {name: value.detach() for name, value in results.items()}


def assert_close_to_float64(problem, method, upstream="all"):
    """Assert the default tolerance at both ends of time and between, or, where the loop is off by more, the ratio."""
    exact, same_dtype = problem.to(torch.float64).run("loop", upstream), problem.run("loop", upstream)
    actual = problem.run(method, upstream)
    for name, value in exact.items():
        assert actual[name].isfinite().all(), f"{name}: not finite"
        if not torch.allclose(actual[name], value.float(), rtol=1.3e-6, atol=1e-5):
            assert_within_ratio(actual[name], same_dtype[name], value, name, RATIO, EPS[torch.float32])


@EACH_CELL
def test_gates_bwd_is_the_gradient_of_gates_fwd(name):
    cell = CELLS[name]
    fwd, bwd = bind_torch(cell.gates_fwd), bind_torch(cell.gates_bwd)
    gates = tuple(torch.randn(3, 5, dtype=torch.float64).requires_grad_() for _ in cell.gates)
    carried = tuple(torch.randn(3, 5, dtype=torch.float64).requires_grad_() for _ in cell.carried)
    state, saved = fwd(gates, carried)
    dstate = tuple(torch.randn_like(value) for value in state)
    expected = torch.autograd.grad(state, (*gates, *carried), dstate)
    dgates, dcarried = bwd(dstate, saved, carried, state)
    torch.testing.assert_close((*dgates, *dcarried), expected, **FLOAT64)
    assert len(saved) == len(cell.saved) and len(state) == len(cell.states)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(("name", "act"), [("indrnn_tanh", torch.tanh), ("indrnn_relu", torch.relu)])
def test_the_loop_is_the_published_equation(name, act, reverse):
    problem = Problem(name, (5, 2, 3), reverse=reverse)
    gates_x, h, u = problem.inputs.values()
    results = problem.call("loop")
    for t in reversed(range(5)) if reverse else range(5):
        h = act(gates_x[t] + u * h)
        torch.testing.assert_close(results["output"][t], h, **FLOAT64)
    torch.testing.assert_close(results["h_n"], h, **FLOAT64)


def test_the_identity_is_a_linear_scan():
    from rnnlab_kernels.schedules.scan.linear_scan import linear_scan

    problem = Problem("indrnn_identity", (6, 2, 3))
    gates_x, h_0, u = problem.inputs.values()
    actual = problem.call("loop")["output"]
    torch.testing.assert_close(actual, linear_scan(u.expand_as(gates_x), gates_x, h_0), **FLOAT64)


@needs_numba
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@COMPILED_CELL
def test_compiled_calls_match_the_loop(name, size, option, poisoned_empty):
    assert_close_to_float64(Problem(name, size, **OPTIONS[option], dtype=torch.float32), "numba")


@needs_numba
@pytest.mark.parametrize("upstream", ["output", "h_n", "c_n"])
def test_compiled_calls_with_one_upstream_gradient(upstream, poisoned_empty):
    assert_close_to_float64(Problem("two", (5, 2, 3), ragged=True, dtype=torch.float32), "numba", upstream)


@needs_numba
@COMPILED_CELL
def test_compiled_calls_have_second_derivatives(name):
    problem = Problem(name, (4, 2, 3), reverse=True, dtype=torch.float32)
    inputs = list(problem.inputs.values())

    def call(method):
        total = sum(value.pow(2).sum() for value in problem.call(method).values())
        grads = torch.autograd.grad(total, inputs, create_graph=True, materialize_grads=True)
        return torch.autograd.grad(sum(grad.pow(2).sum() for grad in grads), inputs, materialize_grads=True)

    torch.testing.assert_close(call("numba"), call("loop"), rtol=1e-5, atol=1e-4)


@EACH_CELL
def test_first_and_second_derivatives_of_the_loop(name):
    problem = Problem(name, (3, 1, 2))
    inputs = list(problem.inputs.values())
    assert torch.autograd.gradcheck(lambda *x: tuple(problem.call("loop", x).values()), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: tuple(problem.call("loop", x).values()), inputs)


@needs_numba
@COMPILED_CELL
def test_compiled_calls_with_one_gradient_wanted_and_with_none(name, poisoned_empty):
    problem = Problem(name, (4, 2, 3), dtype=torch.float32)
    exact, with_graph = problem.run("loop"), problem.call("numba")
    with torch.no_grad():
        without_graph = problem.call("numba")
    for key, value in without_graph.items():
        assert torch.equal(value, with_graph[key]), key
    for wanted in problem.inputs:
        single = problem.to(torch.float32)
        for key, value in single.inputs.items():
            value.requires_grad_(key == wanted)
        results = single.call("numba")
        generator = torch.Generator().manual_seed(7)
        seeds = [torch.randn(v.shape, generator=generator, dtype=torch.float64).float() for v in results.values()]
        (grad,) = torch.autograd.grad(list(results.values()), single.inputs[wanted], seeds, materialize_grads=True)
        torch.testing.assert_close(grad, exact[f"d{wanted}"], rtol=1e-5, atol=1e-5)


@needs_numba
def test_any_strides_and_results_changed_in_place(poisoned_empty):
    problem = Problem("two", (5, 3, 4), dtype=torch.float32)
    expected = problem.run("loop")
    problem.inputs = {
        key: value.detach().mT.contiguous().mT.requires_grad_() if value.dim() > 1 else value
        for key, value in problem.inputs.items()
    }
    results = problem.call("numba")
    loss = sum(value.mul_(2.0).sum() for value in results.values())
    plain = sum(2.0 * value.sum() for value in problem.call("loop").values())
    inputs = list(problem.inputs.values())
    grads, exact = (torch.autograd.grad(value, inputs, materialize_grads=True) for value in (loss, plain))
    torch.testing.assert_close(grads, exact)
    torch.testing.assert_close(results["output"].detach(), 2 * expected["output"])


@needs_numba
def test_numba_twice_backward_is_bitwise_equal():
    problem = Problem("two", (9, 3, 5), dtype=torch.float32)
    first, second = problem.run("numba"), problem.run("numba")
    assert all(torch.equal(first[key], second[key]) for key in first)


@needs_numba
@pytest.mark.parametrize("size", [(3, 0, 4), (3, 2, 0)], ids=str)
def test_no_rows_and_no_units(size):
    results = Problem("indrnn_tanh", size, dtype=torch.float32).run("numba")
    assert results["output"].shape == results["dgates_x"].shape == size
    assert results["h_n"].shape == results["dh_0"].shape == size[1:]


def test_a_cell_that_needs_a_product_is_refused():
    split = Cell("split", ("a",), ("h",), ("h",), (), 1, LSTM.gates_fwd, LSTM.gates_bwd)
    with pytest.raises(ValueError, match="product"):
        without_product(split)


@needs_numba
def test_double_precision_is_refused():
    with pytest.raises(RuntimeError, match="fused.*float64"):
        Problem("indrnn_tanh", (3, 2, 4)).run("numba")


@pytest.mark.interpret
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 2, 7), (5, 3, 63), (3, 2, 130)], ids=str)
@COMPILED_CELL
def test_interpreted_kernels_match_the_loop(name, size, option, poisoned_empty):
    assert_close_to_float64(Problem(name, size, **OPTIONS[option], dtype=torch.float32), "triton")


@pytest.mark.interpret
@pytest.mark.parametrize("upstream", ["output", "h_n", "c_n"])
def test_interpreted_kernels_with_one_upstream_gradient(upstream, poisoned_empty):
    assert_close_to_float64(Problem("two", (5, 2, 3), ragged=True, dtype=torch.float32), "triton", upstream)


@pytest.mark.interpret
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["indrnn_tanh", "two", "swap"])
def test_interpreted_kernels_in_half_precision(name, dtype):
    problem = Problem(name, (9, 2, 7), dtype=dtype)
    exact, same_dtype, actual = problem.to(torch.float64).run("loop"), problem.run("loop"), problem.run("triton")
    for key, value in exact.items():
        assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[dtype])


@pytest.mark.interpret
def test_interpreted_kernels_without_a_graph_and_with_strides(poisoned_empty):
    problem = Problem("two", (4, 3, 5), dtype=torch.float32)
    problem.inputs = {key: value.detach() for key, value in problem.inputs.items()}
    problem.inputs["gates_x"] = problem.inputs["gates_x"].transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(problem.call("triton"), problem.call("loop"))


@pytest.mark.interpret
def test_interpreted_double_backward_names_the_reference_backend():
    problem = Problem("indrnn_tanh", (2, 2, 3), dtype=torch.float32)
    with pytest.raises(RuntimeError, match='backend="reference"'):
        torch.autograd.grad(problem.call("triton")["output"].sum(), problem.inputs["gates_x"], create_graph=True)


@pytest.mark.skipif(INTERPRETING or launch.triton_version() is None, reason="kernels cannot be compiled here")
@pytest.mark.parametrize("name", ["fwd indrnn_tanh fp32 64x63", "bwd indrnn_tanh bf16 64x128"])
def test_kernels_compile_without_spilling(name):
    from rnnlab_kernels.aot import compile_variant, planned_variants

    variants = {(variant.name, variant.capabilities[0]): variant for variant in planned_variants()}
    assert len([other for other, _ in variants if "indrnn" in other]) == 2 * 3 * 2 * 3 * 2
    found = [compile_variant(variants[f"sequence_{name}", capability], capability) for capability in (80, 90)]
    assert [report.faults for report in found] == [[], []]
