"""What a `Recurrent` starts from: states that are given, carried over from the last call, learned, or the cell's own.

Letters: B batch, W width of a state, L layers, D directions.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.nn.cells.protocol import OF_ZEROS, view, weight_like
from rnnlab.nn.state import autocast_dtype

Tensors = tuple[Tensor, ...]
Carry = tuple[Tensors, ...]


class Carrying(nn.Module):
    """The states of `Recurrent`: one NamedTuple of tensors (B, W) for each layer and direction, in a tuple.

    They stay apart because widths and kinds may differ from layer to layer. The directions of a layer stand side by
    side.
    """

    cells: nn.ModuleList
    num_directions: int
    stateful: bool
    learned: nn.ParameterDict | None
    _carry: Carry | None

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """Return the states from which a call without `hx` starts, each (B, W): zeros, learned, or the cell's own."""
        return tuple(self._cell_state(k, batch_size) for k in range(len(self.cells)))

    def _cell_state(self, k: int, batch_size: int, like: Tensor | None = None) -> Any:
        cell = self.cells[k]
        weight = weight_like(cell)
        weight = like if weight is None else weight
        options = {} if weight is None else {"device": weight.device, "dtype": weight.dtype}
        state = view(cell).initial_state(batch_size, **options)
        if not isinstance(state, tuple):
            raise TypeError(f"{type(cell).__name__}.initial_state should return a NamedTuple of tensors (B, W)")
        if self.learned is None:
            return state
        # A cast of the module leaves complex parameters behind, or makes them real.
        values = [self.learned[key].to(part.dtype).expand_as(part).clone() for key, part in self._named(k, state)]
        return self._in_form([tuple(values)], [state], True)[0]

    def _learn_initial_states(self) -> nn.ParameterDict:
        """Return a parameter (W,) for each state, with the cell's own initial state in it."""
        found = {}
        for k in range(len(self.cells)):
            for key, part in self._named(k, self._cell_state(k, 1)):
                found[key] = nn.Parameter(part[0].detach().clone())
        return nn.ParameterDict(found)

    def _named(self, k: int, state: Any) -> Iterator[tuple[str, Tensor]]:
        layer, direction = divmod(k, self.num_directions)
        for name, part in zip(state_names(state), state, strict=True):
            yield f"{name}_l{layer}" + ("_reverse" if direction else ""), part

    def reset_state(self) -> None:
        """Forget the states carried over from the last call: the next one starts anew."""
        self._carry = None

    def get_carry(self) -> Carry | None:
        """Return the states carried to the next call, as plain tuples to be saved; None at the start.

        They are no part of the state_dict, whose sizes must not depend on the last batch.
        """
        return self._carry

    def set_carry(self, carry: Sequence[Sequence[Tensor]] | None) -> None:
        """Carry these states, from `get_carry`, to the next call.

        Raises:
            RuntimeError: the module is not stateful.
        """
        if not self.stateful:
            raise RuntimeError("only a module with stateful=True carries states from call to call")
        self._carry = (
            None if carry is None else tuple(tuple(part.detach().clone() for part in state) for state in carry)
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        if self._carry is not None:  # goes with the module to another device or dtype
            self._carry = tuple(tuple(_moved(fn, part) for part in state) for state in self._carry)
        return super()._apply(fn, recurse)

    def _start(self, hx: Any, x: Tensor, batched: bool, carry: Carry | None, cells: list[nn.Module]) -> list[Any]:
        """Return the checked states from which a call on x (..., B, I) starts, each a NamedTuple of tensors (B, W)."""
        batch, count = x.shape[-2], len(cells)
        if hx is not None:
            given, word = _states_of(hx, count), "hx"
            if not batched:
                given = [tuple(part.unsqueeze(0) for part in state) for state in given]
        elif carry is not None:
            given, word = [tuple(map(_ordinary, state)) for state in carry], "carry"
            rows = given[0][0].shape[0]
            if rows != batch:
                raise RuntimeError(
                    f"the states carried over are of {rows} rows, the input has {batch}: "
                    "keep the batch size, or call reset_state() first"
                )
        else:
            return [self._cell_state(k, batch, x) for k in range(count)]
        found: list[Any] = []
        for k, cell in enumerate(cells):
            state, seen = given[k], view(cell)
            if type(seen).initial_state in OF_ZEROS and _fits(state, batch, seen.state_sizes, weight_like(cell), x):
                found.append(seen.state_type(*state))
                continue
            like = self._cell_state(k, batch, x)
            _check_state(word if count == 1 else f"{word}[{k}]", state, like, x, batched)
            found += self._in_form([state], [like], True)
        return found

    def _in_form(self, states: Sequence[Sequence[Tensor]], like: Sequence[Any], batched: bool) -> list[Any]:
        """Return the states as NamedTuples like those of `like`, without B if the input came without."""
        if not batched:
            states = [tuple(part.squeeze(0) for part in state) for state in states]
        found: list[Any] = []
        for one, state in zip(like, states, strict=True):
            found.append(getattr(type(one), "_make", tuple)(state))
        return found


def _ordinary(part: Tensor) -> Tensor:
    """Return a tensor that autograd can save, if `part` was made in inference mode and this is outside of it."""
    if torch.compiler.is_compiling():  # which cannot ask
        return part
    return part.clone() if part.is_inference() and not torch.is_inference_mode_enabled() else part


def _moved(fn: Any, part: Tensor) -> Tensor:
    """Apply what moves or casts a module to a state; a complex one goes to the complex dtype nearest to that."""
    if not part.is_complex():
        return fn(part)
    real = fn(torch.view_as_real(part))
    return torch.view_as_complex(real if real.dtype == torch.float64 else real.float())


def state_names(state: Any) -> tuple[str, ...]:
    """Return the field names of a NamedTuple, "0", "1", ... for a plain tuple."""
    return tuple(getattr(type(state), "_fields", map(str, range(len(state)))))


def _states_of(hx: Any, count: int) -> Sequence[Sequence[Tensor]]:
    """Return `hx` as states, one for each layer and direction."""
    if isinstance(hx, (tuple, list)) and hx and isinstance(hx[0], Tensor):
        hx = (hx,)  # of one layer in one direction
    form = "a tuple of {} states, one for each layer and direction, each a NamedTuple of tensors"
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"hx should be {form.format(count)}, got: {type(hx).__name__}")
    if len(hx) != count:
        raise RuntimeError(f"hx should be {form.format(count)}, got {len(hx)}")
    for state in hx:
        for part in state if isinstance(state, (tuple, list)) else (None,):
            if not isinstance(part, Tensor):
                raise TypeError(f"hx should be {form.format(count)}, got {type(state).__name__} in it")
    return hx


