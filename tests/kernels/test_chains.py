"""Chains of stages: their gate maths against autograd and `derive`, schedules against the plain loop, by name of input.

What the chains compute is held against written-out equations in tests/nn/research_equations.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rnnlab_kernels.cells import CELLS, CHAINS, PARTS, bind_torch
from rnnlab_kernels.cells.chain import Chain, Gates, Norm, Product
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.schedules.additions import PLAIN, Additions, Noise
from rnnlab_kernels.schedules.layout import lengths_to_mask
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.kit_torch import eager
from tests.covering import few
from tests.kernels.problems import Problem, assert_close_in_float32, assert_within_ratio
from tests.tolerances import EPS, FLOAT64, RATIO

Shapes = dict[str, tuple[int, ...]]
HAND_WRITTEN = [name for name in PARTS if not name.endswith("_dropped") and not name.startswith("taps")]
DROPPED = [name for name in PARTS if PARTS[name].dropped is not None]

FEW_CHAINS = ("gru_reset_before", "layer_norm_lstm", "narx1")


def gate_rows(gates: int, inputs: int, hidden: int) -> Shapes:
    rows = gates * hidden
    return {"ih": (rows, inputs), "bias_ih": (rows,), "hh": (rows, hidden), "bias_hh": (rows,)}


def shapes_of(name: str, inputs: int, hidden: int) -> tuple[int, Shapes, int]:
    """Return the columns of x, the shapes of all weights, and the width of the states."""
    outputs, rows = hidden + 2, hidden + 3
    peepholes: Shapes = {f"p_{gate}": (hidden,) for gate in "ifo"}
    recurrent_norm: Shapes = {"hh": (4 * hidden, hidden), "gain_hh": (4 * hidden,), "bias_hh": (4 * hidden,)}
    cell_norm: Shapes = {"gain_c": (hidden,), "shift_c": (hidden,)}
    output: Shapes = {"out": (outputs, hidden), "bias_out": (outputs,)}
    taps = int(name.removeprefix("narx")) if name.startswith("narx") else 0
    transition = gate_rows(1, inputs, rows) | {"hh": (rows, hidden), "uh": (hidden, rows), "bias_uh": (hidden,)}
    jordan = gate_rows(1, inputs, hidden) | {"hh": (hidden, outputs), "decay": (outputs,)} | output
    table: dict[str, Callable[[], tuple[int, Shapes, int]]] = {
        "peephole_lstm": lambda: (inputs, gate_rows(4, inputs, hidden) | peepholes, hidden),
        "dense_peephole_lstm": lambda: (
            inputs,
            gate_rows(4, inputs, hidden)
            | {
                "hh": (3 * hidden, 2 * hidden),
                "bias_hh": (3 * hidden,),
                "oh": (hidden, 2 * hidden),
                "bias_oh": (hidden,),
            },
            hidden,
        ),
        "gru_reset_before": lambda: (
            inputs,
            gate_rows(3, inputs, hidden)
            | {"hh": (2 * hidden, hidden), "bias_hh": (2 * hidden,), "nh": (hidden, hidden), "bias_nh": (hidden,)},
            hidden,
        ),
        "layer_norm_rnn_tanh": lambda: (
            inputs,
            gate_rows(1, inputs, hidden) | {"gain": (hidden,), "shift": (hidden,)},
            hidden,
        ),
        # The input part is normalised outside: these two take it as it is, the others multiply.
        "layer_norm_lstm": lambda: (4 * hidden, recurrent_norm | cell_norm, hidden),
        "layer_norm_lstm_gates": lambda: (4 * hidden, recurrent_norm, hidden),
        "layer_norm_lstm_state": lambda: (inputs, gate_rows(4, inputs, hidden) | recurrent_norm | cell_norm, hidden),
        "layer_norm_lstm_output": lambda: (inputs, gate_rows(4, inputs, hidden) | cell_norm, hidden),
        "layer_norm_lstm_only_state": lambda: (inputs, gate_rows(4, inputs, hidden) | cell_norm, hidden),
        "layer_norm_lstm_input": lambda: (
            4 * hidden,
            {"hh": (4 * hidden, hidden), "bias_hh": (4 * hidden,)},
            hidden,
        ),
        "layer_norm_gru": lambda: (
            3 * hidden,
            {"hh": (3 * hidden, hidden), "gain_hh": (3 * hidden,), "bias_hh": (3 * hidden,)},
            hidden,
        ),
        **{
            f"indrnn_{act}": lambda: (inputs, {"ih": (hidden, inputs), "bias_ih": (hidden,), "u": (hidden,)}, hidden)
            for act in ("tanh", "relu", "identity")
        },
        "min_gru": lambda: (inputs, {"ih": (2 * hidden, inputs), "bias_ih": (2 * hidden,)}, hidden),
        "min_lstm": lambda: (inputs, {"ih": (3 * hidden, inputs), "bias_ih": (3 * hidden,)}, hidden),
        "lru": lambda: (
            inputs,
            {"ih": (2 * hidden, inputs), "lambda_re": (hidden,), "lambda_im": (hidden,), "out": (outputs, 2 * hidden)},
            hidden,
        ),
        "jordan_tanh_sigmoid": lambda: (inputs, jordan, outputs),
        "jordan_sigmoid_identity": lambda: (inputs, jordan, outputs),
        "state_space_tanh": lambda: (inputs, transition, hidden),
        "state_space_identity": lambda: (inputs, transition, hidden),
    }
    if taps:
        every = (taps + 1) * hidden
        return inputs, {"ih": (every, inputs), "bias_ih": (every,), "hh": (taps * hidden, outputs), **output}, hidden
    return table[name]()


@dataclass
class ChainProblem(Problem):
    """A `Problem` whose cell is a chain: weights by name, and additions."""

    additions: Additions = PLAIN

    def run(self, schedule: Callable[..., Any], upstream: str = "all") -> dict[str, Tensor]:
        chain: Chain = self.cell  # type: ignore[assignment]
        names = list(self.inputs)

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            return self.results(schedule, *tensors)

        results = dict(zip(("output", *(f"{s}_n" for s in chain.states)), function(*self.inputs.values()), strict=True))
        chosen = {name: value for name, value in results.items() if upstream in ("all", name)}
        generator = torch.Generator().manual_seed(7)
        seeds = {k: torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in results.items()}
        grads = torch.autograd.grad(
            list(chosen.values()),
            list(self.inputs.values()),
            [seeds[name].to(value) for name, value in chosen.items()],
            allow_unused=True,
        )
        for name, grad in zip(names, grads, strict=True):
            results[f"d{name}"] = torch.zeros_like(self.inputs[name]) if grad is None else grad
        return {name: value.detach() for name, value in results.items()}

    def results(self, schedule: Callable[..., Any], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return output and final states for the inputs given in order."""
        named = dict(zip(self.inputs, tensors, strict=True))
        x, state_0 = named.pop("x"), tuple(named.pop(f"{state}_0") for state in self.cell.states)
        output, state_n = schedule(
            self.cell, x, state_0, named, self.mask, reverse=self.reverse, additions=self.additions
        )
        return output, *state_n

    def to(self, dtype: torch.dtype, device: str = "cpu") -> "ChainProblem":
        moved = super().to(dtype, device)
        return ChainProblem(moved.cell, moved.inputs, moved.mask, moved.reverse, self.additions)


