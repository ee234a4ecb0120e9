"""Python frames of a call: what a small layer costs is what Python does around its products.

A frame is a "call" event of `sys.setprofile` in a file of rnnlab or rnnlab_kernels; torch's own are not counted.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

import rnnlab.nn
import rnnlab_kernels
from rnnlab_kernels import launch

# Of a call of a layer, and of one step of a cell of five stages, forward and backward; 360 at first.
MOST_OF_LAYER = 25
MOST_OF_CELL = 120

FOLDERS = {
    package.__name__: os.path.join(os.path.dirname(package.__file__), "") for package in (rnnlab, rnnlab_kernels)
}


def frames(run: Callable[[], Any]) -> Counter[str]:
    """Return how many frames of each of the two packages `run` makes, in this thread."""
    found: Counter[str] = Counter()

    def count(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            file = frame.f_code.co_filename
            found.update(name for name, folder in FOLDERS.items() if file.startswith(folder))

    with torch.autograd.set_multithreading_enabled(False):  # the backward pass of a CPU is in this thread
        sys.setprofile(count)
        try:
            run()
        finally:
            sys.setprofile(None)
    return found


def test_frames_of_a_call_of_a_layer():
    layer, x = rnnlab.nn.LSTM(4, 5), torch.randn(3, 2, 4)
    layer(x)
    assert 0 < frames(lambda: layer(x)).total() <= MOST_OF_LAYER


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda: rnnlab.nn.LSTM(4, 5), 20),
        (lambda: rnnlab.nn.Recurrent(rnnlab.nn.LSTMCell(4, 5)), 40),
        (lambda: rnnlab.nn.Recurrent(rnnlab.nn.GatedLSTMCell(4, 5)), 35),
        (lambda: rnnlab.nn.Recurrent(rnnlab.nn.LayerNormLSTMCell(4, 5)), 60),
    ],
    ids=["LSTM", "LSTMCell", "GatedLSTMCell", "LayerNormLSTMCell"],
)
def test_frames_of_a_step(make, most):
    layer, x = make(), torch.randn(1, 4)
    _, state = layer.step(x)
    assert 0 < frames(lambda: layer.step(x, state)).total() <= most


@pytest.mark.parametrize("backend", ["eager", *(["auto", "fused"] if launch.has_numba() else [])])
def test_frames_of_a_step_of_a_cell(backend):
    layer, x = rnnlab.nn.Recurrent(rnnlab.nn.LayerNormLSTMCell(4, 5), backend=backend), torch.randn(1, 2, 4)

    def run() -> None:
        output, _ = layer(x)
        output.sum().backward()

    run()
    found = frames(run)
    assert min(found["rnnlab"], found["rnnlab_kernels"]) > 0
    assert found.total() <= MOST_OF_CELL
