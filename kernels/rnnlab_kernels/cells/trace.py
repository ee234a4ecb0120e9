"""What gate maths do to their values, written down by calling them once with stand-ins: the first half of derive.py."""

import difflib
import inspect
import math
import numbers
import types
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from rnnlab_kernels.cells import vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES, Cell, Maths, rebind

MAX_POWER = 16


class Refused(TypeError):
    """Gate maths used something that is not theirs."""


def nearest(name: str) -> str:
    """Return a hint at the word of the vocabulary that looks most like a name, empty if none does."""
    found = difflib.get_close_matches(name, TORCH_NAMES, 1)
    return f" (nearest: {found[0]})" if found else ""


def _refuse(what: str, name: str = "") -> NoReturn:
    raise Refused(
        f"gate maths cannot use {what}{nearest(name)}. Their values are single elements and know + - * /, ** with a "
        f"whole number up to {MAX_POWER}, Python numbers, and {', '.join(TORCH_NAMES)}; no branch may depend on a "
        "value: where(x > 0, a, b) takes < <= > >=."
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


class StandIn:
    """Stand-in for something that gate maths compute: where in the graph it was made."""

    def __init__(self, graph: Graph, place: int) -> None:
        self.graph, self.place = graph, place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"the attribute .{name}", name)

    def __array_ufunc__(self, function: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(f"numpy.{function.__name__}", function.__name__)

    @classmethod
    def __torch_function__(cls, function: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(f"torch's {function.__name__}", function.__name__)


class Condition(StandIn):
    """A comparison, for `where` alone."""


class Value(StandIn):
    """A value of the gate maths."""

    def apply(self, operation: str, *others: Any) -> "Value":
        """Write down an operation on this value and others, as it is."""
        return self.graph.make(operation, self.place, *(self.lift(other).place for other in others))

    def lift(self, value: Any) -> "Value":
        if isinstance(value, Value):
            return value
        if isinstance(value, Condition):
            _refuse(_MISPLACED)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            _refuse(f"a value of type {type(value).__name__}")
        if not math.isfinite(number := float(value)):
            _refuse(f"the number {number}")
        return self.graph.make("number", number)

    def is_number(self) -> bool:
        return self.graph.operations[self.place][0] == "number"

    def _negated(self) -> "Value | None":
        operation, *arguments = self.graph.operations[self.place]
        return Value(self.graph, arguments[0]) if operation == "neg" else None

    def _is(self, number: float) -> bool:
        return self.graph.operations[self.place] == ("number", number)

    # What is left out below changes no bit: x + 0, 1 * x, and signs, which move outwards.

    def __add__(self, other: Any) -> "Value":
        other = self.lift(other)
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
        return self.lift(other) + self

    def __sub__(self, other: Any) -> "Value":
        other = self.lift(other)
        if (negated := other._negated()) is not None:
            return self + negated
        return self if other._is(0.0) else self.apply("-", other)

    def __rsub__(self, other: Any) -> "Value":
        return self.lift(other) - self

    def __mul__(self, other: Any) -> "Value":
        other = self.lift(other)
        if (negated := self._negated()) is not None:
            return -(negated * other)
        if (negated := other._negated()) is not None:
            return -(self * negated)
        if other._is(1.0):
            return self
        return other if self._is(1.0) else self.apply("*", other)

    def __rmul__(self, other: Any) -> "Value":
        return self.lift(other) * self

    def __truediv__(self, other: Any) -> "Value":
        if (negated := self._negated()) is not None:
            return -(negated / other)
        return self.apply("/", other)

    def __rtruediv__(self, other: Any) -> "Value":
        return self.lift(other) / self

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

    def __abs__(self) -> "Value":
        return self.apply("abs")

    def __lt__(self, other: Any) -> Condition:
        return self._compared("<", other)

    def __le__(self, other: Any) -> Condition:
        return self._compared("<=", other)

    def __gt__(self, other: Any) -> Condition:
        return self._compared(">", other)

    def __ge__(self, other: Any) -> Condition:
        return self._compared(">=", other)

    def _compared(self, operation: str, other: Any) -> Condition:
        return Condition(self.graph, self.apply(operation, other).place)


COMPARISONS = ("<", "<=", ">", ">=")
_MISPLACED = "a comparison but as the first argument of where, one comparison each"
_ARITHMETIC = "add radd sub rsub mul rmul truediv rtruediv pow neg pos abs lt le gt ge and rand or ror xor rxor invert"
_REFUSED = {
    "== or !=": "eq ne",
    "the truth of a value (if, while, and, or, not, max, min)": "bool",
    "a value as a number, which functions of math do": "float int index complex",
    "a value as a sequence": "len iter getitem contains",
    "a value as an array": "array",
    "round": "round trunc floor ceil",
    "%": "mod rmod divmod rdivmod",
    "//": "floordiv rfloordiv",
    "@": "matmul rmatmul",
    "a number to the power of a value": "rpow",
}
for _class, _refused in ((StandIn, _REFUSED), (Condition, {_MISPLACED: _ARITHMETIC})):
    for _what, _names in _refused.items():
        for _name in _names.split():
            setattr(_class, f"__{_name}__", lambda *args, what=_what, **kwargs: _refuse(what))


def choose(condition: StandIn, a: Any, b: Any) -> Value:
    """Write down `where`."""
    graph, compared = condition.graph, [Value(condition.graph, k) for k in condition.graph.arguments(condition.place)]
    a, b = compared[0].lift(a), compared[0].lift(b)
    operation, *arguments = graph.operations[a.place]
    if operation == "where" and arguments[0] == condition.place:
        a = Value(graph, arguments[1])
    if a.place == b.place:
        return a
    if a.is_number() and b.is_number():
        # torch gives two numbers its default dtype: b where x, which is never taken, has that of x.
        x = next(value for value in compared if not value.is_number())
        b = graph.make("where", condition.place, x.place, b.place)
    return graph.make("where", condition.place, a.place, b.place)


def _call(name: str, *arguments: Any) -> Any:
    """Write down a call of a vocabulary name, checked and simplified."""
    function = getattr(vocabulary, name)
    values = [argument for argument in arguments if isinstance(argument, Value)]
    if name == "where" and len(arguments) == 3 and isinstance(arguments[0], Condition):
        return choose(*arguments)
    if any(isinstance(argument, Condition) for argument in arguments):
        _refuse(_MISPLACED)
    # torch's ternary and gradient operators take no numbers, and products can be differentiated again.
    if not values or name in ("sigmoid_grad", "tanh_grad") or (name == "fma" and len(values) < len(arguments)):
        return function(*arguments)
    if len(arguments) != function.__code__.co_argcount:
        raise TypeError(f"{name} takes {function.__code__.co_argcount} arguments, not {len(arguments)}")
    if name in ("maximum", "minimum"):
        number = next((argument for argument in arguments if not isinstance(argument, Value)), None)
        return values[0].apply(name, values[1] if number is None else number)
    if name == "where":
        _refuse("where without a comparison as its first argument")
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
    saved: Any  # as returned: `derive` has no use for it


Arguments = dict[str, tuple[tuple[str, ...], tuple[Any, ...]]]  # names and values of each argument


def _run(cell: Cell, word: str, function: Maths, given: Arguments) -> Any:
    """Call a function of the cell with stand-ins. TypeError, with the cell's name, for what it cannot do with them."""
    who, values = f"{word} of {cell.name!r}", [value for _, value in given.values()]
    try:
        (signature := inspect.signature(function)).bind(*values)
    except TypeError:
        static = ", as a @staticmethod" if "self" in signature.parameters else ""
        found = ", ".join(signature.parameters)
        raise TypeError(f"{who} must take ({', '.join(given)}){static}, not ({found})") from None
    try:
        try:
            return _traced(function, {})(*values)
        except NameError as error:
            _refuse(f"{error.name}, which is not defined", error.name or "")
    except Refused as error:
        raise TypeError(f"{who}: {error}") from error
    except (ValueError, IndexError) as error:  # of taking a tuple apart
        known = "; ".join(f"{word} are {_listed(names)}" for word, (names, _) in given.items())
        raise TypeError(f"{who}: {error}; its {known}") from error


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _is_values(part: Any, names: tuple[str, ...]) -> bool:
    """Return whether a part of a result is a tuple with a computed value for each name."""
    return isinstance(part, tuple) and len(part) == len(names) and all(isinstance(value, Value) for value in part)


def _shape(part: Any) -> str:
    return str(len(part)) if isinstance(part, tuple) else type(part).__name__


def trace(cell: Cell) -> Trace:
    """Call `cell.gates_fwd` with stand-ins. TypeError where it does what gate maths cannot."""
    graph = Graph()
    merged, split = cell.gates[: cell.num_merged], cell.gates[cell.num_merged :]
    gate_names = [*merged, *(f"{name}_x" for name in split), *(f"{name}_h" for name in split)]
    gates = tuple(graph.make("input", "gate", name) for name in gate_names)
    carried = tuple(graph.make("input", "carried", name) for name in cell.carried)
    given = {"gates": (tuple(gate_names), gates), "carried": (cell.carried, carried)}
    result = _run(cell, "gates_fwd", cell.gates_fwd, given)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], tuple)):
        raise TypeError(f"gates_fwd of {cell.name!r} must return (state, saved), both tuples")
    if len(result[0]) != len(cell.states) or not all(isinstance(value, Value) for value in result[0]):
        raise TypeError(
            f"gates_fwd of {cell.name!r} must return a computed value for each of the states ({_listed(cell.states)}), "
            f"not {_shape(result[0])}"
        )
    of_gates, of_carried, of_state = ([value.place for value in part] for part in (gates, carried, result[0]))
    return Trace(graph, gate_names, of_gates, of_carried, of_state, result[1])


