"""What gate maths do to their values, written down by calling them once with stand-ins: the first half of derive.py."""

import math
import numbers
import types
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from rnnlab_kernels.cells import vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES, Cell, Maths, rebind

MAX_POWER = 16


def _refuse(what: str) -> NoReturn:
    raise TypeError(
        f"gate maths cannot use {what}. Their values are single elements and know + - * /, ** with a whole number up "
        f"to {MAX_POWER}, Python numbers, and {', '.join(TORCH_NAMES)}; no branch may depend on a value."
    )


@dataclass
class Graph:
    """Operations in the order in which they were made, each once. Arguments are places in the list.

    A number is the operation "number" with its value, an input the operation "input" with its name.
    """

    operations: list[tuple[Any, ...]] = field(default_factory=list)
    places: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def make(self, operation: str, *arguments: Any) -> "Value":
        key = (operation, *arguments)
        if key not in self.places:
            self.places[key] = len(self.operations)
            self.operations.append(key)
        return Value(self, self.places[key])

    def arguments(self, place: int) -> tuple[int, ...]:
        operation, *arguments = self.operations[place]
        return () if operation in ("number", "input") else tuple(arguments)


class Value:
    """Stand-in for one value of the gate maths: where in the graph it was made."""

    def __init__(self, graph: Graph, place: int) -> None:
        self.graph, self.place = graph, place

    def apply(self, operation: str, *others: Any) -> "Value":
        """Write down an operation on this value and others, as it is."""
        return self.graph.make(operation, self.place, *(self._lift(other).place for other in others))

    def _lift(self, value: Any) -> "Value":
        if isinstance(value, Value):
            return value
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            _refuse(f"a value of type {type(value).__name__}")
        if not math.isfinite(number := float(value)):
            _refuse(f"the number {number}")
        return self.graph.make("number", number)

    def _negated(self) -> "Value | None":
        operation, *arguments = self.graph.operations[self.place]
        return Value(self.graph, arguments[0]) if operation == "neg" else None

    def _is(self, number: float) -> bool:
        return self.graph.operations[self.place] == ("number", number)

    # What is left out below changes no bit: x + 0, 1 * x, and signs, which move outwards.

    def __add__(self, other: Any) -> "Value":
        other = self._lift(other)
        if other._is(0.0):
            return self
        if self._is(0.0):
            return other
        if (negated := other._negated()) is not None:
            return self - negated
        if (negated := self._negated()) is not None:
            return other - negated
        return self.apply("+", other)

    def __radd__(self, other: Any) -> "Value":
        return self._lift(other) + self

    def __sub__(self, other: Any) -> "Value":
        other = self._lift(other)
        if (negated := other._negated()) is not None:
            return self + negated
        return self if other._is(0.0) else self.apply("-", other)

    def __rsub__(self, other: Any) -> "Value":
        return self._lift(other) - self

    def __mul__(self, other: Any) -> "Value":
        other = self._lift(other)
        if (negated := self._negated()) is not None:
            return -(negated * other)
        if (negated := other._negated()) is not None:
            return -(self * negated)
        if other._is(1.0):
            return self
        return other if self._is(1.0) else self.apply("*", other)

    def __rmul__(self, other: Any) -> "Value":
        return self._lift(other) * self

    def __truediv__(self, other: Any) -> "Value":
        if (negated := self._negated()) is not None:
            return -(negated / other)
        return self.apply("/", other)

    def __rtruediv__(self, other: Any) -> "Value":
        return self._lift(other) / self

    def __neg__(self) -> "Value":
        negated = self._negated()
        return self.apply("neg") if negated is None else negated

    def __pos__(self) -> "Value":
        return self

    def __pow__(self, exponent: Any) -> "Value":
        """A product of squares: neither Triton nor a vectorised loop has a power."""
        if not isinstance(exponent, int | float):
            _refuse("a value to the power of a value")
        if not float(exponent).is_integer() or not 1 <= abs(exponent) <= MAX_POWER:
            _refuse(f"the power {exponent}")
        square, power = self, None
        for digit in reversed(f"{abs(int(exponent)):b}"):
            if digit == "1":
                power = square if power is None else power * square
            square = square * square
        assert power is not None
        return power if exponent > 0 else 1.0 / power

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"the attribute .{name}")

    def __array_ufunc__(self, function: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(f"numpy.{function.__name__}")

    @classmethod
    def __torch_function__(cls, function: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(f"torch's {function.__name__}")


_REFUSED = {
    "a comparison": "lt le gt ge eq ne",
    "the truth of a value (if, while, and, or, not)": "bool",
    "a value as a number, which functions of math do": "float int index complex",
    "a value as a sequence": "len iter getitem contains",
    "a value as an array": "array",
    "abs": "abs",
    "round": "round trunc floor ceil",
    "%": "mod rmod divmod rdivmod",
    "//": "floordiv rfloordiv",
    "@": "matmul rmatmul",
    "a number to the power of a value": "rpow",
}
for _what, _names in _REFUSED.items():
    for _name in _names.split():
        setattr(Value, f"__{_name}__", lambda *args, what=_what, **kwargs: _refuse(what))


def _call(name: str, *arguments: Any) -> Any:
    """Write down a call of a vocabulary name, checked and simplified."""
    function = getattr(vocabulary, name)
    values = [argument for argument in arguments if isinstance(argument, Value)]
    # torch's ternary and gradient operators take no numbers, and products can be differentiated again.
    if not values or name in ("sigmoid_grad", "tanh_grad") or (name == "fma" and len(values) < len(arguments)):
        return function(*arguments)
    if len(arguments) != function.__code__.co_argcount:
        raise TypeError(f"{name} takes {function.__code__.co_argcount} arguments, not {len(arguments)}")
    if len(values) < len(arguments):
        _refuse(f"a number as an argument of {name}")
    return arguments[0].apply(name, *arguments[1:])


def _traced(value: Any, done: dict[Maths, Maths]) -> Any:
    """Return a function, and the functions that it calls, with the vocabulary bound to `_call`; other things as is."""
    if not isinstance(value, types.FunctionType) or (value.__module__ or "").split(".")[0] in ("numpy", "torch"):
        return value
    word = value.__name__
    if getattr(vocabulary, word, None) is value:
        return partial(_call, word)
    if value not in done:
        closure = tuple(types.CellType() for _ in value.__closure__ or ())
        done[value] = bound = rebind(value, {name: partial(_call, name) for name in TORCH_NAMES}, closure)
        for new, old in zip(closure, value.__closure__ or (), strict=True):
            new.cell_contents = _traced(old.cell_contents, done)
        for name in bound.__globals__.keys() & {*value.__code__.co_names}:
            bound.__globals__[name] = _traced(bound.__globals__[name], done)
    return done[value]


@dataclass
class Trace:
    """One call of `gates_fwd`: the graph, and the places of its inputs and of the new state."""

    graph: Graph
    gate_names: list[str]
    gates: list[int]
    carried: list[int]
    state: list[int]


def trace(cell: Cell) -> Trace:
    """Call `cell.gates_fwd` with stand-ins. TypeError where it does what gate maths cannot."""
    graph = Graph()
    merged, split = cell.gates[: cell.num_merged], cell.gates[cell.num_merged :]
    gate_names = [*merged, *(f"{name}_x" for name in split), *(f"{name}_h" for name in split)]
    gates = tuple(graph.make("input", "gate", name) for name in gate_names)
    carried = tuple(graph.make("input", "carried", name) for name in cell.carried)
    result = _traced(cell.gates_fwd, {})(gates, carried)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], tuple)):
        raise TypeError(f"gates_fwd of {cell.name!r} must return (state, saved), both tuples")
    if len(result[0]) != len(cell.states) or not all(isinstance(value, Value) for value in result[0]):
        raise TypeError(f"gates_fwd of {cell.name!r} must return a computed value for each of the states {cell.states}")
    return Trace(graph, gate_names, *([value.place for value in part] for part in (gates, carried, result[0])))