def make(name: str, size: tuple[int, int, int, int], **options: Any) -> ChainProblem:
    """Return a float64 problem. Options: bias, ragged, reverse, additions."""
    num_steps, batch, num_inputs, hidden = size
    chain = CHAINS[name]
    columns, shapes, width = shapes_of(name, num_inputs, hidden)
    inputs = {"x": torch.randn(num_steps, batch, columns, dtype=torch.float64)}
    for weight, shape in shapes.items():
        if options.get("bias", True) or not weight.startswith(("bias", "shift")):
            inputs[weight] = torch.empty(shape, dtype=torch.float64).uniform_(-1, 1) / hidden**0.5
    if "decay" in inputs:
        inputs["decay"] = torch.rand_like(inputs["decay"])
    for state in chain.states:
        inputs[f"{state}_0"] = torch.randn(batch, width, dtype=torch.float64)
    mask = None
    if options.get("ragged"):
        mask = lengths_to_mask(torch.randint(0, num_steps + 1, (batch,)), num_steps)
    leaves = {key: value.requires_grad_() for key, value in inputs.items()}
    return ChainProblem(chain, leaves, mask, options.get("reverse", False), options.get("additions", PLAIN))


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **tolerance, msg=lambda text, key=key: f"{key}: {text}")


def gate_inputs(name: str) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    cell = PARTS[name]
    count, carried = cell.num_gates + cell.split, len(cell.carried)
    values = [torch.randn(3, 5, dtype=torch.float64).requires_grad_() for _ in range(count + carried)]
    return tuple(values[:count]), tuple(values[count:])


