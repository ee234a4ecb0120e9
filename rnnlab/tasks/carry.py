"""The recurrent state that truncated backpropagation through time hands from one window to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from rnnlab.nn.state import State, detach_state


class Carry:
    """The detached state of B rows between two windows of a `WindowLoader`.

    A task has one for each stream of windows, so that validation in the middle of an epoch leaves that of training
    alone. That of training travels in checkpoints.

    Example:
        forecast, state = model(window.inputs, carry.enter(window.reset), return_state=True)
        carry.leave(state)
    """

    def __init__(self) -> None:
        self._state: Any = None  # as a layer returns it: one tensor or a tuple of them, each (L*D, B, H)

    def enter(self, reset: Tensor) -> Any:
        """Return the state in which the next window starts; None stands for zeros.

        The reset at the first step is done here, outside the layer, so that windows whose rows begin nowhere else need
        no reset inside it, and take the same route through it as whole sequences.

        Args:
            reset: the window's flags, bool (B, W).

        Raises:
            ValueError: a row goes on from a window that was never left, or that had another number of rows.
        """
        begins = reset[:, 0]
        num_rows = None if self._state is None else _parts(self._state)[0].shape[1]
        if num_rows != len(begins):
            # The flags are looked at here only: where they lie on a GPU, looking means waiting for it.
            if not begins.all():
                held = "no rows" if num_rows is None else f"{num_rows} rows"
                raise ValueError(f"{len(begins)} rows go on from a former window, but the carry holds {held}")
            return None
        # masked_fill, not a product: 0 * NaN is NaN, and a state may have diverged.
        return _map(lambda part: part.to(reset.device).masked_fill(begins[:, None], 0), self._state)

    def leave(self, state: State) -> None:
        """Keep the state that a window ended with, cut off from its graph."""
        self._state = detach_state(state)

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Put the state under 'carry', as plain tensors; nothing if there is none."""
        if self._state is not None:
            # A final state may be a view of all outputs, which would be stored with it.
            checkpoint["carry"] = _map(Tensor.clone, self._state)

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Take over what `save` put there."""
        self._state = checkpoint.get("carry")


def _parts(state: State) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else state


def _map(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    return function(state) if isinstance(state, Tensor) else tuple(function(part) for part in state)
