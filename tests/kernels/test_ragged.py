"""Rows of unequal length in the compiled call: only what is inside them is computed, whatever the batch."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.additions import Additions
from tests.covering import few
from tests.kernels.problems import CELL_NAMES, assert_close_in_float32, make_problem
from tests.kernels.test_chains import CHAINS, kinds_of_additions, make

pytest.importorskip("numba")

from rnnlab_kernels.schedules.compiled import ragged
from rnnlab_kernels.schedules.compiled.api import CompiledStep, fused
from rnnlab_kernels.schedules.noise.masks import keep_mask

T, B, I, H = 6, 21, 4, 7  # noqa: E741


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    """Small batches go over all steps, but here."""
    monkeypatch.setattr(ragged, "SMALL", 0)


def holes() -> torch.Tensor:
    """Return flags (T, B, 1) that are no lengths: any step may be outside, all rows of one are."""
    mask = keep_mask(1, 0, 0, (T, B, 1), 0.5, "cpu", torch.float32).bool()
    mask[3] = False
    return mask


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", ["lengths", "holes"])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_cells_match_reference(name, mask, reverse, poisoned_empty):
    problem = make_problem(CELLS[name], (T, B, I, H), ragged=True, reverse=reverse)
    problem.mask = holes() if mask == "holes" else problem.mask
    assert_close_in_float32(problem, fused)


@pytest.mark.parametrize("addition", ["reset", "clip", "zoneout", "dropout"])
@pytest.mark.parametrize("mask", ["lengths", "holes"])
@pytest.mark.parametrize("name", few(CHAINS, ("gru_reset_before", "min_gru")))
def test_chains_match_reference(name, mask, addition, poisoned_empty):
    additions: Additions = kinds_of_additions(T, B, CHAINS[name].num_states)[addition]
    problem = make(name, (T, B, I, 6), additions=additions, ragged=True)
    problem.mask = holes() if mask == "holes" else problem.mask
    assert_close_in_float32(problem, fused)


@pytest.mark.parametrize("mask", ["lengths", "holes"])
@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])  # of the last, the loop forms the weights' gradients
def test_what_stands_outside_is_not_read(name, mask, poisoned_empty):
    is_chain = name in CHAINS
    problem = (
        make(name, (T, B, I, 6), ragged=True) if is_chain else make_problem(CELLS[name], (T, B, I, H), ragged=True)
    )
    problem.mask = holes() if mask == "holes" else problem.mask
    results = [problem.to(torch.float32).run(fused)]
    with torch.no_grad():
        problem.inputs["x"].masked_fill_(~problem.mask, float("nan"))
    results.append(problem.to(torch.float32).run(fused))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def by_rows(value: torch.Tensor) -> torch.Tensor:
    """Return a value (T, B, W) whose memory has the batch first."""
    return value.transpose(0, 1).contiguous().transpose(0, 1)


def fused_by_rows(cell, x, *arguments, **options):
    """Do the compiled call on an input whose memory has the batch first; such is the gradient of the output, too."""
    output, state_n = fused(cell, by_rows(x), *arguments, **options)
    output.register_hook(by_rows)
    return output, state_n


def test_memory_may_have_the_batch_first(poisoned_empty):
    problem = make_problem(CELLS["gru"], (T, B, I, H), ragged=True)
    assert_close_in_float32(problem, fused_by_rows)


@pytest.mark.parametrize("mask", ["lengths", "holes"])
def test_the_input_part_may_be_given(mask, poisoned_empty):
    problem = make_problem(CELLS["lstm"], (T, B, 4 * H, H), ragged=True, bias=False)
    del problem.inputs["ih"]
    problem.mask = holes() if mask == "holes" else problem.mask
    assert_close_in_float32(problem, fused)


def test_steps_go_over_the_first_rows_of_a_tile():
    problem = make_problem(CELLS["lstm"], (4, 5, 2, 3))
    lengths = torch.tensor([4, 4, 3, 1, 0])
    mask = (torch.arange(4)[:, None] < lengths).unsqueeze(-1)

    class Frame:
        call, num_steps, batch, width = type("Call", (), {"mask": mask}), 4, 5, {"h": 3}

    assert problem.mask is None
    rows = ragged.rows_of(Frame, 2)
    assert rows.active.tolist() == [[-1, -1, 0], [-1, 1, 0], [-1, 1, 0], [-1, 0, 0]]
    assert rows.ahead.tolist() == [[0, 2, 4], [4, 6, 7], [7, 9, 10], [10, 12, 12]]
    assert rows.inside.tolist() == mask.flatten().nonzero().squeeze(1).tolist()


def test_what_is_kept_of_steps_outside_is_not_written(monkeypatch, poisoned_empty):
    kept, original = [], CompiledStep.run_forward

    def run_forward(frame):
        found = original(frame)
        kept.append(found[2][-1])
        return found

    monkeypatch.setattr(CompiledStep, "run_forward", staticmethod(run_forward))
    problem = make_problem(CELLS["lstm"], (T, B, I, H), ragged=True).to(torch.float32)
    assert problem.run(fused)["output"].isfinite().all()
    num_inside = problem.mask.sum((1, 2))
    assert kept[0].isfinite().all(-1).all(1).sum(1).tolist() == num_inside.tolist()  # (T, S, B, H)