def check_by_hand(cell: Cell) -> None:
    """Call both functions of a cell whose gradient is written by hand with stand-ins.

    Raises:
        TypeError: they do what gate maths cannot, or do not return what `Cell` says.
    """
    traced = trace(cell)
    if not _is_values(traced.saved, cell.saved):
        raise TypeError(
            f"gates_fwd of {cell.name!r} must return a computed value for each of the saved ({_listed(cell.saved)}), "
            f"not {_shape(traced.saved)}"
        )
    graph = traced.graph
    carried, state = (tuple(Value(graph, place) for place in places) for places in (traced.carried, traced.state))
    dstate = tuple(graph.make("input", "dstate", name) for name in cell.states)
    given = {
        "dstate": (cell.states, dstate),
        "saved": (cell.saved, traced.saved),
        "carried": (cell.carried, carried),
        "state": (cell.states, state),
    }
    assert cell.gates_bwd is not None
    result = _run(cell, "gates_bwd", cell.gates_bwd, given)
    wanted = {"gates": tuple(traced.gate_names), "carried": cell.carried}
    pair = isinstance(result, tuple) and len(result) == 2
    for part, (word, names) in zip(result if pair else (result, result), wanted.items(), strict=True):
        if not pair or not _is_values(part, names):
            raise TypeError(
                f"gates_bwd of {cell.name!r} must return (dgates, dcarried), both tuples, with a gradient for each of "
                f"its {word} ({_listed(names)}), not {_shape(part)}"
            )
