"""Python frames of a call: what a small layer costs is what Python does around its products.

A frame is a "call" event of `sys.setprofile` in a file of rnnlab or rnnlab_kernels; torch's own are not counted.
"""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

import rnnlab.nn
from rnnlab_kernels import launch

# Of the kernels' files, for one step of a cell of five stages, forward and backward; 241 before plans were cached.
MOST_OF_KERNELS = {"fused": 92, "eager": 118}


def frames(run: Callable[[], Any]) -> Counter[str]:
    """Return how many frames of each of the two packages `run` makes, in this thread."""
    found: Counter[str] = Counter()

    def count(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            folders = frame.f_code.co_filename.split("/")[:-1]
            found.update(name for name in ("rnnlab_kernels", "rnnlab") if name in folders)

    with torch.autograd.set_multithreading_enabled(False):  # the backward pass of a CPU is in this thread
        sys.setprofile(count)
        try:
            run()
        finally:
            sys.setprofile(None)
    return found


@pytest.mark.parametrize("backend", ["eager", *(["fused"] if launch.has_numba() else [])])
def test_frames_of_a_step(backend):
    layer, x = rnnlab.nn.Recurrent(rnnlab.nn.LayerNormLSTMCell(3, 4), backend=backend), torch.randn(1, 2, 3)

    def run() -> None:
        output, _ = layer(x)
        output.sum().backward()

    run()
    assert 0 < frames(run)["rnnlab_kernels"] <= MOST_OF_KERNELS[backend]
