"""What the tests of `Recurrent` share: cells of every kind, and the plainest loop over a cell's own forward.

Letters: T time, B batch, I input_size, H hidden_size, W width of a state.
"""

import functools
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.nn.cells.base import GatedCell
from rnnlab.nn.cells.elman import IndRNNCell
from rnnlab.nn.cells.scan import LRUCell
from rnnlab_kernels.cells.vocabulary import sigmoid, tanh
from tests.tolerances import FLOAT64

DTYPE = torch.float64


class Leaky(GatedCell):
    """A cell that states its gate maths: h moves a quarter of the way to tanh(W x + R h)."""

    gates, states, carried = ("g",), ("h",), ("h",)

    @staticmethod
    def gates_fwd(gates, carried):
        return (carried[0] + 0.25 * (tanh(gates[0]) - carried[0]),), ()


class TwoStates(GatedCell):
    """The same with two states, h and a memory of it."""

    gates, states, carried = ("g", "k"), ("h", "m"), ("m",)

    @staticmethod
    def gates_fwd(gates, carried):
        m = carried[0] + sigmoid(gates[1]) * (tanh(gates[0]) - carried[0])
        return (tanh(m), m), ()


class OpaqueState(NamedTuple):
    h: Tensor
    total: Tensor


class Opaque(nn.Module):
    """A cell of which nothing is known but its forward; its states are of different widths."""

    def __init__(self, input_size: int, hidden_size: int, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.read = nn.Linear(input_size + hidden_size, hidden_size, dtype=dtype)

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> OpaqueState:
        widths = (self.hidden_size, 2)
        return OpaqueState(*(torch.zeros(batch_size, width, device=device, dtype=dtype) for width in widths))

    def forward(self, x_t: Tensor, state: OpaqueState) -> tuple[Tensor, OpaqueState]:
        h = torch.tanh(self.read(torch.cat([x_t, state.h], -1))) + 0.1 * state.total.sum(-1, keepdim=True)
        return h, OpaqueState(h, 0.5 * state.total + h[:, :2])


class DecayState(NamedTuple):
    h: Tensor


class Decay(nn.Module):
    """A cell that is linear in its state: h = a h + (1 - a) W x with a gate a = sigmoid(V x); the output is 2 h."""

    def __init__(self, input_size: int, hidden_size: int, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.both = nn.Linear(input_size, 2 * hidden_size, dtype=dtype)

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> DecayState:
        return DecayState(torch.zeros(batch_size, self.hidden_size, device=device, dtype=dtype))

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = self.both(x).chunk(2, -1)
        return torch.sigmoid(gate), torch.sigmoid(-gate) * value

    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        return 2 * h + 1

    def forward(self, x_t: Tensor, state: DecayState) -> tuple[Tensor, DecayState]:
        a, b = self.coefficients(x_t)
        h = a * state.h + b
        return self.outputs(h, x_t), DecayState(h)


KINDS: dict[str, Any] = {
    "leaky": Leaky,
    "two": TwoStates,
    "torch-lstm": nn.LSTMCell,
    "gru": rnnlab.nn.GRUCell,
    "opaque": Opaque,
    "decay": Decay,
    "indrnn": functools.partial(IndRNNCell, nonlinearity="tanh"),
    "lru": LRUCell,
}
CHAINS = ("leaky", "two", "torch-lstm", "gru")
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, input_size: int = 3, hidden_size: int = 4, **options: Any) -> Any:
    """Construct a cell in double precision."""
    return KINDS[kind](input_size, hidden_size, **{"dtype": DTYPE, **options})


def factory(kind: str, hidden_size: int = 4) -> Any:
    """Return a function of input_size that constructs a cell in double precision."""
    return functools.partial(KINDS[kind], hidden_size=hidden_size, dtype=DTYPE)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DTYPE)


def flags(*shape: int, p: float = 0.6) -> Tensor:
    """Draw booleans, True with probability p."""
    return torch.rand(*shape) < p


def one_step(cell: Any, x_t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Take a step by the cell's own forward: torch's cells give out their state only."""
    if isinstance(cell, nn.RNNCellBase):
        new = cell(x_t, tuple(state) if len(state) > 1 else state[0])
        new = (new,) if isinstance(new, Tensor) else tuple(new)
        return new[0], new
    y, new = cell(x_t, type(cell.initial_state(1))(*state))
    return y, tuple(new)


def zeros(cell: Any, batch: int) -> tuple[Tensor, ...]:
    """Return the initial state of a cell in double precision."""
    if isinstance(cell, nn.RNNCellBase):
        return tuple(torch.zeros(batch, cell.hidden_size, dtype=DTYPE) for _ in range(1 + ("LSTM" in str(type(cell)))))
    return tuple(cell.initial_state(batch, dtype=DTYPE))


def plainly(
    cell: Any,
    x: Tensor,
    state: tuple[Tensor, ...] | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    reverse: bool = False,
    keep: tuple[Tensor | float | None, ...] = (),
) -> tuple[Tensor, tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
    """Run a cell over x (T, B, I), row by row.

    Args:
        cell: whichever.
        x: (T, B, I).
        state: tensors (B, W); zeros if None.
        mask: (T, B).
        reset: (T, B), before the step that is taken, whatever the direction.
        reverse: from the end.
        keep: for each state, (T, B, W) of 1 where a unit keeps its previous value, or the part of it that is kept.

    Returns:
        output (T, B, N), zero at masked steps; final states; and all states by step.
    """
    state = zeros(cell, x.shape[1]) if state is None else tuple(state)
    outputs: list[Any] = [None] * len(x)
    every: list[Any] = [None] * len(x)
    for t in range(len(x))[:: -1 if reverse else 1]:
        if reset is not None:
            state = tuple(part * ~reset[t, :, None] for part in state)
        y, new = one_step(cell, x[t], state)
        for k, old in enumerate(state if keep else ()):
            part = keep[k]
            if part is not None:
                held = part if isinstance(part, float) else part[t]
                new = (*new[:k], held * old + (1 - held) * new[k], *new[k + 1 :])
        if keep:  # what a step gives out depends on the state it leaves behind
            y = cell.outputs(new[0], x[t]) if hasattr(cell, "coefficients") else new[0]
        if mask is not None:
            inside = mask[t, :, None]
            y = torch.where(inside, y, 0)
            new = tuple(torch.where(inside, a, b) for a, b in zip(new, state, strict=True))
        state, outputs[t], every[t] = new, y, new
    return torch.stack(outputs), state, every


def clamped(value: Tensor, limit: float, valid: Tensor) -> Tensor:
    """Return the value; its gradient in the `valid` rows is clamped to +-limit, each part apart, unless that is 0."""

    def clamp(grad: Tensor) -> Tensor:
        if grad.is_complex():
            return torch.where(
                valid, torch.complex(grad.real.clamp(-limit, limit), grad.imag.clamp(-limit, limit)), grad
            )
        return torch.where(valid, grad.clamp(-limit, limit), grad)

    if limit and value.requires_grad:
        value = value * 1  # the hook is of this use of it alone
        value.register_hook(clamp)
    return value


def assert_close(actual: Any, expected: Any, **tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, **(tolerance or FLOAT64))


def gradients(module: Any, *tensors: Tensor, upstream: int = 0) -> dict[str, Tensor]:
    """Return the gradients of all parameters from random gradients of the tensors."""
    module.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(upstream)
    grads = [torch.randn(tensor.shape, generator=generator, dtype=DTYPE).to(tensor.dtype) for tensor in tensors]
    torch.autograd.backward(list(tensors), grads)
    return {name: parameter.grad for name, parameter in module.named_parameters()}
