"""Recurrent cells for `Recurrent`: the protocol, and the base of cells whose gate maths the kernels run.

A cell is an nn.Module with `input_size`, `hidden_size`, `initial_state(batch_size, device, dtype)` and
`forward(x_t, state) -> (y_t, state)`; a state is a NamedTuple of tensors (B, width). That is all `Recurrent` asks for,
and such a cell runs on the plain loop. A cell that derives from `ChainCell` also says, in data, what one step does, and
runs on every backend; `GatedCell` is the short way to that for a cell of one recurrent product and one gate update.

Letters: T time, B batch, I input_size, H hidden_size, G gates.
"""

import inspect
from collections import namedtuple
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.bind import check_names
from rnnlab_kernels.cells.chain import Chain, Norm, Product, as_chain, check_carried
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.schedules.reference import one_step

Tensors = tuple[Tensor, ...]


class ChainCell(nn.Module):
    """A cell whose step is a chain of products, norms and gate updates.

    A subclass sets `chain` and says which tensors its weights are (`kernel_weights`). What can be computed for all
    steps at once, before or after the recurrence, goes into `inputs` and `outputs`.

    Attributes:
        chain: what a step does; see rnnlab_kernels.cells.chain.
        input_size: I.
        hidden_size: H.
        output_size: features of what a step gives out.
    """

    chain: Chain
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", (args, kwargs))  # for respawn
        return self

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero, got: {size}")
        self.input_size, self.hidden_size = input_size, hidden_size

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Widths of the states, in the order of `chain.states`."""
        return (self.hidden_size,) * len(self.chain.states)

    @property
    def state_type(self) -> Callable[..., Any]:
        """The NamedTuple of the states."""
        states = self.chain.states
        return _STATE_TYPES.get(states) or state_tuple(states)

    def kernel_weights(self) -> dict[str, Tensor]:
        """Return the weights by the names that `chain` uses, gradients attached; None is left out."""
        raise NotImplementedError

    def respawn(self, input_size: int) -> Any:
        """Return a cell built with the same arguments but for `input_size`; its parameters are drawn anew."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.arguments["input_size"] = input_size
        like = next(self.parameters())
        return type(self)(*bound.args[1:], **bound.kwargs).to(like.device, like.dtype)

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the recurrence reads for x (..., I): x, which "ih" then multiplies, or gates (..., G*H)."""
        return x

    def outputs(self, y: Tensor) -> Tensor:
        """Return the layer's output for what the steps gave out, y (..., width)."""
        return y

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> Any:
        """Return zeros, each (B, width), on the device and in the dtype of the weights unless told otherwise."""
        if device is None or dtype is None:
            like = next(self.parameters())
            device, dtype = device or like.device, dtype or like.dtype
        zeros: list[Tensor] = []
        for size in self.state_sizes:
            zeros.append(torch.zeros(batch_size, size, device=device, dtype=dtype))
        return self.state_type(*zeros)

    def forward(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Advance by one step: x_t (B, I) and a state to y_t (B, output_size) and the new state."""
        if state is None:
            state = self.initial_state(x_t.shape[0], x_t.device, x_t.dtype)
        output, new = one_step(self.chain, self.inputs(x_t), tuple(state), self.kernel_weights())
        return self.outputs(output), self.state_type(*new)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class GatedCell(ChainCell):
    """A cell of one recurrent product and one gate update: h enters through the product, the rest element by element.

    A subclass names its gates and states and writes `gates_fwd` over the names of rnnlab_kernels.cells.vocabulary;
    `gates_bwd` may be written by hand or is derived. `gates_fwd_dropped`, if there is one, is `gates_fwd` with one more
    carried value, a mask that multiplies the candidate: without it there is no `candidate_dropout`. See
    `rnnlab_kernels.cells.bind.Cell` for the conventions. A name that does not fit, and maths that do not return what
    they should, are a ValueError or a TypeError when the class is made.

    Attributes:
        constants: names of learnable vectors (H,), one number a unit, the same at every step, as peepholes are. Each is
            a parameter of that name, and comes to `gates_fwd` after the carried states.
        keeps: which gate keeps the past, ("z", 1) if it is the share that is kept, ("z", -1) if 1 minus it is; unless
            said, f does. Chrono initialisation sets its bias, and time constants are read from it.

    Args:
        bias: True for torch's two vectors, "single" for one, False for none.

    Example:
        >>> from rnnlab_kernels.cells.vocabulary import sigmoid, tanh
        >>> class Leaky(GatedCell):
        ...     gates, states, carried, constants = ("g",), ("h",), ("h",), ("rate",)
        ...     @staticmethod
        ...     def gates_fwd(gates, carried):
        ...         h_prev, rate = carried
        ...         return (h_prev + sigmoid(rate) * (tanh(gates[0]) - h_prev),), ()
        >>> y, state = Leaky(3, 4)(torch.zeros(2, 3))
        >>> y.shape
        torch.Size([2, 4])
    """

    gates: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]] = ("h",)
    carried: ClassVar[tuple[str, ...]] = ()
    saved: ClassVar[tuple[str, ...]] = ()
    constants: ClassVar[tuple[str, ...]] = ()
    split: ClassVar[int] = 0
    gates_fwd: ClassVar[Callable[..., Any]]
    gates_bwd: ClassVar[Callable[..., Any] | None] = None
    gates_fwd_dropped: ClassVar[Callable[..., Any] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not _DECLARED & cls.__dict__.keys() or not hasattr(cls, "gates_fwd"):
            return
        who = f"of {cls.__name__!r}"
        for word in ("gates", "states", "carried", "constants"):
            check_names(f"{word} {who}", getattr(cls, word))
        for name in cls.constants:
            if name in cls.states or hasattr(GatedCell, name) or name in _PARAMETERS or not name.isidentifier():
                raise ValueError(f"constants {who} has {name!r}, which cannot be the name of a parameter of its own")
        carried = (*(name for name in cls.carried if name not in cls.constants), *cls.constants)
        shape, dropped = (cls.gates, cls.states), None
        if (maths := _of_this_forward(cls, "gates_fwd_dropped")) is not None:
            dropped = derive(Cell(f"{cls.__name__}_dropped", *shape, (*carried, "mask"), (), cls.split, maths))
        by_hand = _of_this_forward(cls, "gates_bwd")
        cell = Cell(cls.__name__, *shape, carried, cls.saved, cls.split, cls.gates_fwd, by_hand, dropped)
        check_carried(cell, cls.constants)
        cls.chain = as_chain(derive(cell), constants=cls.constants)

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool | str = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.bias = check_bias(bias)
        add_gate_parameters(self, len(self.gates) * hidden_size, input_size, hidden_size, bias, device, dtype)
        for name in self.constants:
            setattr(self, name, nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch does."""
        uniform_parameters(self)

    def kernel_weights(self) -> dict[str, Tensor]:
        return gate_weights(self) | {name: getattr(self, name) for name in self.constants}


_DECLARED = {"gates", "states", "carried", "saved", "constants", "split", "gates_fwd", "gates_bwd", "gates_fwd_dropped"}
_PARAMETERS = {"bias", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "ih", "hh", "input_size", "hidden_size", "mask"}


def _of_this_forward(cls: type[GatedCell], name: str) -> Callable[..., Any] | None:
    """Return a function of the class; None where it belongs to a `gates_fwd` that a subclass has replaced."""
    for owner in cls.__mro__:
        if name in vars(owner):
            return getattr(cls, name)
        if "gates_fwd" in vars(owner):
            return None
    return None


class GateRowsCell(ChainCell):
    """A chain cell whose main weights have torch's names and shapes.

    Attributes:
        gates: names of the blocks of H rows of weight_ih (G*H, I), weight_hh (G*H, H) and the biases, in order.
        num_heads: N. Each head of D = H/N units reads its own units of h alone, so that weight_hh is (G*H, D): the row
            of gate g, head n and unit u multiplies the h of head n.
        further: names of weights beside those, as attributes; the chain says "hr" for weight_hr. What is None is left
            out.
    """

    gates: ClassVar[tuple[str, ...]]
    further: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str,
        device: Any,
        dtype: Any,
        rows: int | None = None,
        columns: int | None = None,
        num_heads: int = 1,
    ) -> None:
        """Register the main weights: G*H rows and H/N columns of weight_hh unless told otherwise."""
        super().__init__(input_size, hidden_size)
        self.bias = check_bias(bias)
        self.num_heads = check_size("num_heads", num_heads)
        if hidden_size % num_heads:
            raise ValueError(f"num_heads must divide hidden_size, got: {num_heads} and {hidden_size}")
        rows = len(self.gates) * hidden_size if rows is None else rows
        add_gate_parameters(self, rows, input_size, columns or hidden_size // num_heads, bias, device, dtype)

    def _empty(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(self.weight_ih.new_empty(shape))  # type: ignore[operator]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch does."""
        uniform_parameters(self)

    def kernel_weights(self) -> dict[str, Tensor]:
        weights = gate_weights(self, self.further)
        if self.num_heads > 1:
            weights["hh"] = by_head(weights["hh"], self.num_heads)
        return weights


def check_weights(cell: ChainCell) -> None:
    """Raise TypeError unless `kernel_weights` has what the chain names, constants as vectors; biases may lack."""
    weights, chain = cell.kernel_weights(), cell.chain
    wanted = [stage.weight for stage in chain.stages if isinstance(stage, Product)]
    wanted += [stage.gain for stage in chain.stages if isinstance(stage, Norm)]
    name = type(cell).__name__
    for weight in (*wanted, *chain.constants):
        if weight not in weights:
            raise TypeError(f"the chain of {name} needs {weight!r}; its kernel_weights has {', '.join(weights)}")
    for weight in chain.constants:
        if weights[weight].dim() != 1:
            raise TypeError(f"{weight!r} of {name} must be a vector (H,), got shape {tuple(weights[weight].shape)}")


_STATE_TYPES: dict[tuple[str, ...], Any] = {}


def state_tuple(names: tuple[str, ...]) -> Any:
    """Return the NamedTuple with these fields, the same one each time."""
    if names not in _STATE_TYPES:
        _STATE_TYPES[names] = namedtuple("State", names)
        _STATE_TYPES[names].__reduce__ = lambda self: (_state, (names, tuple(self)))
    return _STATE_TYPES[names]


def _state(names: tuple[str, ...], values: Tensors) -> Any:
    """Return a state out of a pickle, which finds no class that is made as the program runs."""
    return state_tuple(names)(*values)


def check_bias(bias: object) -> bool | str:
    """Return `bias` if it is True, False or "single".

    Raises:
        TypeError: anything else.
    """
    if bias not in (True, False, "single") or isinstance(bias, int | float) and not isinstance(bias, bool):
        raise TypeError(f"bias should be True, False or 'single', got: {bias!r}")
    return bias


def add_gate_parameters(
    module: nn.Module, rows: int, input_size: int, width: int, bias: bool | str, device: Any, dtype: Any
) -> None:
    """Register weight_ih (rows, I), weight_hh (rows, width) and bias_ih, bias_hh (rows,), or one `bias`, or none."""

    def empty(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

    module.weight_ih, module.weight_hh = empty(rows, input_size), empty(rows, width)
    if bias == "single":
        module.bias_ih = empty(rows)
    elif bias:
        module.bias_ih, module.bias_hh = empty(rows), empty(rows)


def uniform_parameters(module: nn.Module) -> None:
    """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)) in the order of `parameters()`, as torch does."""
    bound = float(module.hidden_size) ** -0.5  # type: ignore[arg-type]
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def gate_weights(module: nn.Module, further: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return what `add_gate_parameters` registered, and `further` attributes, by the names of a chain: no "weight_"."""
    found: dict[str, Any] = {}
    own = module._parameters  # before the search that `getattr` makes
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *further):
        weight = own[name] if name in own else getattr(module, name, None)
        if weight is not None:
            found[name.removeprefix("weight_")] = weight
    return found


def by_head(weight: Tensor, num_heads: int) -> Tensor:
    """Return a recurrent weight of N heads (G*H, D) as the schedules take it, (N, G*D, D)."""
    units = weight.shape[1]
    return weight.view(-1, num_heads, units, units).transpose(0, 1).reshape(num_heads, -1, units)


def present(**weights: Tensor | None) -> dict[str, Tensor]:
    """Return the weights that are not None."""
    return {name: weight for name, weight in weights.items() if weight is not None}


def check_name(argument: str, name: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless `name` is one of `allowed`."""
    if name not in allowed:
        raise ValueError(f"Unknown {argument}={name!r}. Select from {', '.join(map(repr, allowed))}.")


def check_size(argument: str, size: object, least: int = 1) -> int:
    """Return `size` if it is an int of at least `least`.

    Raises:
        TypeError: it is no int.
        ValueError: it is too small.
    """
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{argument} should be of type int, got: {type(size).__name__}")
    if size < least:
        raise ValueError(f"{argument} must be at least {least}, got: {size}")
    return size
