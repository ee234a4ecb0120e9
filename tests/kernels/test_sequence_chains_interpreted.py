"""Level 1: the kernels for steps of several stages in Triton's interpreter against the plain loop in float64.

There programs run one after the other, so that those of one batch tile, which have to wait for each other, get a launch
for each part of a step between two waits: the same source without its barrier.
"""

import dataclasses

import pytest
import torch

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.cells.layer_norm import LAYER_NORM_RNN
from rnnlab_kernels.launch import A100, H200, MIN_TILE
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.layout import lengths_to_mask
from rnnlab_kernels.schedules.reference import reference
from tests.covering import few
from tests.kernels.one_launch import plan_sequence, sequence, side_by_side, sliced
from tests.kernels.problems import assert_close_in_float32, assert_within_ratio, make_problem
from tests.kernels.test_chains import ChainProblem, make
from tests.tolerances import EPS, RATIO

pytestmark = pytest.mark.interpret
NORMED = ("layer_norm_lstm", "layer_norm_lstm_gates", "layer_norm_lstm_state", "layer_norm_lstm_output")
NAMES = ("layer_norm_rnn_tanh", *NORMED, "layer_norm_lstm_only_state", "layer_norm_gru", "gru_reset_before")
ENDS = ("layer_norm_rnn_tanh", "layer_norm_lstm_state", "layer_norm_gru", "gru_reset_before")

SCHEDULES = pytest.mark.parametrize("schedule", [sequence, sliced], ids=["whole", "sliced"])
OF_ENDS = pytest.mark.parametrize(
    ("name", "schedule"),
    [("layer_norm_lstm_state", sliced), ("layer_norm_gru", sequence), ("gru_reset_before", sliced)],
)


@SCHEDULES
@pytest.mark.parametrize("name", NAMES)
def test_chains_match_reference(name, schedule, poisoned_empty):
    assert_close_in_float32(make(name, (2, 2, 3, 35 if schedule is sliced else 21)), schedule)


@SCHEDULES
@pytest.mark.parametrize("name", NAMES)
def test_no_biases_ragged_and_reverse(name, schedule, poisoned_empty):
    problem = make(name, (2, 3, 2, 10 if schedule is sequence else 17), bias=False, reverse=True)
    mask = lengths_to_mask(torch.tensor([2, 0, 1]), 2)
    assert_close_in_float32(dataclasses.replace(problem, mask=mask), schedule)


@pytest.mark.parametrize("upstream", ["output", "h_n", "c_n"])
def test_each_upstream_gradient_alone(upstream, poisoned_empty):
    assert_close_in_float32(make("layer_norm_lstm_state", (2, 2, 3, 7)), sequence, upstream)


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_problem(name, poisoned_empty):
    assert_close_in_float32(make(name, (1, 1, 1, 1)), sequence)
    if name in ENDS:
        assert_close_in_float32(make(name, (1, 1, 2, 17)), sliced)


@pytest.mark.parametrize("name", ["layer_norm_lstm", "gru_reset_before"])
def test_several_tiles_of_rows(name, poisoned_empty):
    assert_close_in_float32(make(name, (1, 18, 2, 17), ragged=True), sliced)


@pytest.mark.parametrize("hidden", [20, 70])
@pytest.mark.parametrize("name", ["layer_norm_rnn_tanh", "gru_reset_before"])
def test_blocks_along_k_side_by_side(name, hidden, poisoned_empty):
    assert_close_in_float32(make(name, (2, 2, 4, hidden)), side_by_side)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "identity"])
def test_activations_of_the_elman_network(activation, poisoned_empty):
    problem = make("layer_norm_rnn_tanh", (2, 2, 4, 17))
    assert_close_in_float32(dataclasses.replace(problem, cell=LAYER_NORM_RNN[activation]), sliced)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@OF_ENDS
