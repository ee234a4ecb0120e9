"""One source of gate maths, three bindings: torch functions, Triton device functions, compiled CPU loops.

A cell writes `gates_fwd` and `gates_bwd` over bare names (`sigmoid`, `tanh`, `fma`, ...). Binding copies a function so
that these names are looked up in another vocabulary: torch's, which makes it the CPU route and the differentiable
reference, Triton's, which makes it a device function that any schedule takes as a `tl.constexpr`, or Numba's.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

Maths = Callable[..., Any]


@dataclass(frozen=True)
class Cell:
    """The gate maths of one recurrent cell and the shapes a schedule must know.

    Attributes:
        name: torch's mode name in lower case, e.g. `"lstm"`.
        gates: names of the G gates in torch's order.
        states: names of the state tensors, each (B, H); the first is "h", which the recurrent GEMM reads.
        carried: the states whose previous value enters the gate maths element by element, not through the GEMM. Every
            state but h must be among them, or its gradient would have no way back.
        saved: names of the values that `gates_fwd` keeps for `gates_bwd`.
        split: how many of the last gates need their input part and their recurrent part apart (GRU: n).
        gates_fwd: `(gates, carried) -> (state, saved)`. `gates` holds the pre-activations: the sums of the merged
            gates, then the input parts of the split gates, then their recurrent parts.
        gates_bwd: `(dstate, saved, carried, state) -> (dgates, dcarried)`, linear in `dstate`.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    carried: tuple[str, ...]
    saved: tuple[str, ...]
    split: int
    gates_fwd: Maths
    gates_bwd: Maths

    @property
    def num_gates(self) -> int:
        return len(self.gates)

    @property
    def num_merged(self) -> int:
        return len(self.gates) - self.split

    def carried_index(self) -> tuple[int, ...]:
        """Positions in `states` of the carried ones."""
        return tuple(self.states.index(name) for name in self.carried)


def _rebind(function: Maths, names: dict[str, Any]) -> types.FunctionType:
    assert isinstance(function, types.FunctionType)
    return types.FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)


def _torch_fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(c, a, b)


# The derivative names take the upstream gradient and the activated value, as torch's fused backward operators do.
TORCH_NAMES: dict[str, Any] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "fma": _torch_fma,
    "sigmoid_grad": torch.ops.aten.sigmoid_backward.default,
    "tanh_grad": torch.ops.aten.tanh_backward.default,
    "relu_grad": lambda dy, y: torch.ops.aten.threshold_backward.default(dy, y, 0),
}


@cache
def bind_torch(function: Maths) -> Maths:
    """Return `function` computing on torch tensors, differentiable as far as torch's operators are."""
    return _rebind(function, TORCH_NAMES)


@cache
def bind_triton(function: Maths) -> Any:
    """Return `function` as a Triton device function. Imports Triton on first use."""
    import triton
    import triton.language as tl

    from rnnlab_kernels.cells import device

    names = {"tl": tl, **{name: getattr(device, name) for name in TORCH_NAMES}}
    return triton.jit(_rebind(function, names))


@cache
def bind_numba(function: Maths) -> Any:
    """Return `function` as a Numba function on float32 scalars, inlined where it is called. Imports Numba."""
    from rnnlab_kernels.cells import compiled

    names = {name: getattr(compiled, name) for name in TORCH_NAMES}
    return compiled.inline(_rebind(function, names))
