"""Level 1: beyond 2^31 elements, kernels read and write where they should.

Memory that nobody touches costs nothing: of tensors of millions of steps, only the last two are.
"""

import pytest
import torch

from rnnlab_kernels.cells import CELLS, bind_triton
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.launch import H200, plan_sequence

pytestmark = pytest.mark.interpret

CELL, B, H, LAST = CELLS["lstm"], 1, 16, 2
STEPS = (1 << 31) // (B * 4 * H) + 1000
# Slots beyond T, and elements of a row.
TIMED = {"gates_x": (0, 4 * H), "h": (1, H), "rest": (1, H), "saved": (0, len(CELL.saved) * H)}
GRADS = {"doutput": (0, H), "dgates": (2, 4 * H)}


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
    from rnnlab_kernels.schedules.persistent import sequence_triton
    from rnnlab_kernels.schedules.persistent.sequence_call import Call
    from rnnlab_kernels.schedules.persistent.sequence_launch import run_kernel

    plan, _ = plan_sequence(CELL.num_gates, B, H, 2, *H200)
    call = Call(as_chain(CELL), (), plan, 0, None, None, None, (0,), True)
    timed = tensors(num_steps, TIMED | GRADS if backwards else TIMED)
    weight = torch.randn(1, 4 * H, H, generator=torch.Generator().manual_seed(1)).half() / H**0.5
    others = dict.fromkeys(("mask", "reset", "dropped"))
    own = {"GATES_FWD": bind_triton(CELL.gates_fwd), "HAS_BIAS": False, "KEEP_FRESH": False, "GATE_ROWS": 4}
    kernel = sequence_triton._sequence_fwd_kernel
    if backwards:
        timed["dgates"][-1] = 0
        others |= {"dstate": torch.ones(B, 2, H), "dconstants": torch.zeros(B, 0, H), "dsplit": None}
        others["parts"] = None
        own = {"GATES_BWD": bind_triton(CELL.gates_bwd), "PARTIAL": False}
        kernel = sequence_triton._sequence_bwd_kernel
        del timed["gates_x"]
    else:
        others["bias"] = None
    others |= {"weight": weight, "constants": torch.zeros(0, H), "fresh": None}
    run_kernel(LastSteps(kernel, num_steps), call, (LAST, B), backwards, {**timed, **others}, H=H, D=H, **own)
    names = ("dgates",) if backwards else ("h", "rest", "saved")
    return {name: timed[name][-LAST - (1 if name == "dgates" else 0) :].clone() for name in names}


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
def test_the_last_steps_of_billions_of_elements_are_those_of_two(backwards):
    assert STEPS * B * 4 * H > 1 << 31
    few, many = run(LAST, backwards), run(STEPS, backwards)
    for name, value in few.items():
        assert torch.equal(value, many[name]) and value.abs().sum() > 0, name