def test_resets_and_any_mask(name, schedule, reverse, poisoned_empty):
    problem = make(name, (3, 4, 2, 17), reverse=reverse, additions=Additions(reset=torch.rand(3, 4, 1) < 0.4))
    mask = torch.rand(3, 4, 1) < 0.6 if reverse else None
    assert_close_in_float32(dataclasses.replace(problem, mask=mask), schedule)


NOISES = {
    "recurrent": Noise(1, recurrent=0.5),
    "candidate": Noise(2**40 + 5, candidate=0.4, first=3),
    "zoneout": Noise(3, zoneout=(0.3, 0.4)),
    "expected": Noise(4, 0.5, 0.5, zoneout=(0.3, 0.6), training=False),
    "all": Noise(5, 0.2, 0.3, (0.4, 0.0), first=7),
}


@pytest.mark.parametrize("noise", few(NOISES, ("zoneout", "all")))
@OF_ENDS
def test_dropout_and_zoneout(name, schedule, noise, poisoned_empty):
    drawn = NOISES[noise]
    drawn = drawn._replace(zoneout=drawn.zoneout[: CHAINS[name].num_states])
    additions = Additions(reset=torch.rand(2, 4, 1) < 0.3, noise=drawn)
    problem = make(name, (2, 4, 2, 17), additions=additions, reverse=noise == "all")
    assert_close_in_float32(dataclasses.replace(problem, mask=torch.rand(2, 4, 1) < 0.7), schedule)


@pytest.mark.parametrize("name", few(["layer_norm_lstm", "layer_norm_gru", "gru_reset_before"], ["layer_norm_gru"]))
def test_float16_is_within_twice_torchs_error(name):
    problem = make(name, (3, 3, 4, 17)).to(torch.float16)
    exact, same_dtype = problem.to(torch.float64).run(reference), problem.run(reference)
    for schedule in (sequence, sliced):
        actual = problem.run(schedule)
        for key, value in exact.items():
            assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[torch.float16])


@pytest.mark.parametrize("name", few(["layer_norm_lstm", "gru_reset_before"], ["gru_reset_before"]))
def test_repetition_changes_no_bit_and_slices_only_the_last(name):
    problem = make(name, (2, 2, 3, 17), ragged=True).to(torch.float32)
    for schedule in (sequence, sliced):
        first, again = problem.run(schedule), problem.run(schedule)
        assert all(torch.equal(value, again[key]) for key, value in first.items())
    whole = problem.run(sequence)
    for key, value in whole.items():
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-5)


# The interpreter computes exp in numpy, which warns where the hardware quietly gives inf, as the formula expects.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("name", ENDS)
def test_finite_at_large_preactivations(name):
    problem = make(name, (2, 2, 3, 5)).to(torch.float32)
    inputs = {key: (1e4 * value.detach()).requires_grad_() for key, value in problem.inputs.items()}
    results = dataclasses.replace(problem, inputs=inputs).run(sequence)
    assert all(value.isfinite().all() for value in results.values())


# Units beyond H, whose values nobody reads, overflow exp.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@SCHEDULES
def test_statistics_do_not_cancel(schedule):
    """A mean a thousand times the deviation: sums of squares less the square of the sum would leave nothing."""
    problem = make("layer_norm_rnn_tanh", (2, 2, 3, 35))
    with torch.no_grad():
        problem.inputs["bias_hh"] += 1000.0
    problem = problem.to(torch.float32)
    expected, actual = problem.to(torch.float64).run(reference), problem.run(schedule)
    torch.testing.assert_close(actual["output"], expected["output"].float(), rtol=1e-3, atol=1e-3)


def test_without_gradients_the_result_is_the_same(poisoned_empty):
    for name, schedule in (("layer_norm_lstm", sequence), ("gru_reset_before", sliced)):
        problem = make(name, (3, 2, 3, 17)).to(torch.float32)
        expected = problem.run(schedule)["output"]
        with torch.no_grad():
            output, *_ = problem.results(schedule, *problem.inputs.values())
        assert torch.equal(output, expected)


