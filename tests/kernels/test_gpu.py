"""Level 3: compiled kernels on a CUDA device, by time step, against float64 on the CPU. Run by `make test-gpu`."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.scan.linear_scan import linear_scan
from tests.conftest import INTERPRETING
from tests.kernels.one_launch import both_ways, sequence, step
from tests.kernels.problems import (
    CELL_NAMES,
    OPTIONS,
    SIZE_IDS,
    SIZES,
    assert_close_in_float32,
    assert_within_ratio,
    make_problem,
)
from tests.kernels.test_chains import ChainProblem, make
from tests.tolerances import EPS, RATIO

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(INTERPRETING, reason="compares compiled kernels")]

ALL_SIZES = [*SIZES, (64, 16, 32, 64), (512, 4, 8, 128)]
ALL_IDS = [*SIZE_IDS, "64x16x32x64", "512x4x8x128"]


def pointwise(*args, **kwargs):
    from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

    return pointwise(*args, **kwargs)


# One program a tile, several that wait for each other, and as many as the chip has multiprocessors, whose gradients are
# exchanged in parts. Each is a compilation or four: not all dtypes, sizes and options meet.
LARGE = (200, 32, 8, 768)
SEQUENCES = [
    *((torch.float32, (33, 5, 20, 100), option) for option in OPTIONS),
    *((torch.float16, (300, 16, 32, 64), option) for option in ("plain", "ragged-reverse")),
    *((torch.bfloat16, (300, 16, 32, 512), option) for option in ("plain", "ragged-reverse")),
    *((dtype, LARGE, "plain") for dtype in (torch.bfloat16, torch.float16)),
]


def assert_no_worse_than_torch(problem, schedule, dtype):
    """Assert that a schedule repeats itself, and that its error is at most twice that of torch in the same dtype."""
    exact = problem.to(torch.float64).run(reference)
    on_device = problem.to(dtype, "cuda")
    same_dtype, actual, again = on_device.run(reference), on_device.run(schedule), on_device.run(schedule)
    for key, value in exact.items():
        assert torch.equal(actual[key], again[key]), key
        mine = actual[key].cpu()
        # Of small float32 values torch's own error is now and then none.
        if dtype != torch.float32 or not torch.allclose(mine, value.float(), rtol=1.3e-6, atol=1e-5):
            assert_within_ratio(mine, same_dtype[key].cpu(), value, key, RATIO, EPS[dtype])


@pytest.mark.parametrize(("dtype", "size", "option"), SEQUENCES, ids=lambda value: str(value).replace(", ", "x"))
@pytest.mark.parametrize("schedule", [sequence, step])
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_sequence_and_step_are_no_worse_than_torch(name, schedule, dtype, size, option, poisoned_empty):
    assert_no_worse_than_torch(make_problem(CELLS[name], size, **OPTIONS[option]).to(dtype), schedule, dtype)


# Layer norms and the reset gate before the product: chains whose programs exchange values within a step.
STAGES = [
    "layer_norm_rnn_tanh",
    "layer_norm_lstm_state",
    "layer_norm_lstm_output",
    "layer_norm_gru",
    "gru_reset_before",
]


@pytest.mark.parametrize(
    ("dtype", "size", "option"),
    [(torch.float32, (33, 5, 20, 100), "ragged-reverse"), (torch.bfloat16, (100, 16, 32, 512), "plain")],
    ids=lambda value: str(value).replace(", ", "x"),
)
@pytest.mark.parametrize("name", STAGES)
def test_chains_are_no_worse_than_torch(name, dtype, size, option, poisoned_empty):
    assert_no_worse_than_torch(make(name, size, **OPTIONS[option]).to(dtype), sequence, dtype)


@pytest.mark.parametrize("schedule", [sequence, step])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_heads_are_the_block_diagonal_matrix(name, schedule, poisoned_empty):
    problem = make_problem(CELLS[name], (100, 16, 8, 768)).to(torch.bfloat16)
    weight = torch.empty(12, problem.inputs["hh"].shape[0] // 12, 64, dtype=torch.bfloat16).uniform_(-0.1, 0.1)
    problem.inputs["hh"] = weight.requires_grad_()
    problem = ChainProblem(as_chain(CELLS[name]), problem.inputs, None, False)
    exact = problem.to(torch.float64).run(reference)
    on_device = problem.to(torch.bfloat16, "cuda")
    same_dtype, actual = on_device.run(reference), on_device.run(schedule)
    for key, value in exact.items():
        assert_within_ratio(actual[key].cpu(), same_dtype[key].cpu(), value, key, RATIO, EPS[torch.bfloat16])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_both_ways_are_the_two_directions(name, poisoned_empty):
    problems = [make_problem(CELLS[name], (100, 16, 8, 256)).to(torch.float16, "cuda") for _ in range(2)]
    x, upstream = problems[0].inputs["x"], torch.randn(100, 16, 512, device="cuda", dtype=torch.float16)
    weights = [{k: v for k, v in p.inputs.items() if k != "x" and not k.endswith("_0")} for p in problems]
    states = [tuple(v for k, v in p.inputs.items() if k.endswith("_0")) for p in problems]
    leaves = [x, *(v for own in weights for v in own.values())]

    def grads(output):
        return [output, *torch.autograd.grad(output, leaves, upstream)]

    sides = [
        sequence(CELLS[name], x, states[k], weights[k], None, reverse=k == 1)[0] for k in range(2)
    ]  # held to float64 above
    together = both_ways(CELLS[name], x, states, weights)[0]
    for actual, expected in zip(grads(together), grads(torch.cat(sides, -1)), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)


def test_graphs_follow_other_lengths_batches_and_addresses(poisoned_empty):
    from rnnlab_kernels.schedules.persistent import graphs

    graphs.clear_graphs()
    for steps, batch in ((70, 16), (33, 5), (128, 1), (70, 16)):
        assert_close_in_float32(make_problem(CELLS["lstm"], (steps, batch, 4, 100)), step, device="cuda")
    assert len(graphs._GRAPHS) == 2


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru", "cifg"])
def test_sequence_makes_the_masks_of_the_plain_loop(name, poisoned_empty):
    chain, size = as_chain(CELLS[name]), (50, 16, 8, 512)
    noise = Noise(2**40 + 1, 0.3, 0.3, (0.3,) * chain.num_states, first=5)
    additions = Additions(reset=(torch.rand(size[0], size[1], 1) < 0.1).cuda(), noise=noise)
    problem = ChainProblem(chain, make_problem(CELLS[name], size).inputs, None, False, additions).to(
        torch.float32, "cuda"
    )
    expected, actual = problem.run(reference), problem.run(sequence)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-4, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def test_a_barrier_in_every_step_of_a_long_sequence(poisoned_empty):
    # The values of a step depend on all units of the step before: a stale read would show in what follows.
    problem = make_problem(CELLS["rnn_tanh"], (20_000, 16, 1, 1024)).to(torch.bfloat16, "cuda")
    weights = Weights(*(problem.inputs[name] for name in ("ih", "hh", "bias_ih", "bias_hh")))
    with torch.no_grad():
        runs = [sequence(problem.cell, problem.inputs["x"], (problem.inputs["h_0"],), weights)[0] for _ in range(2)]
    assert torch.equal(*runs) and runs[0].isfinite().all()


@pytest.mark.parametrize("option", ["plain", "ragged-reverse"])
@pytest.mark.parametrize("size", ALL_SIZES, ids=ALL_IDS)
@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_in_float32_is_close_to_float64(name, size, option, poisoned_empty):
    assert_close_in_float32(make_problem(CELLS[name], size, **OPTIONS[option]), pointwise, device="cuda")


@pytest.mark.parametrize("upstream", ["output", "h_n", "c_n"])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_takes_each_upstream_gradient_alone(name, upstream, poisoned_empty):
    if upstream.removesuffix("_n") not in (*CELLS[name].states, "output"):
        pytest.skip(f"{name} has no {upstream}")
    assert_close_in_float32(make_problem(CELLS[name], (17, 3, 8, 63)), pointwise, upstream, device="cuda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", ALL_SIZES[1:], ids=ALL_IDS[1:])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_error_in_half_precision_is_within_twice_torchs(name, size, dtype):
    problem = make_problem(CELLS[name], size).to(dtype)
    exact = problem.to(torch.float64).run(reference)
    on_device = problem.to(dtype, "cuda")
    same_dtype, actual = on_device.run(reference), on_device.run(pointwise)
    for key, value in exact.items():
        # Where rounding moves a unit across 0, relu's gradient switches: there is no error bound to hold.
        if name != "rnn_relu" or not key.startswith("d"):
            assert_within_ratio(actual[key].cpu(), same_dtype[key].cpu(), value, key, RATIO, EPS[dtype])


@pytest.mark.parametrize("name", CELL_NAMES)
def test_pointwise_runs_are_bitwise_equal(name):
    problem = make_problem(CELLS[name], (33, 5, 20, 100)).to(torch.float32, "cuda")
    first, second = problem.run(pointwise), problem.run(pointwise)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_pointwise_is_finite_at_large_preactivations(name):
    problem = make_problem(CELLS[name], (4, 2, 3, 5), scale=1e4).to(torch.float32, "cuda")
    assert all(value.isfinite().all() for value in problem.run(pointwise).values())


@pytest.mark.parametrize("option", ["plain", "ragged-reverse"])
@pytest.mark.parametrize("name", CHAINS)
def test_chains_in_float32_are_close_to_float64(name, option, poisoned_empty):
    assert_close_in_float32(make(name, (17, 3, 8, 63), **OPTIONS[option]), pointwise, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("method", ["parallel", "triton"])
def test_scans_match_the_loop_in_double_precision(method, dtype):
    wide = torch.complex128 if dtype.is_complex else torch.float64
    b = torch.randn(700, 3, 37, dtype=wide)
    a = torch.rand(700, 3, 37, dtype=torch.float64) * torch.exp(1j * b.real) if dtype.is_complex else torch.rand_like(b)
    inputs = [value.to(dtype) for value in (a, b, torch.randn(3, 37, dtype=wide))]
    upstream = torch.randn(700, 3, 37, dtype=wide)

    def run(kind, device, how):
        leaves = [value.to(device, kind).requires_grad_() for value in inputs]
        h = linear_scan(*leaves, method=how)
        return [h.detach(), *torch.autograd.grad(h, leaves, upstream.to(device, kind))]

    results = run(wide, "cpu", "loop"), run(dtype, "cpu", "loop"), run(dtype, "cuda", method)
    for name, exact, same_dtype, actual in zip(("h", "da", "db", "dh_0"), *results, strict=True):
        for part in ("real", "imag") if dtype.is_complex else ("real",):
            ours, theirs, true = (getattr(value.cpu(), part) for value in (actual, same_dtype, exact))
            assert_within_ratio(ours, theirs, true, f"{name} {part}", RATIO, EPS[torch.float32])


@pytest.mark.parametrize("module", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("backend", ["auto", "eager", "triton"])
def test_layers_match_torch_nn_on_the_device(module, backend):
    nn = pytest.importorskip("rnnlab.nn")
    ours = getattr(nn, module)(3, 20, num_layers=2, bidirectional=True, backend=backend, device="cuda")
    theirs = getattr(torch.nn, module)(3, 20, num_layers=2, bidirectional=True, dtype=torch.float64)
    theirs.load_state_dict({name: value.double().cpu() for name, value in ours.state_dict().items()})
    x = torch.randn(9, 4, 3, device="cuda")
    ours.eval()  # backward in evaluation mode must work on every path
    (y, _), (expected, _) = ours(x), theirs(x.double().cpu())
    torch.testing.assert_close(y.cpu(), expected.float())
    y.sum().backward()
    expected.sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad.float(), msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("module", ["RNN", "LSTM", "GRU"])
def test_lengths_on_the_device_need_no_synchronisation(module):
    nn = pytest.importorskip("rnnlab.nn")
    layer = getattr(nn, module)(3, 8, bidirectional=True, device="cuda")
    x, lengths = torch.randn(6, 4, 3, device="cuda"), torch.tensor([6, 0, 3, 1], device="cuda")
    layer(x, lengths=lengths)  # compile first
    try:
        torch.cuda.set_sync_debug_mode("error")
        output, _ = layer(x, lengths=lengths)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (output[:, 1] == 0).all() and (output[3:, 2] == 0).all()
