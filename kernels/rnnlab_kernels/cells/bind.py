"""One source of gate maths, three bindings: torch functions, Triton device functions, compiled CPU loops.

A cell writes `gates_fwd` and `gates_bwd` over bare names (`sigmoid`, `tanh`, `fma`, ...). Binding copies a function so
that these names are looked up in another vocabulary: torch's, which makes it the CPU route and the differentiable
reference, Triton's, which makes it a device function that any schedule takes as a `tl.constexpr`, or Numba's.

Numbers in gate maths are float literals, `2.0 * x`: an integer would make Numba compute in float64. `derive`
(derive.py) takes numbers of any kind and from anywhere, and writes a missing `gates_bwd`.
"""

import hashlib
import types
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import Any

import torch

Maths = Callable[..., Any]
CELLS_BY_KEY: dict[str, "Cell"] = {}


def registered(new: Any, by_key: dict[str, Any], content: Any) -> str:
    """Return the key of a cell or chain, after putting it among those `by_key`: its name and a digest of its content.

    So a compiled or exported program that holds the key never runs other maths than it was made with, be it in another
    process or after an edit. The digest is of bytecode: another minor version of Python has others.
    """
    key = f"{new.name}:{hashlib.sha256(repr(content).encode()).hexdigest()[:12]}"
    by_key[key] = new
    return key


def find(by_key: dict[str, Any], key: str) -> Any:
    """Return the cell or chain of a key.

    Raises:
        KeyError: it has not been made in this process.
    """
    if key not in by_key:
        raise KeyError(
            f"this program runs {key}, a cell that has not been made in this process, or was made otherwise: import "
            "its module, and make one as it was, before the program is loaded"
        )
    return by_key[key]


def check_names(what: str, names: object) -> None:
    """Raise TypeError unless `names` is a tuple of strings, ValueError if one stands in it twice."""
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        hint = f": with a comma, ({names!r},)" if isinstance(names, str) else ""
        raise TypeError(f"{what} must be a tuple of names, got: {names!r}{hint}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{what} must be different names, got {twice[0]!r} twice")


def _content(function: Maths | None) -> Any:
    """Return what decides about what a function of gate maths computes."""
    if not isinstance(function, types.FunctionType):
        return None
    return _code(function.__code__), [repr(cell.cell_contents) for cell in function.__closure__ or ()]


