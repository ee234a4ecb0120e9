"""A recurrent module as a map of one vector, h_t = F(h_{t-1}, x_t), and the derivatives of that map.

Letters: T time, B batch, I input_size, N numbers of the whole state, K vectors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.nn import Recurrent


class Dynamics:
    """The step of a recurrent module in float64, its states, of all layers, side by side in one vector of N numbers.

    It works on a copy of the module, in evaluation mode and on the reference backend: what the module learns afterwards
    it does not see. A complex state counts as its real and imaginary parts. States, inputs and vectors of any precision
    are taken, as float64.

    Args:
        module: a cell with `forward(x_t, state) -> (y_t, state)`, or a layer of rnnlab.nn in one direction.

    Attributes:
        size: N.
        input_size: I.

    Raises:
        TypeError: neither a layer with `step` nor a cell.
        ValueError: a layer in both directions or backwards.

    Example:
        >>> import rnnlab.nn
        >>> flow = Dynamics(rnnlab.nn.LSTM(3, 4, num_layers=2))
        >>> flow.size, flow.run(torch.zeros(5, 3)).shape
        (16, torch.Size([6, 16]))
    """

    def __init__(self, module: nn.Module) -> None:
        layer: Any = copy.deepcopy(module if hasattr(module, "step") else Recurrent(module)).double().eval()
        if getattr(layer, "bidirectional", False) or getattr(layer, "go_backwards", False):
            raise ValueError("a layer that starts at the end, or in both directions, is no map from step to step")
        layer.requires_grad_(False)
        layer.backend = "reference"
        self._layer, self._template = layer, layer.initial_state(1)
        self.size = _pack(self._template).shape[1]
        first: Any = next(iter(layer.cells)) if isinstance(layer, Recurrent) else layer
        self.input_size = int(first.input_size)

    def initial(self) -> Tensor:
        """Return the module's initial state (N,)."""
        return _pack(self._template)[0].clone()

    def pack(self, state: Any) -> Tensor:
        """Return a state of the module for B rows as vectors (B, N)."""
        return _pack(state)

    def unpack(self, h: Tensor) -> Any:
        """Return vectors (B, N) in the form of the module's states."""
        return _unpack(self._template, iter(h.split(_widths(self._template), dim=1)))

    def step(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """Return F(h, x) for rows h (B, N) and x (B, I) or (I,), zeros if None.

        Raises:
            ValueError: states or inputs of another width.
        """
        h = h.double()
        x = h.new_zeros(self.input_size) if x is None else x.to(h)
        if h.dim() != 2 or h.shape[1] != self.size or x.shape[-1] != self.input_size:
            raise ValueError(
                f"a step takes states (B, {self.size}) and inputs (B, {self.input_size}) or ({self.input_size},), got "
                f"{tuple(h.shape)} and {tuple(x.shape)}"
            )
        _, state = self._layer.step(x.expand(len(h), self.input_size), self.unpack(h))
        return _pack(state)

    def run(self, inputs: Tensor, h: Tensor | None = None) -> Tensor:
        """Return the states (T+1, N), the first of them `h` or the initial one, under inputs (T, I).

        Raises:
            ValueError: inputs or a state of another shape.
        """
        h = self.initial() if h is None else h
        if inputs.dim() != 2 or inputs.shape[1] != self.input_size or h.shape != (self.size,):
            raise ValueError(
                f"a run takes inputs (T, {self.input_size}) of one row and its state ({self.size},), got "
                f"{tuple(inputs.shape)} and {tuple(h.shape)}"
            )
        states = [h.double()]
        for x in inputs.double():
            states.append(self.step(states[-1][None], x)[0])
        return torch.stack(states)

    def jacobian(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """Return dF/dh (B, N, N) at h (B, N): row i is the gradient of state i.

        Raises:
            RuntimeError: under `torch.inference_mode`, as `pull` does.
        """
        rows = h.repeat_interleave(self.size, 0)  # one copy for each number to take the gradient of
        x = x.repeat_interleave(self.size, 0) if x is not None and x.dim() == 2 else x
        units = torch.eye(self.size, dtype=torch.float64).repeat(len(h), 1)
        return self._pull(rows, x, units).view(len(h), self.size, self.size)

    def push(self, h: Tensor, x: Tensor | None, vectors: Tensor) -> Tensor:
        """Return the Jacobian at h (N,) times each of the vectors (K, N), by forward-mode differentiation."""
        rows = h.double().expand(len(vectors), self.size).clone()  # forward mode wants memory for each row
        with warnings.catch_warnings():
            # The first forward-mode call of a process compiles torch's own decompositions by what torch deprecates.
            warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
            return torch.func.jvp(lambda rows: self.step(rows, x), (rows,), (vectors.double(),))[1]

    def pull(self, h: Tensor, x: Tensor | None, vectors: Tensor) -> Tensor:
        """Return the transposed Jacobian at h (N,) times each of the vectors (K, N): what backpropagation does."""
        return self._pull(h.expand(len(vectors), self.size), x, vectors)

    def _pull(self, rows: Tensor, x: Tensor | None, vectors: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("torch.inference_mode() leaves nothing to differentiate: use torch.no_grad()")
        with torch.enable_grad():
            rows = rows.detach().double().requires_grad_()
            return torch.autograd.grad(self.step(rows, x), rows, vectors.double(), materialize_grads=True)[0]


def _leaves(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    else:
        for part in state:
            yield from _leaves(part)


def _flat(leaf: Tensor) -> Tensor:
    """Return a state of a cell (B, W), or of all layers of torch's (L, B, W), as real rows (B, *)."""
    leaf = torch.view_as_real(leaf).flatten(-2) if leaf.is_complex() else leaf
    return leaf.transpose(0, 1).flatten(1) if leaf.dim() == 3 else leaf


def _pack(state: Any) -> Tensor:
    return torch.cat([_flat(leaf) for leaf in _leaves(state)], dim=1)


def _widths(template: Any) -> list[int]:
    return [_flat(leaf).shape[1] for leaf in _leaves(template)]


def _unpack(template: Any, columns: Iterator[Tensor]) -> Any:
    if not isinstance(template, Tensor):
        parts: Sequence[Any] = [_unpack(part, columns) for part in template]
        return getattr(type(template), "_make", tuple)(parts)
    rows = next(columns)
    if template.is_complex():
        rows = torch.view_as_complex(rows.reshape(len(rows), -1, 2))
    return rows.view(len(rows), len(template), -1).transpose(0, 1) if template.dim() == 3 else rows
