"""Sequences served in windows that follow each other, for backpropagation through time cut off between the windows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab.data.batches import BatchLoader, SharedBatches, TensorRows, row_order
from rnnlab.data.checks import check_integer
from rnnlab.data.shares import ALONE, Borrowed, Share


class Window(NamedTuple):
    """W consecutive steps of B rows; row b goes on where row b of the window before it ended, unless reset.

    Attributes:
        inputs: (B, W, ...).
        targets: (B, W, ...).
        reset: bool (B, W), True at each step before which the state is to be zero.
        resets_inside: whether a flag is set behind the first step; known here, where looking does not wait for a GPU.
        labels: int64 (B, W), of what each step belongs to; None where nothing has a label.
    """

    inputs: Tensor
    targets: Tensor
    reset: Tensor
    resets_inside: bool = False
    labels: Tensor | None = None


class WindowRows(TensorRows):
    """Rows of inputs, targets, reset flags and perhaps labels, each (N, T, ...), and the steps of a window."""

    def __init__(self, steps: int, inputs: Tensor, *others: Tensor) -> None:
        super().__init__(inputs, *others)
        self.starts = range(0, inputs.shape[1], steps)
        self.steps = steps


class WindowLoader(BatchLoader):
    """Serve every batch of rows window by window, before the next batch of rows.

    Rows are batched by the loader this is built on, so a window of T steps or more gives the very batches of that
    loader. The last window of a row and the last batch of rows may be smaller. A checkpoint taken by Lightning in the
    middle of an epoch holds the position, and a resumed run goes on behind it. Made by `window_loader`.
    """

    dataset: WindowRows
    _num_served = 0  # windows of the running epoch
    _resume_from: dict[str, Any] | None = None

    def __len__(self) -> int:
        return super().__len__() * len(self.dataset.starts)

    def __iter__(self) -> Iterator[Window | Borrowed]:
        # A generator, so that this runs with the first window: Lightning asks for iterators before it sets the epoch.
        state, self._resume_from = self._resume_from, None
        goes_on = state is not None and state["epoch"] == self.sampler.epoch
        first = state["num_served"] % len(self) if state is not None and goes_on else 0
        for index, window in enumerate(islice(self._windows(), first, None), start=first):
            self._num_served = index + 1
            yield window

    def _windows(self) -> Iterator[Window | Borrowed]:
        for served in super().__iter__():
            rows = served.batch if isinstance(served, Borrowed) else served
            for start in self.dataset.starts:
                inputs, targets, reset, *labels = (tensor[:, start : start + self.dataset.steps] for tensor in rows)
                window = Window(inputs, targets, reset, bool(reset[:, 1:].any()), *labels)
                yield Borrowed(window) if isinstance(served, Borrowed) else window

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.sampler.epoch, "num_served": self._num_served}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_from = state_dict


def window_loader(
    inputs: Tensor,
    targets: Tensor,
    batch_size: int,
    steps: int,
    shuffle_seed: int | None = None,
    reset: Tensor | None = None,
    labels: Tensor | None = None,
    share: Share = ALONE,
) -> WindowLoader:
    """Make a loader that cuts rows into windows and serves the windows of a row in consecutive batches.

    Args:
        inputs: (N, T, ...).
        targets: (N, T, ...).
        batch_size: rows a batch in one process.
        steps: W, steps of a window; the last window of a row has what is left.
        shuffle_seed: seed of an `EpochSampler` of the rows; None keeps their order.
        reset: bool (N, T), where sequences begin; None: each row is one sequence, which begins at its first step.
        labels: int64 (N, T), if there are any.
        share: of this process, where several train together.

    Raises:
        ValueError: `steps` is no positive integer, or the tensors differ in N or T.
    """
    steps = check_integer("steps", steps, 1)
    if reset is None:
        reset = torch.zeros(inputs.shape[:2], dtype=torch.bool)
        reset[:, 0] = True
    tensors = [inputs, targets, reset, *([] if labels is None else [labels])]
    if len({tensor.shape[:2] for tensor in tensors}) > 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"inputs, targets and reset must agree in rows and steps, got shapes {shapes}")
    rows = WindowRows(steps, *tensors)
    return WindowLoader(rows, SharedBatches(row_order(len(rows), shuffle_seed), batch_size, share))
