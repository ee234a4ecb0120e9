"""The recurrent state that truncated backpropagation through time hands from one window to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.data import Window
from rnnlab.data.shares import ALONE, Share
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task
from rnnlab.tasks.union import gathered, num_processes


class Carry:
    """The detached state of B rows between two windows of a `WindowLoader`.

    A task has one for each stream of windows, so that validation in the middle of an epoch leaves that of training
    alone. That of training travels in checkpoints. A state is a tensor (..., B, H) or a tuple, also of tuples, of such,
    as the layers of `rnnlab.nn` return it.

    Example:
        state = carry.enter(window.reset, model.initial_state(len(window.reset)))
        forecast, state = model(window.inputs, state, return_state=True)
        carry.leave(state)
    """

    def __init__(self) -> None:
        self._state: Any = None

    def enter(self, reset: Tensor, initial: Any = None) -> Any:
        """Return the state in which the next window starts: where the last one ended, `initial` for rows that begin.

        The reset at the first step is done here, outside the layer: windows whose rows begin nowhere else need no reset
        inside it, and take the same route through it as whole sequences.

        Args:
            reset: the window's flags, bool (B, W).
            initial: state before the first step of a sequence; None stands for zeros.

        Raises:
            ValueError: a row goes on from a window that was never left, or that had another number of rows.
        """
        begins = reset[:, 0]
        num_rows = _num_rows(self._state)
        if num_rows != len(begins):
            # The flags are looked at here only: where they lie on a GPU, looking means waiting for it.
            if not begins.all():
                raise ValueError(f"{len(begins)} rows go on from a former window, but the carry holds {num_rows} rows")
            return initial
        # Chosen or filled, not multiplied: 0 * NaN is NaN, and a state may have diverged.
        if initial is None:
            return _map(lambda part: part.to(reset.device).masked_fill(begins[:, None], 0), self._state)
        return _map(lambda part, own: torch.where(begins[:, None], own, part.to(own.device)), self._state, initial)

    def leave(self, state: Any) -> None:
        """Keep the state that a window ended with, cut off from its graph."""
        self._state = _map(Tensor.detach, state)

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Put the state of the rows of all processes under 'carry', as plain tensors; nothing if there is none."""
        if self._state is not None:
            # A final state may be a view of all outputs, which would be stored with it.
            own = _map(Tensor.clone, self._state)
            states = gathered(own if num_processes() == 1 else _map(Tensor.cpu, own))
            checkpoint["carry"] = _map(lambda *parts: torch.cat(parts, dim=-2), *states)

    def load(self, checkpoint: dict[str, Any], share: Share = ALONE) -> None:
        """Take over of what `save` put there the rows of this process."""
        self._state = checkpoint.get("carry")
        if self._state is not None:
            rows = share.of(range(_num_rows(self._state)))
            self._state = _map(lambda part: part[..., rows[0] : rows[-1] + 1, :], self._state)


def read_window(model: nn.Module, window: Window, carry: Carry) -> Tensor:
    """Return what a model gives for a window, whose state comes from `carry` and goes back there.

    Args:
        model: with `initial_state(batch_size)` and `forward(inputs, state, reset=, return_state=True)`; both take
            `labels` too, (B,) and (B, W), where the window has some.
        window: where the model is.
        carry: of the stream that the window is from.
    """
    labels = window.labels
    of_rows, of_steps = ({}, {}) if labels is None else ({"labels": labels[:, 0]}, {"labels": labels})
    state = carry.enter(window.reset, model.initial_state(len(window.inputs), **of_rows))
    reset = window.reset if window.resets_inside else None
    output, state = model(window.inputs, state, reset=reset, return_state=True, **of_steps)
    carry.leave(state)
    return output


class WindowedTask(Task):
    """Base of tasks that train on windows: what a resumed run needs to go on in the middle of a series.

    Attributes:
        carry: the state of training.

    Args: those of `Task`.
    """

    def __init__(
        self, model: nn.Module, optim: OptimiserFactory, schedule: ScheduleFactory | None, *names: str
    ) -> None:
        super().__init__(model, optim, schedule, *names)
        self.carry = Carry()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.carry.save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.carry.load(checkpoint, Share(self.global_rank, self.trainer.world_size))


def _num_rows(state: Any) -> int:
    if state is None:
        return 0
    return state.shape[-2] if isinstance(state, Tensor) else _num_rows(state[0])


def _map(function: Callable[..., Tensor], *states: Any) -> Any:
    """Apply a function to the tensors of states of one form; tuples come out plain, as checkpoints need them."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return tuple(_map(function, *parts) for parts in zip(*states, strict=True))
