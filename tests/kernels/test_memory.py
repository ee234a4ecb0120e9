"""Memory that a backward pass used is free when it is over, not when the garbage collector comes by."""

import gc
import weakref

import pytest

from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.stepwise import run as module
from rnnlab_kernels.schedules.stepwise.kit_torch import eager
from tests.kernels.problems import make_problem


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_a_recurrence_leaves_no_cycles(name, monkeypatch):
    frames = []

    class Watched(module.Frame):
        def __init__(self, *args):
            super().__init__(*args)
            frames.append(weakref.ref(self))

    monkeypatch.setattr(module, "Frame", Watched)
    problem = make_problem(CELLS[name], (5, 3, 4, 6))
    gc.disable()
    try:
        problem.run(eager)
        assert len(frames) == 2 and [frame() for frame in frames] == [None, None]
    finally:
        gc.enable()
