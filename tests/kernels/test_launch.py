"""Launch sizes and limits are pure functions."""

import pytest
import torch

from rnnlab_kernels import launch
from tests.conftest import INTERPRETING


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
