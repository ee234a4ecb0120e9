"""Level 1: launches of one step, their replay in windows, heads, and both directions at once, against the plain loop.

The kernels are those of test_sequence_interpreted.py. A GPU's graphs are stood in for by calls that repeat themselves.
"""

import functools

import pytest
import torch

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.launch import H200
from rnnlab_kernels.schedules.additions import PLAIN, Additions, Noise
from rnnlab_kernels.schedules.layout import block_diagonal
from rnnlab_kernels.schedules.persistent import graphs
from rnnlab_kernels.schedules.reference import reference
from tests.covering import few
from tests.kernels.one_launch import both_ways, plan_sequence, sequence, sliced_plan, step
from tests.kernels.problems import OPTIONS, assert_close_in_float32, make_problem
from tests.kernels.test_chains import ChainProblem, make

pytestmark = pytest.mark.interpret

NOISE = Noise(2**40 + 5, 0.3, 0.4, (0.3, 0.2), first=5)
NAMES = ["rnn_tanh", "gru", "lstm", "peephole_lstm"]


def chain_problem(name, size, noise=NOISE, reverse=False):
    """Return a problem with resets, any mask and every random mask there is."""
    chain = CHAINS[name] if name in CHAINS else as_chain(CELLS[name])
    noise = noise and noise._replace(zoneout=noise.zoneout[: chain.num_states])
    additions = Additions(reset=torch.rand(size[0], size[1], 1) < 0.3, noise=noise)
    inputs = (make(name, size) if name in CHAINS else make_problem(CELLS[name], size)).inputs
    return ChainProblem(chain, inputs, torch.rand(size[0], size[1], 1) < 0.7, reverse, additions)


@pytest.fixture
def replayed(monkeypatch):
    """Windows of three steps, and a function that says how many were captured."""
    monkeypatch.setattr(graphs, "WINDOW", 3)
    monkeypatch.setattr(graphs, "usable", lambda device: True)
    monkeypatch.setattr(graphs, "_capture", lambda run, memory: functools.partial(run, memory))
    monkeypatch.setattr(graphs, "_GRAPHS", type(graphs._GRAPHS)())
    return lambda: len(graphs._GRAPHS)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", few(["rnn_tanh", "gru", "lstm", "cifg"], ["rnn_tanh", "gru"]))
def test_step_matches_reference(name, option, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], (4, 3, 4, 35), **OPTIONS[option]), step)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", NAMES)
def test_step_with_resets_masks_and_noise(name, reverse, poisoned_empty):
    assert_close_in_float32(chain_problem(name, (4, 3, 4, 21), reverse=reverse), step)


@pytest.mark.parametrize("steps", [2, 3, 8])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", few(NAMES, ("lstm",)))
def test_replayed_windows_match_reference(name, reverse, steps, replayed, poisoned_empty):
    assert_close_in_float32(chain_problem(name, (steps, 3, 4, 21), reverse=reverse), step)
    assert replayed() == (0 if steps < 3 else 2)


def test_a_graph_serves_other_lengths_batches_addresses_and_values(replayed):
    for steps, batch in ((7, 3), (10, 16), (3, 1), (7, 3)):
        assert_close_in_float32(make_problem(CELLS["lstm"], (steps, batch, 4, 21)), step)
    assert replayed() == 2
    assert_close_in_float32(make_problem(CELLS["lstm"], (3, 17, 4, 21)), step)  # one more tile of rows
    assert replayed() == 4


def test_without_gradients_and_with_them(replayed):
    problem = make_problem(CELLS["gru"], (7, 3, 4, 21)).to(torch.float32)
    inputs = problem.inputs
    args = (
        CELLS["gru"],
        inputs["x"],
        (inputs["h_0"],),
        {k: inputs[k] for k in ("ih", "hh", "bias_ih", "bias_hh")},
    )
    with torch.no_grad():
        plain = step(*args)[0]
    assert torch.equal(plain, step(*args)[0].detach())


def test_inside_and_outside_of_inference_mode(replayed):
    inputs = make_problem(CELLS["gru"], (7, 3, 4, 21)).to(torch.float32).inputs
    own = {k: inputs[k] for k in ("ih", "hh", "bias_ih", "bias_hh")}
    with torch.inference_mode():
        first = step(CELLS["gru"], inputs["x"], (inputs["h_0"],), own)[0]
    with torch.no_grad():
        assert torch.equal(first, step(CELLS["gru"], inputs["x"], (inputs["h_0"],), own)[0])
    assert replayed() == 1


