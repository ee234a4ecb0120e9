"""The plan of a layer on a GPU: which schedule, and why not those before it."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.launch import A100, H200
from rnnlab_kernels.plan import ORDER, plan
from rnnlab_kernels.schedules.additions import Additions, Noise

BF16 = torch.bfloat16


@pytest.mark.parametrize(
    ("cell", "steps", "batch", "hidden", "schedule"),
    [
        ("lstm", 512, 64, 512, "sequence"),
        ("gru", 16, 64, 512, "sequence"),
        ("lstm", 15, 64, 512, "step"),
        ("lstm", 512, 64, 4096, "step"),
        ("peephole_lstm", 512, 64, 512, "sequence"),
        ("layer_norm_lstm", 512, 64, 512, "sequence"),
        ("gru_reset_before", 512, 64, 512, "sequence"),
        ("layer_norm_lstm", 8, 64, 512, "pointwise"),
        ("layer_norm_lstm", 512, 64, 4096, "pointwise"),
        ("narx3", 512, 64, 512, "pointwise"),
    ],
)
def test_the_first_schedule_that_can_run_a_layer_is_its_plan(cell, steps, batch, hidden, schedule):
    found = plan(CHAINS[cell] if cell in CHAINS else CELLS[cell], steps, batch, hidden, BF16, *H200)
    assert found.schedule == schedule and found.reason
    assert list(found.passed) == list(ORDER[: ORDER.index(schedule)]) and all(found.passed.values())
    assert (found.tiles is None) == (schedule == "pointwise")


def test_what_is_not_in_the_order_of_sizes():
    lstm = CELLS["lstm"]
    assert plan(lstm, 512, 16, 768, BF16, *H200, heads=12).tiles.grid == (1, 1, 12)
    assert plan(lstm, 512, 16, 768, torch.float32, *H200, heads=12).schedule == "step"  # it would spill
    assert plan(lstm, 512, 16, 768, BF16, *H200, additions=Additions(clip=1.0)).schedule == "sequence"
    assert plan(lstm, 15, 16, 768, BF16, *H200, additions=Additions(clip=1.0)).schedule == "pointwise"
    drawn = Additions(noise=Noise(1, zoneout=(0.1, 0.1)))
    assert plan(lstm, 512, 16, 6, BF16, *H200, heads=3, additions=drawn).schedule == "pointwise"  # heads of two units
    assert plan(as_chain(lstm, projection=True), 512, 16, 64, BF16, *H200).schedule == "pointwise"
    small, large = (plan(lstm, 512, 32, 1024, torch.float16, *chip).schedule for chip in (A100, H200))
    assert (small, large) == ("step", "sequence")
