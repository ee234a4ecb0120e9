"""Launch sizes and limits are pure functions."""

import pytest
import torch

from rnnlab_kernels import launch
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.cells.min_rnn import MIN_GRU
from rnnlab_kernels.schedules.persistent.tiles import plan_sequence, plan_step
from rnnlab_kernels.schedules.persistent.wiring import wire
from tests.conftest import INTERPRETING

# A cell of so many gates; MIN_GRU stands in for one of two with a product.
GATED = {1: CELLS["rnn_tanh"], 2: MIN_GRU, 3: CELLS["gru"], 4: CELLS["lstm"]}


def gate_rows(num_gates):
    return wire(as_chain(GATED[num_gates]), ()).products[0].rows


@pytest.mark.parametrize("hidden", [1, 2, 7, 63, 64, 100, 128, 129, 1000])
@pytest.mark.parametrize("batch", [1, 5, 128])
def test_pointwise_block_covers_the_tile(batch, hidden):
    block = launch.pointwise_block(batch, hidden)
    block_b, block_h = block.options["BLOCK_B"], block.options["BLOCK_H"]
    assert block_b & (block_b - 1) == 0 and block_h & (block_h - 1) == 0
    assert block.grid[0] * block_b >= batch and block.grid[1] * block_h >= hidden
    assert (block.grid[0] - 1) * block_b < batch and (block.grid[1] - 1) * block_h < hidden


def test_blocks_do_not_depend_on_the_batch():
    # A block that followed B would compile a kernel for every new batch size.
    options = [launch.pointwise_block(batch, 100).options for batch in (1, 3, 64)]
    assert options[0] == options[1] == options[2]


def test_supported_says_why_not():
    possible, reason = launch.supported(torch.device("cpu"), torch.float64)
    assert not possible and "float64" in reason
    possible, reason = launch.supported(torch.device("cpu"), torch.float32)
    assert possible == INTERPRETING
    assert INTERPRETING or "CUDA" in reason


def test_supported_without_triton(monkeypatch):
    monkeypatch.setattr(launch, "triton_version", lambda: None)
    assert launch.supported(torch.device("cuda"), torch.float32) == (False, "Triton is not installed")


@pytest.mark.parametrize("chip", [launch.A100, launch.H200], ids=["A100", "H200"])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("hidden", [1, 20, 63, 64, 200, 320, 512, 1024])
@pytest.mark.parametrize("batch", [1, 20, 64, 300])
@pytest.mark.parametrize("num_gates", [1, 3, 4])
@pytest.mark.parametrize("heads", [1, 12])
def test_sequence_plans_cover_the_layer_and_fit_on_the_chip(heads, num_gates, batch, hidden, itemsize, chip):
    plan, reason = plan_sequence(GATED[num_gates], batch, hidden, itemsize, *chip, heads=heads)
    if plan is None and heads > 1 and (itemsize == 4 or hidden % 16):
        assert "spill" in reason
        return
    if plan is None:
        assert hidden >= 320 // heads and ("do not fit" in reason or "spill" in reason)
        return
    options, (slices, tiles, groups) = plan.options, plan.grid
    assert groups == heads and not plan.is_step
    assert (slices - 1) * options["UNITS"] < hidden <= slices * options["UNITS"]
    assert (tiles - 1) * options["BLOCK_B"] < batch <= tiles * options["BLOCK_B"]
    assert (options["NUM_K"] - 1) * options["BLOCK_K"] < hidden <= options["NUM_K"] * options["BLOCK_K"]
    assert min(options["UNITS"], options["BLOCK_B"], options["BLOCK_K"]) >= launch.MIN_TILE
    assert slices == 1 or slices * tiles * heads <= chip[0]  # who waits for others must not wait for a multiprocessor
    assert options["UNITS"] * gate_rows(num_gates) * options["NUM_K"] * options["BLOCK_K"] * itemsize < chip[1]
    assert num_gates <= gate_rows(num_gates) < 2 * num_gates


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("hidden", [1, 63, 200, 1024, 4096])
@pytest.mark.parametrize("batch", [1, 20, 300])
@pytest.mark.parametrize("num_gates", [1, 2, 3, 4])
def test_step_plans_cover_layers_of_any_size(num_gates, batch, hidden, itemsize):
    plan, _ = plan_step(GATED[num_gates], batch, hidden, itemsize, heads=3)
    assert plan is not None and plan.is_step
    options, (slices, tiles, heads) = plan.options, plan.grid
    assert heads == 3
    assert (slices - 1) * options["UNITS"] < hidden <= slices * options["UNITS"]
    assert (tiles - 1) * options["BLOCK_B"] < batch <= tiles * options["BLOCK_B"]
    assert (options["NUM_K"] - 1) * options["BLOCK_K"] < hidden <= options["NUM_K"] * options["BLOCK_K"]
    assert options["UNITS"] * gate_rows(num_gates) >= 64


def test_sequence_plans_multiply_as_told():
    plans = [plan_sequence(GATED[4], 32, 256, 4, *launch.H200, tf32)[0] for tf32 in (False, True)]
    assert [plan.options["PRECISION"] for plan in plans] == ["ieee", "tf32"] and plans[0].grid == plans[1].grid


def test_sequence_plans_refuse_what_their_offsets_cannot_reach():
    plan, reason = plan_sequence(GATED[4], 1 << 20, 512, 2, *launch.H200)
    assert plan is None and "32 bits" in reason
    plan, reason = plan_step(GATED[4], 1, 1 << 15, 2)
    assert plan is None and "32 bits" in reason
    # T is no argument: offsets over time are 64 bits wide, whatever it is.