def test_the_least_recently_used_graph_is_dropped(replayed, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    for hidden in (4, 5, 6):
        make_problem(CELLS["rnn_tanh"], (3, 2, 2, hidden)).to(torch.float32).run(step)
    assert replayed() == 2
    graphs.clear_graphs()
    assert replayed() == 0


def heads_problem(name, size, heads, **options):
    """Return a problem whose recurrent weights are of heads."""
    problem = chain_problem(name, size, **options)
    hidden = size[3]
    rows = problem.inputs["hh"].shape[0] // heads
    weight = torch.empty(heads, rows, hidden // heads, dtype=torch.float64).uniform_(-0.4, 0.4)
    problem.inputs["hh"] = weight.requires_grad_()
    return problem


@pytest.mark.parametrize("which", ["sequence", "step"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", few(NAMES, ("gru",)))
def test_heads_match_the_block_diagonal_matrix(name, reverse, which, poisoned_empty):
    heads, units = 3, 16
    problem = heads_problem(name, (4, 5, 4, heads * units), heads, reverse=reverse)
    run = step
    if which == "sequence":  # heads of fp32 values are planned for no GPU
        plan, _ = plan_sequence(problem.cell, 5, units, 4, *H200)
        run = functools.partial(sequence, plan=plan._replace(grid=(*plan.grid[:2], heads)))
    assert_close_in_float32(problem, run)


def test_a_head_reads_its_own_units_alone():
    weight = torch.arange(2 * 6 * 2.0).view(2, 6, 2)  # two heads, three gates, two units
    dense = block_diagonal(weight).view(3, 2, 2, 2, 2)  # gate, head, unit, head, unit
    for head in range(2):
        assert torch.equal(dense[:, head, :, head], weight[head].view(3, 2, 2))
        assert not dense[:, head, :, 1 - head].any()


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "everything"])
@pytest.mark.parametrize("hidden", [16, 40])
@pytest.mark.parametrize("name", NAMES)
def test_both_ways_are_the_two_directions(name, hidden, plain, poisoned_empty):
    size = (4, 5, 4, hidden)
    problems = [chain_problem(name, size, noise=None if plain else NOISE) for _ in range(2)]
    chain, mask, reset = problems[0].cell, problems[0].mask, problems[0].additions.reset
    additions = [Additions(reset=reset, noise=None if plain else NOISE._replace(seed=seed)) for seed in (3, 2**41)]
    additions = [
        w if plain else w._replace(noise=w.noise._replace(zoneout=(0.3, 0.2)[: chain.num_states])) for w in additions
    ]
    if plain:
        mask, additions = None, [PLAIN, PLAIN]
    plan = sliced_plan(chain, 5, hidden, heads=2)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(4, 5, 2 * hidden, generator=generator), torch.randn(2, 5, hidden, generator=generator)]

    def run(dtype, both):
        inputs = [{k: v.detach().to(dtype).requires_grad_() for k, v in p.inputs.items()} for p in problems]
        x = inputs[0].pop("x")
        del inputs[1]["x"]
        states = [tuple(own.pop(f"{state}_0") for state in chain.states) for own in inputs]
        if both:
            output, finals = both_ways(chain, x, states, inputs, mask, additions=additions, plan=plan)
        else:
            sides = [
                reference(chain, x, states[k], inputs[k], mask, reverse=k == 1, additions=additions[k])
                for k in range(2)
            ]
            output, finals = torch.cat([side[0] for side in sides], -1), [side[1] for side in sides]
        leaves = [x, *(v for own in inputs for v in own.values()), *states[0], *states[1]]
        ends = [part for final in finals for part in final]
        seeds = [upstream[0].to(dtype), *(upstream[1][k % 2].to(dtype) for k in range(len(ends)))]
        return [output, *ends, *torch.autograd.grad([output, *ends], leaves, seeds)]

    for actual, expected in zip(run(torch.float32, True), run(torch.float64, False), strict=True):
        torch.testing.assert_close(actual, expected.float(), rtol=1e-4, atol=2e-5)


def test_both_ways_refuse_additions_that_differ_and_sides_that_do():
    problem = chain_problem("gru", (2, 2, 2, 16)).to(torch.float32)
    own = {k: v for k, v in problem.inputs.items() if k not in ("x", "h_0")}
    args = (problem.cell, problem.inputs["x"], [(problem.inputs["h_0"],)] * 2)
    with pytest.raises(ValueError, match="seeds only"):
        both_ways(*args, [own, own], additions=(PLAIN, Additions(clip=1.0)))
    with pytest.raises(ValueError, match="same weights"):
        both_ways(*args, [own, {k: v for k, v in own.items() if k != "bias_ih"}])
    with pytest.raises(ValueError, match="spill registers in fp32"):
        both_ways(*args, [own, own])


def test_each_dtype_has_a_graph_of_its_own(replayed):
    for dtype, value in ((torch.float16, 1 + 2**-10), (torch.bfloat16, 1e6), (torch.float16, 1 + 2**-10)):
        x, y = torch.full((2, 3), value, dtype=dtype), torch.zeros(2, 3, dtype=dtype)
        parts = {"x": graphs.Part(x, 1), "y": graphs.Part(y, 1, written=True)}
        graphs.replay("copy", lambda memory: memory["y"].copy_(memory["x"]), parts, 4)
        assert torch.equal(y, x)
    assert replayed() == 2


def test_the_memory_of_a_graph_has_all_rows(replayed):
    shapes = []
    parts = {"x": graphs.Part(torch.ones(2, 3), 1), "y": graphs.Part(torch.ones(3), None)}
    graphs.replay("look", lambda memory: shapes.append([tuple(part.shape) for part in memory.values()]), parts, 4)
    assert shapes == [[(2, 4), (3,)]]