@pytest.mark.parametrize("name", [name for name in PARTS if name not in CELLS])
def test_gates_bwd_is_the_gradient_of_gates_fwd(name):
    cell = PARTS[name]
    gates, carried = gate_inputs(name)
    state, saved = bind_torch(cell.gates_fwd)(gates, carried)
    dstate = tuple(torch.randn_like(value) for value in state)
    expected = torch.autograd.grad(state, (*gates, *carried), dstate)
    dgates, dcarried = bind_torch(cell.gates_bwd)(dstate, saved, carried, state)
    torch.testing.assert_close((*dgates, *dcarried), expected, **FLOAT64)
    assert len(saved) == len(cell.saved) and len(state) == len(cell.states)
    zeros = tuple(torch.zeros_like(value) for value in dstate)
    dgates, dcarried = bind_torch(cell.gates_bwd)(zeros, saved, carried, state)
    assert all((grad == 0).all() for grad in (*dgates, *dcarried))


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_gradient_is_the_derived_one(name):
    cell = PARTS[name]
    derived = derive(replace(cell, gates_bwd=None, dropped=None))
    gates, carried = gate_inputs(name)
    found = []
    for version in (cell, derived):
        state, saved = bind_torch(version.gates_fwd)(gates, carried)
        dstate = tuple(torch.full_like(value, 0.5) for value in state)
        dgates, dcarried = bind_torch(version.gates_bwd)(dstate, saved, carried, state)
        found.append((*state, *dgates, *dcarried))
    torch.testing.assert_close(*found, **FLOAT64)


@pytest.mark.parametrize("name", DROPPED)
def test_dropped_variant_drops_the_candidate_alone(name):
    cell = PARTS[name]
    gates, carried = gate_inputs(name)
    plain, _ = bind_torch(cell.gates_fwd)(gates, carried)
    fwd = bind_torch(cell.dropped.gates_fwd)
    ones = torch.ones_like(gates[0])
    torch.testing.assert_close(fwd(gates, (*carried, ones))[0], plain, **FLOAT64)
    dropped, _ = fwd(gates, (*carried, 0 * ones))
    candidate = cell.gates.index("g" if "g" in cell.gates else "n")
    grads = torch.autograd.grad([value.sum() for value in dropped], gates, allow_unused=True)
    for k, grad in enumerate(grads):
        of_candidate = candidate <= k and (k < candidate + 1 or cell.split > 0)
        assert grad is not None and (grad == 0).all() or not of_candidate
    # A kept candidate counts in full, scaled by the mask: the change is linear in it.
    half, _ = fwd(gates, (*carried, 0.5 * ones))
    if name in ("cell_state", "open_cell", "gru", "interpolate"):
        torch.testing.assert_close(half[0], (plain[0] + dropped[0]) / 2, **FLOAT64)


SIZES = [(1, 1, 1, 1), (5, 3, 4, 7)]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no-bias-reverse": {"bias": False, "reverse": True},
    "ragged-reverse": {"ragged": True, "reverse": True},
}
UPSTREAMS = [
    (name, up) for name, chain in CHAINS.items() for up in ("all", "output", *(f"{s}_n" for s in chain.states))
]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("name", "upstream"), UPSTREAMS)
def test_eager_matches_reference(name, upstream, option, poisoned_empty):
    for size in SIZES:
        problem = make(name, size, **OPTIONS[option])
        assert_same(problem.run(eager, upstream), problem.run(reference, upstream), **FLOAT64)


def shared(act: Any) -> ChainProblem:
    """Return a problem whose step uses one product's weights and one norm's parameters twice."""
    stages = (
        Product("a", ("h_prev",), "hh", "bias_hh"),
        Norm("b", "a", "gain", "shift"),
        Gates(act, ("inner",), (), "b"),
        Product("c", ("inner",), "hh", "bias_hh"),
        Norm("d", "c", "gain", "shift"),
        Gates(act, ("h",), (), "d", first=None),
    )
    shapes = {"x": (4, 3, 5), "hh": (5, 5), "bias_hh": (5,), "gain": (5,), "shift": (5,), "h_0": (3, 5)}
    inputs = {name: torch.randn(shape, dtype=torch.float64).requires_grad_() for name, shape in shapes.items()}
    return ChainProblem(Chain("shared", ("h",), stages), inputs, None, False)


def test_stages_may_share_parameters(poisoned_empty):
    problem = shared(CELLS["rnn_tanh"])
    assert_same(problem.run(eager), problem.run(reference), **FLOAT64)


def test_a_given_input_part_may_have_any_strides(poisoned_empty):
    problem = shared(CELLS["rnn_tanh"])
    expected = problem.run(reference)
    with torch.no_grad():
        problem.inputs["x"] = problem.inputs["x"].permute(2, 0, 1).contiguous().permute(1, 2, 0)
    problem.inputs["x"].requires_grad_()
    assert_same(problem.run(eager), expected, **FLOAT64)


def kinds_of_additions(num_steps: int, batch: int, num_states: int) -> dict[str, Additions]:
    reset = torch.rand(num_steps, batch, 1) < 0.3
    return {
        "reset": Additions(reset=reset),
        "clip": Additions(clip=0.05),
        "zoneout": Additions(noise=Noise(3, zoneout=(0.3,) * num_states)),
        "zoneout-eval": Additions(noise=Noise(3, zoneout=(0.3,) * num_states, training=False)),
        "dropout": Additions(reset=reset, noise=Noise(5, recurrent=0.4, candidate=0.3)),
    }