def _code(code: types.CodeType) -> Any:
    constants = [_code(value) if isinstance(value, types.CodeType) else value for value in code.co_consts]
    return code.co_code, code.co_names, constants


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
        gates_bwd: `(dstate, saved, carried, state) -> (dgates, dcarried)`, linear in `dstate`. None until `derive` has
            written it; then `saved` is `derive`'s to fill as well.
        dropped: the variant of this cell with dropout on the candidate. Its last carried value is a mask (B, H), 0 or
            1 / (1 - p), that multiplies the candidate; `gates_bwd` returns a gradient for it, which goes nowhere.
        gates_total: `(dstate, saved, carried, state) -> dstate`: the whole gradients of the new states, where some are
            made of others, for recording.py; None where they are not, or nobody has written it.
        torch_fwd: `gates_fwd` on torch tensors.
        key: by which operators name the cell, in `CELLS_BY_KEY`.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    carried: tuple[str, ...]
    saved: tuple[str, ...]
    split: int
    gates_fwd: Maths
    gates_bwd: Maths | None = None
    dropped: "Cell | None" = None
    gates_total: Maths | None = None
    torch_fwd: Maths = field(init=False, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for word in ("gates", "states", "carried", "saved"):
            check_names(f"{word} of {self.name!r}", getattr(self, word))
        if not 0 <= self.split <= len(self.gates):
            raise ValueError(f"split of {self.name!r} must be between 0 and {len(self.gates)}, got: {self.split}")
        content = self.arguments() | {
            "gates_fwd": _content(self.gates_fwd),
            "gates_bwd": _content(self.gates_bwd),
            "dropped": None if self.dropped is None else self.dropped.key,
        }
        del content["gates_total"]  # no program computes it
        object.__setattr__(self, "key", registered(self, CELLS_BY_KEY, content))
        # Bound here and not at a call: torch.compile can trace a call of a function, but not its making.
        object.__setattr__(self, "torch_fwd", bind_torch(self.gates_fwd))

    def arguments(self) -> dict[str, Any]:
        """Return what the cell was made with."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def __reduce__(self) -> Any:
        return partial(type(self), **self.arguments()), ()  # a bound function has no name to be pickled by

    @property
    def num_gates(self) -> int:
        return len(self.gates)

    @property
    def num_merged(self) -> int:
        return len(self.gates) - self.split

    def carried_index(self) -> tuple[int, ...]:
        """Positions in `states` of the carried ones."""
        return tuple(self.states.index(name) for name in self.carried)


def rebind(
    function: Maths | None, names: dict[str, Any], closure: tuple[types.CellType, ...] | None = None
) -> types.FunctionType:
    """Return a copy of `function` that finds `names` before its own globals, with its own closure or a new one.

    Raises:
        TypeError: `function` is None, the missing gradient of a cell, or not a plain Python function.
    """
    if function is None:
        raise TypeError("this cell has no gates_bwd: derive(cell) returns it with one")
    if not isinstance(function, types.FunctionType):
        kind = type(function).__name__
        raise TypeError(f"gate maths are plain Python functions, in a class a @staticmethod, not a {kind}")
    names = {**function.__globals__, **names}
    closure = closure or function.__closure__
    bound = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, closure)
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound


def _torch_fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(c, a, b)


def _torch_softplus(x: torch.Tensor) -> torch.Tensor:
    # torch's own threshold of 20 leaves out 2e-9; beyond 40 nothing is left in float64, and float32 does not overflow.
    return torch.nn.functional.softplus(x, threshold=40.0)


def _extreme(function: Maths) -> Maths:
    def call(a: Any, b: Any) -> torch.Tensor:
        # A number as a tensor of the other's dtype: clamp would have another gradient where the two are equal.
        if isinstance(a, torch.Tensor):
            return function(a, b if isinstance(b, torch.Tensor) else torch.full_like(a, b))
        return function(torch.full_like(b, a), b)

    return call


def _torch_where(condition: torch.Tensor, a: Any, b: Any) -> torch.Tensor:
    if not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor):
        raise TypeError(f"where of the numbers {a} and {b}: only a derived gradient knows what dtype they have")
    return torch.where(condition, a, b)


# The derivative names take the upstream gradient and the activated value, as torch's fused backward operators do.
TORCH_NAMES: dict[str, Any] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "exp": torch.exp,
    "softplus": _torch_softplus,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "abs": torch.abs,
    "maximum": _extreme(torch.maximum),
    "minimum": _extreme(torch.minimum),
    "where": _torch_where,
    "fma": _torch_fma,
    "sigmoid_grad": torch.ops.aten.sigmoid_backward.default,
    "tanh_grad": torch.ops.aten.tanh_backward.default,
    "relu_grad": lambda dy, y: torch.ops.aten.threshold_backward.default(dy, y, 0),
}


@cache
def bind_torch(function: Maths | None) -> Maths:
    """Return `function` computing on torch tensors, differentiable as far as torch's operators are."""
    return rebind(function, TORCH_NAMES)


@cache
def bind_triton(function: Maths | None) -> Any:
    """Return `function` as a Triton device function. Imports Triton on first use."""
    import triton
    import triton.language as tl

    from rnnlab_kernels.cells import device

    names = {"tl": tl, **{name: getattr(device, name) for name in TORCH_NAMES}}
    return triton.jit(rebind(function, names))


@cache
def bind_numba(function: Maths | None) -> Any:
    """Return `function` as a Numba function on float32 scalars, inlined where it is called. Imports Numba."""
    from rnnlab_kernels.cells import compiled

    names = {name: getattr(compiled, name) for name in TORCH_NAMES}
    bound = rebind(function, names)
    # A Python float is a float64 to Numba, and what it touches becomes one.
    bound.__code__ = bound.__code__.replace(co_consts=compiled.single(bound.__code__.co_consts))
    return compiled.inline(bound)
