"""Level 1: beyond 2^31 elements, kernels read and write where they should.

Memory that nobody touches costs nothing: of tensors of millions of steps, only the last two are.
"""

import pytest
import torch

from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.launch import H200
from tests.conftest import check_overflow

pytestmark = pytest.mark.interpret

CELL, B, H, LAST = CELLS["lstm"], 1, 16, 2
STEPS = (1 << 31) // (B * 4 * H) + 1000
# Slots beyond T, and elements of a row.
TIMED = {"gates_x": (0, 4 * H), "h": (1, H), "rest": (1, H), "saved": (0, len(CELL.saved) * H)}
GRADS = {"doutput": (0, H), "grads": (2, 4 * H)}


@pytest.fixture(autouse=True)
def overflow_checked():
    check_overflow(True)
    yield
    check_overflow(False)


class LastSteps:
    """A kernel that is told of two steps, and runs the last two of many."""

    def __init__(self, kernel, num_steps):
        self.kernel, self.num_steps = kernel, num_steps

    def __getitem__(self, grid):
        def launch(first_position, **arguments):
            arguments["T"] = self.num_steps
            self.kernel[grid](first_position=first_position + self.num_steps - LAST, **arguments)

        return launch


def tensors(num_steps, names):
    """Return tensors over time whose last slots hold the same random values for any number of steps."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, (extra, width) in names.items():
        dtype = torch.float32 if name == "rest" else torch.float16
        found[name] = torch.empty(num_steps + extra, B, width, dtype=dtype)
        found[name][-LAST - extra :] = torch.randn(LAST + extra, B, width, generator=generator)
    found["rest"] = found["rest"].unsqueeze(2)
    found["saved"] = found["saved"].unflatten(2, (-1, H))
    return found


def run(num_steps, backwards):
    from rnnlab_kernels.schedules.engines import Call
    from rnnlab_kernels.schedules.persistent.call import launch_of
    from rnnlab_kernels.schedules.persistent.kernel_backward import _backward_kernel
    from rnnlab_kernels.schedules.persistent.kernel_forward import _forward_kernel
    from rnnlab_kernels.schedules.persistent.launching import run_kernel
    from rnnlab_kernels.schedules.persistent.tiles import plan_sequence

    tiling, _ = plan_sequence(CELL, B, H, 2, *H200)
    call = launch_of(Call("sequence", "", as_chain(CELL), keep=True, plan=tiling))
    timed = tensors(num_steps, TIMED | GRADS if backwards else TIMED)
    weight = torch.randn(1, 4 * H, H, generator=torch.Generator().manual_seed(1)).half() / H**0.5
    others = dict.fromkeys(("mask", "reset", "dropped", "vectors", "rstd")) | {"weight": weight}
    if backwards:
        timed["grads"][-1] = 0
        others |= {"dstate": torch.ones(B, 2, H), **dict.fromkeys(("dconstants", "unclipped", "parts"))}
        del timed["gates_x"]
    kernel = LastSteps(_backward_kernel if backwards else _forward_kernel, num_steps)
    run_kernel(kernel, call, (LAST, B, H, H), backwards, {**timed, **others})
    names = ("grads",) if backwards else ("h", "rest", "saved")
    return {name: timed[name][-LAST - (1 if name == "grads" else 0) :].clone() for name in names}


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
def test_the_last_steps_of_billions_of_elements_are_those_of_two(backwards):
    assert STEPS * B * 4 * H > 1 << 31
    few, many = run(LAST, backwards), run(STEPS, backwards)
    for name, value in few.items():
        assert torch.equal(value, many[name]) and value.abs().sum() > 0, name