def test_gradients_that_nobody_needs_are_none():
    problem = make("gru_reset_before", (2, 2, 2, 3)).to(torch.float32)
    for name in ("x", "nh", "h_0"):
        problem.inputs[name].requires_grad_(False)
    output, _ = problem.results(sequence, *problem.inputs.values())
    output.sum().backward()
    assert all((value.grad is not None) == value.requires_grad for value in problem.inputs.values())


def test_double_backward_names_the_reference_backend():
    problem = make("layer_norm_gru", (2, 2, 2, 3)).to(torch.float32)
    output, _ = problem.results(sequence, *problem.inputs.values())
    with pytest.raises(RuntimeError, match='backend="reference"'):
        torch.autograd.grad(output.sum(), problem.inputs["x"], create_graph=True)


OTHERS = ("peephole_lstm", "layer_norm_lstm_input", "indrnn", "min_")  # chains of one product, or of none


@pytest.mark.parametrize("name", [name for name in CHAINS if name not in NAMES and not name.startswith(OTHERS)])
def test_other_chains_are_refused(name):
    from rnnlab_kernels.schedules.persistent.wiring import refusal

    assert len(refusal(CHAINS[name])) > 20
    with pytest.raises(ValueError, match="cannot run this"):
        make(name, (2, 2, 2, 3)).to(torch.float32).run(sequence)


@pytest.mark.parametrize("schedule", [sequence, sliced], ids=["whole", "sliced"])
@pytest.mark.parametrize("name", ["lstm", "layer_norm_gru", "gru_reset_before", "indrnn_relu", "min_lstm"])
def test_clipped_gradients_are_those_of_the_plain_loop_and_counted(name, schedule, poisoned_empty):
    chain, seen = CHAINS[name] if name in CHAINS else as_chain(CELLS[name]), []
    inputs = (make(name, (3, 4, 2, 17)) if name in CHAINS else make_problem(CELLS[name], (3, 4, 2, 17))).inputs

    def count(grad, limit, valid):
        seen.append(int(((grad.abs() > limit) & (True if valid is None else valid)).sum()))

    additions = Additions(reset=torch.rand(3, 4, 1) < 0.3, clip=0.3, counter=count)
    problem = ChainProblem(chain, inputs, torch.rand(3, 4, 1) < 0.7, True, additions)
    assert_close_in_float32(problem, schedule)
    counts = []
    for run in (reference, schedule):
        seen.clear()
        problem.to(torch.float32).run(run)
        counts.append(sum(seen))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("chip", [A100, H200], ids=["A100", "H200"])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_plans_cover_the_layer_and_fit_on_the_chip(name, itemsize, chip):
    from rnnlab_kernels.schedules.persistent.wiring import wire

    chain: Chain = CHAINS[name]
    products = wire(chain, ()).products
    for batch in (1, 20, 300):
        for hidden in (1, 20, 63, 64, 200, 512, 1024):
            plan, reason = plan_sequence(chain, batch, hidden, itemsize, *chip)
            if plan is None:
                assert hidden >= 200 and "do not fit" in reason
                continue
            options, (slices, tiles, _) = plan.options, plan.grid
            assert (slices - 1) * options["UNITS"] < hidden <= slices * options["UNITS"]
            assert (tiles - 1) * options["BLOCK_B"] < batch <= tiles * options["BLOCK_B"]
            assert (options["NUM_K"] - 1) * options["BLOCK_K"] < hidden <= options["NUM_K"] * options["BLOCK_K"]
            assert min(options["UNITS"], options["BLOCK_B"], options["BLOCK_K"]) >= MIN_TILE
            assert slices == 1 or slices * tiles <= chip[0]  # who waits for others must not wait for a multiprocessor
            rows = max(sum(stage.rows for stage in products), sum(len(stage.out) for stage in products))
            assert options["UNITS"] * rows * hidden * itemsize < chip[1]