@pytest.mark.parametrize("addition", ["reset", "clip", "zoneout", "zoneout-eval", "dropout"])
@pytest.mark.parametrize("name", CHAINS)
def test_eager_walks_match_reference(name, addition, poisoned_empty):
    for options in ({}, {"ragged": True, "reverse": True}):
        additions = kinds_of_additions(5, 3, CHAINS[name].num_states)[addition]
        problem = make(name, (5, 3, 4, 6), additions=additions, **options)
        assert_same(problem.run(eager), problem.run(reference), **FLOAT64)


@pytest.mark.parametrize("name", few(CHAINS, (*FEW_CHAINS, "jordan_tanh_sigmoid")))
def test_eager_passes_gradcheck(name):
    problem = make(name, (3, 2, 2, 3), ragged=True)
    assert torch.autograd.gradcheck(lambda *tensors: problem.results(eager, *tensors), tuple(problem.inputs.values()))


# relu's gradient switches where rounding moves a unit across 0: there is no error bound to hold.
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [name for name in CHAINS if "relu" not in name])
def test_eager_error_in_half_precision_is_within_twice_torchs(name, dtype):
    problem = make(name, (5, 3, 4, 16)).to(dtype)
    exact, same_dtype, actual = problem.to(torch.float64).run(reference), problem.run(reference), problem.run(eager)
    for key, value in exact.items():
        assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[dtype])


# Each cell takes seconds to compile: constants, stages of different widths, a norm, and gates without a product.
@pytest.mark.parametrize("option", ["plain", "ragged-reverse"])
@pytest.mark.parametrize(
    "name", few(("gru_reset_before", "layer_norm_rnn_tanh", "jordan_tanh_sigmoid", "narx1"), ("layer_norm_rnn_tanh",))
)
def test_fused_matches_reference(name, option, poisoned_empty):
    pytest.importorskip("numba")
    from rnnlab_kernels.schedules.compiled.api import fused

    assert_close_in_float32(make(name, (5, 3, 4, 7), **OPTIONS[option]), fused)


# Without a product in the recurrence gradients of weights are summed in the pass: whole tiles of a product and rests,
# more rows than a tile has, and the way with products after it, too.
WITHOUT_PRODUCT = ("indrnn_relu", "min_gru", "min_lstm", "lru")


@pytest.mark.parametrize("option", ["plain", "ragged-reverse"])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (17, 3, 40, 33), (5, 71, 33, 20)], ids=str)
@pytest.mark.parametrize("name", WITHOUT_PRODUCT)
def test_fused_forms_gradients_of_weights_in_the_pass(name, size, option, poisoned_empty):
    pytest.importorskip("numba")
    from rnnlab_kernels.schedules.compiled.api import fused

    assert_close_in_float32(make(name, size, **OPTIONS[option]), fused)


@pytest.mark.parametrize("name", WITHOUT_PRODUCT)
def test_fused_forms_gradients_of_some_weights_and_of_large_ones_after_the_pass(name, monkeypatch, poisoned_empty):
    pytest.importorskip("numba")
    from rnnlab_kernels.schedules.compiled import run
    from rnnlab_kernels.schedules.compiled.api import fused

    problem = make(name, (9, 3, 8, 20)).to(torch.float32)

    def gradients(frozen=""):
        leaves = {key: value.detach().requires_grad_(key != frozen) for key, value in problem.inputs.items()}
        wanted = {key: value for key, value in leaves.items() if key != frozen}
        output, *_ = problem.results(fused, *leaves.values())
        return dict(zip(wanted, torch.autograd.grad(output.square().sum(), list(wanted.values())), strict=True))

    expected = gradients()
    for frozen in problem.inputs:
        for key, grad in gradients(frozen).items():
            torch.testing.assert_close(grad, expected[key], rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(run, "MAX_JOINED", 0)
    torch.testing.assert_close(gradients(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.interpret
@pytest.mark.parametrize("option", ["plain", "ragged-reverse"])
@pytest.mark.parametrize("name", few(CHAINS, FEW_CHAINS))
def test_pointwise_matches_reference(name, option, poisoned_empty):
    from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

    assert_close_in_float32(make(name, (3, 2, 5, 7), **OPTIONS[option]), pointwise)


def test_every_part_is_reached():
    used = {stage.cell.name for chain in CHAINS.values() for stage in chain.stages if isinstance(stage, Gates)}
    assert used | set(CELLS) == {name for name in PARTS if not name.endswith("_dropped")}
    assert len({chain.name for chain in CHAINS.values()}) == len(CHAINS)
