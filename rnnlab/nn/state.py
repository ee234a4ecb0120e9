"""Recurrent states: detaching them between windows, and what autocast does to them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

State = TypeVar("State", Tensor, tuple[Any, ...])
_AS_IT_IS: AbstractContextManager[Any] = nullcontext()


def detach_state(state: State) -> State:
    """Return the state cut off from the graph that made it, for the next window.

    A state is a tensor, or a tuple or NamedTuple of states, as layers, cells and `Recurrent` return them.
    """
    if isinstance(state, Tensor):
        return state.detach()
    return getattr(type(state), "_make", tuple)([detach_state(part) for part in state])


def attributes(module: nn.Module, names: Iterable[str]) -> list[Any]:
    """Return attributes of a module, parameters without the search that `getattr` makes before it comes to them."""
    parameters = module._parameters
    return [parameters[name] if name in parameters else getattr(module, name) for name in names]


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype autocast asks for on `device`, or None where autocast is off."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else None


def autocast_to(dtype: torch.dtype | None, tensor: Tensor) -> Tensor:
    """Cast a tensor as autocast would: floating point below double precision, nothing else."""
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)


def without_autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return a context in which autocast is off, for code that has cast its tensors to `dtype` itself."""
    return _AS_IT_IS if dtype is None else torch.autocast(device.type, enabled=False)