def _fits(state: Sequence[Tensor], batch: int, sizes: Sequence[int], weight: Tensor | None, x: Tensor) -> bool:
    """Return whether a state has a part (B, W) for each size, of the dtype of the weights, where the input is."""
    if weight is None or len(state) != len(sizes):
        return False
    device, dtype = x.device, weight.dtype
    for k, part in enumerate(state):
        if tuple(part.shape) != (batch, sizes[k]) or part.device != device or part.dtype != dtype:
            return False
    return True


def _check_state(label: str, state: Sequence[Tensor], like: Any, x: Tensor, batched: bool) -> None:
    autocast = autocast_dtype(x.device) is not None
    names = state_names(like)
    if len(state) != len(like):
        raise RuntimeError(f"{label} should hold {len(like)} tensors ({', '.join(names)}), got {len(state)}")
    for name, part, expected in zip(names, state, like, strict=True):
        if part.shape != expected.shape:
            skip = 0 if batched else 1  # as the caller sees it
            sizes = tuple(expected.shape[skip:]), list(part.shape[skip:])
            raise RuntimeError(f"Expected {label}.{name} size {sizes[0]}, got {sizes[1]}")
        if part.device != x.device:
            raise RuntimeError(
                f"Input and hidden tensors are not on the same device: input on {x.device}, {label} on {part.device}"
            )
        if not autocast and part.dtype != expected.dtype:
            raise RuntimeError(f"{label}.{name} dtype ({part.dtype}) does not match the cell's ({expected.dtype})")
