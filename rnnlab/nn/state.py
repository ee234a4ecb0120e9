"""Recurrent states: detaching them between windows, and what autocast does to them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

State = TypeVar("State", Tensor, tuple[Any, ...])


def detach_state(state: State) -> State:
    """Return the state cut off from the graph that made it, for the next window.

    A state is a tensor, or a tuple or NamedTuple of states, as layers, cells and `Recurrent` return them.
    """
    if isinstance(state, Tensor):
        return state.detach()
    return getattr(type(state), "_make", tuple)([detach_state(part) for part in state])


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype autocast asks for on `device`, or None where autocast is off."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return None


def autocast_to(dtype: torch.dtype | None, tensor: Tensor) -> Tensor:
    """Cast a tensor as autocast would: floating point below double precision, nothing else."""
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)


def without_autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return a context in which autocast is off, for code that has cast its tensors to `dtype` itself."""
    return nullcontext() if dtype is None else torch.autocast(device.type, enabled=False)
