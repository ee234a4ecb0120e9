"""Level 1: the sequence kernels in Triton's interpreter against the plain loop in float64.

There programs run one after the other, so that those of one batch tile, which have to wait for each other, get a launch
for every step: the same source without its barrier.
"""

import dataclasses
import itertools

import pytest
import torch

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.reference import reference
from tests.covering import few
from tests.kernels.one_launch import in_parts, sequence, sliced
from tests.kernels.problems import (
    CELL_NAMES,
    OPTIONS,
    SIZES,
    UPSTREAMS,
    assert_close_in_float32,
    assert_within_ratio,
    make_problem,
)
from tests.kernels.test_chains import ChainProblem, make
from tests.tolerances import EPS, RATIO

pytestmark = pytest.mark.interpret

SCHEDULES = pytest.mark.parametrize("schedule", [sequence, sliced, in_parts], ids=["whole", "sliced", "in parts"])


@pytest.mark.parametrize("size", [SIZES[0], (3, 2, 5, 37)], ids=str)
@pytest.mark.parametrize(("name", "upstream"), UPSTREAMS)
def test_sequence_matches_reference(name, upstream, size, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], size), sequence, upstream)


@SCHEDULES
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", CELL_NAMES)
def test_sequence_options_match_reference(name, option, schedule, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], (5, 3, 4, 35), **OPTIONS[option]), schedule)


@pytest.mark.parametrize("name", few(["rnn_tanh", "lstm", "gru"], ["gru"]))
def test_several_tiles_of_rows(name, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], (3, 35, 4, 20), ragged=True), sliced)


@SCHEDULES
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", ["rnn_tanh", "gru", "cifg", "peephole_lstm"])
def test_resets_any_mask_and_constants(name, reverse, schedule, poisoned_empty):
    additions, size = Additions(reset=torch.rand(4, 3, 1) < 0.4), (4, 3, 4, 21)
    if name in CHAINS:
        problem = make(name, size, reverse=reverse, additions=additions)
    else:
        plain = make_problem(CELLS[name], size)
        problem = ChainProblem(as_chain(CELLS[name]), plain.inputs, None, reverse, additions)
    for mask in (None, torch.rand(4, 3, 1) < 0.6):
        assert_close_in_float32(dataclasses.replace(problem, mask=mask), schedule)


@pytest.mark.parametrize("name", few(["lstm", "gru"], ["gru"]))
def test_float16_is_within_twice_torchs_error(name):
    problem = make_problem(CELLS[name], (5, 3, 4, 21)).to(torch.float16)
    exact, same_dtype = problem.to(torch.float64).run(reference), problem.run(reference)
    for schedule in (sequence, sliced):
        actual = problem.run(schedule)
        for key, value in exact.items():
            assert_within_ratio(actual[key], same_dtype[key], value, key, RATIO, EPS[torch.float16])


@pytest.mark.parametrize("name", few(["rnn_tanh", "lstm", "gru"], ["lstm"]))
def test_repetition_changes_no_bit_and_slices_only_the_last(name):
    problem = make_problem(CELLS[name], (3, 3, 4, 35), ragged=True).to(torch.float32)
    first, again, in_slices = problem.run(sequence), problem.run(sequence), problem.run(sliced)
    for key, value in first.items():
        assert torch.equal(value, again[key]), key
        torch.testing.assert_close(in_slices[key], value, rtol=1e-5, atol=1e-6)


# The interpreter computes exp in numpy, which warns where the hardware quietly gives inf, as the formula expects.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_finite_at_large_preactivations(name):
    problem = make_problem(CELLS[name], (4, 2, 3, 5), scale=1e4).to(torch.float32)
    assert all(value.isfinite().all() for value in problem.run(sequence).values())


def test_double_backward_names_the_reference_backend():
    problem = make_problem(CELLS["gru"], (2, 2, 2, 3)).to(torch.float32)
    names = ("ih", "hh", "bias_ih", "bias_hh")
    weights = {name: problem.inputs[name] for name in names}
    output, _ = sequence(problem.cell, problem.inputs["x"], (problem.inputs["h_0"],), weights)
    with pytest.raises(RuntimeError, match='backend="reference"'):
        torch.autograd.grad(output.sum(), problem.inputs["x"], create_graph=True)


@pytest.mark.parametrize("name", ["dense_peephole_lstm", "jordan_tanh_sigmoid", "narx3"])
def test_other_chains_are_refused(name):
    problem = make(name, (2, 2, 2, 3)).to(torch.float32)
    with pytest.raises(ValueError, match="cannot run this"):
        problem.run(sequence)


NOISES = {
    "recurrent": Noise(1, recurrent=0.5),
    "candidate": Noise(2**40 + 5, candidate=0.4, first=3),
    "zoneout": Noise(3, zoneout=(0.3, 0.4)),
    "expected": Noise(4, 0.5, 0.5, zoneout=(0.3, 0.6), training=False),
    "all": Noise(5, 0.2, 0.3, (0.4, 0.0), first=7),
}


@pytest.mark.parametrize("schedule", [sequence, sliced], ids=["whole", "sliced"])
@pytest.mark.parametrize(
    ("name", "noise"),
    few(
        [*itertools.product(["rnn_tanh", "lstm", "gru"], NOISES), ("cifg", "all"), ("peephole_lstm", "all")],
        [("lstm", "all"), ("gru", "expected")],
        several=True,
    ),
)
def test_dropout_and_zoneout(name, noise, schedule, poisoned_empty):
    size, drawn = (4, 3, 4, 21), NOISES[noise]
    chain = CHAINS[name] if name in CHAINS else as_chain(CELLS[name])
    drawn = drawn._replace(zoneout=drawn.zoneout[: chain.num_states])
    additions = Additions(reset=torch.rand(4, 3, 1) < 0.3, noise=drawn)
    inputs = (make(name, size) if name in CHAINS else make_problem(CELLS[name], size)).inputs
    mask = torch.rand(4, 3, 1) < 0.7
    for options in ({"mask": None, "reverse": False}, {"mask": mask, "reverse": True}):
        assert_close_in_float32(ChainProblem(chain, inputs, additions=additions, **options), schedule)
