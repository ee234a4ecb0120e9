"""The gradient of a cell's gate maths, written by differentiating them: `derive(cell)` fills in `gates_bwd`.

`gates_fwd` is called once with stand-ins that write down what is done to them. Walking that list backwards with the
rules of `_RULES` (reverse-mode differentiation) gives the gradients as further operations on the same values. Both
directions are then printed as Python source over the names of vocabulary.py, one assignment a value that is used twice
or handed on, and take the ordinary bindings from there.

What backward needs of forward is saved, unless the new states, the carried values and what is saved already give it by
arithmetic and one activation: tanh(c) of an LSTM is computed again, which costs less than a trip through memory.

Helper functions, loops over tuples, closures and module constants are welcome in `gates_fwd`: only what they do to
values is written down.
"""

import hashlib
import keyword
import linecache
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rnnlab_kernels.cells import vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES, Cell, Maths
from rnnlab_kernels.cells.trace import COMPARISONS, Graph, Value, check_by_hand, choose, trace

_MAX_INLINE = 60  # characters of an expression that is still written inside another one
_COSTLY = {"sigmoid", "tanh", "exp", "softplus", "log", "sin", "cos"}


def _where(condition: Value, a: Value | float, b: Value | float) -> Value | None:
    chosen = choose(condition, a, b)
    return chosen if isinstance(chosen, Value) else None  # 0 on both sides


def _share(dy: Value, loses: Any, wins: Any) -> Value | None:
    """Return the part of dy that one of two arguments gets, half where neither wins."""
    return _where(loses, 0.0, choose(wins, dy, dy * 0.5))


# From the gradient of a result, the result and the arguments to the gradients of the arguments; None is no gradient.
_RULES: dict[str, Callable[..., tuple[Value | None, ...]]] = {
    "+": lambda dy, y, a, b: (dy, dy),
    "-": lambda dy, y, a, b: (dy, -dy),
    "*": lambda dy, y, a, b: (dy * b, dy * a),
    "/": lambda dy, y, a, b: (dy / b, -(dy / b * y)),
    "neg": lambda dy, y, a: (-dy,),
    "fma": lambda dy, y, a, b, c: (dy * b, dy * a, dy),
    "sigmoid": lambda dy, y, x: (dy.apply("sigmoid_grad", y),),
    "tanh": lambda dy, y, x: (dy.apply("tanh_grad", y),),
    "relu": lambda dy, y, x: (dy.apply("relu_grad", y),),
    "exp": lambda dy, y, x: (dy * y,),
    "softplus": lambda dy, y, x: (dy * x.apply("sigmoid"),),
    "log": lambda dy, y, x: (dy / x,),
    "sin": lambda dy, y, x: (dy * x.apply("cos"),),
    "cos": lambda dy, y, x: (-(dy * x.apply("sin")),),
    "abs": lambda dy, y, x: (_where(x > 0.0, dy, choose(x < 0.0, -dy, 0.0)),),
    "maximum": lambda dy, y, a, b: (_share(dy, a < b, b < a), _share(dy, b < a, a < b)),
    "minimum": lambda dy, y, a, b: (_share(dy, b < a, a < b), _share(dy, a < b, b < a)),
    "where": lambda dy, y, condition, a, b: (None, _where(condition, dy, 0.0), _where(condition, 0.0, dy)),
    "relu_grad": lambda dy, y, a, b: (dy.apply("relu_grad", b), None),
}


class _Names:
    """A distinct name for every place that is given one, the wished one where it is free."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.wishes, self.given = graph, dict[int, str](), dict[int, str]()
        self.taken = {*TORCH_NAMES, *keyword.kwlist, "gates", "carried", "state", "saved", "dstate", "tl", "_"}

    def __call__(self, place: int) -> str:
        if place not in self.given:
            self.given[place] = self.free(self.wishes.get(place) or self._usual(place))
        return self.given[place]

    def free(self, name: str) -> str:
        name = re.sub(r"\W", "_", name)
        while name in self.taken or not name.isidentifier():
            name = f"{name}_" if name[:1].isidentifier() else f"_{name}"
        self.taken.add(name)
        return name

    def wish(self, places: Iterable[int], names: Iterable[str]) -> None:
        for place, name in zip(places, names, strict=True):
            self.wishes.setdefault(place, name)

    def _usual(self, place: int) -> str:
        """`tanh_g` for a function of something that has a name, `v3` for anything else."""
        operation, *arguments = self.graph.operations[place]
        if operation in TORCH_NAMES and len(arguments) == 1 and arguments[0] in self.wishes:
            return f"{operation}_{self.wishes[arguments[0]]}"
        return f"v{sum(name[0] == 'v' and name[1:].isdigit() for name in self.given.values()) + 1}"


_STRENGTH = {**dict.fromkeys(COMPARISONS, 0), "+": 1, "-": 1, "*": 2, "/": 2, "neg": 3, "number": 3}


def _expression(operation: str, arguments: list[tuple[str, int]]) -> str:
    """Return the source of one operation on arguments given as (source, strength of their outermost operator)."""
    strength = _STRENGTH.get(operation)
    if strength is None:
        return f"{operation}({', '.join(text for text, _ in arguments)})"
    # The right argument of an equal operator keeps its parentheses, so that rounding is that of the list.
    texts = [f"({text})" if own < strength + k else text for k, (text, own) in enumerate(arguments)]
    return f"-{texts[0]}" if operation == "neg" else f"{texts[0]} {operation} {texts[1]}"


def _write(
    graph: Graph, names: _Names, function: str, inputs: dict[str, list[int]], results: tuple[list[int], list[int]]
) -> str:
    """Return the source of a function that unpacks `inputs` and returns the two tuples of `results`."""
    given = {place for places in inputs.values() for place in places}
    outputs = results[0] + results[1]
    uses = dict.fromkeys(outputs, 1)  # each place that is computed or read, with how often
    for place in range(len(graph.operations) - 1, -1, -1):
        if place in uses and place not in given:
            for argument in graph.arguments(place):
                uses[argument] = uses.get(argument, 0) + 1

    lines, unread = [f"def {function}({', '.join(inputs)}):"], given & uses.keys()
    for variable, places in inputs.items():
        targets = []
        for place in places:
            targets.append(names(place) if place in unread else "_")
            unread.discard(place)
        if set(targets) - {"_"}:
            lines.append(
                f"    {', '.join(targets)} = {variable}" if len(targets) > 1 else f"    ({targets[0]},) = {variable}"
            )
    texts = {place: (names(place), 4) for place in given if place in uses}
    for place in sorted(uses.keys() - given):
        operation, *arguments = graph.operations[place]
        if operation == "number":
            texts[place] = repr(arguments[0]), 3
            continue
        text = _expression(operation, [texts[argument] for argument in arguments])
        if uses[place] > 1 or place in outputs or len(text) > _MAX_INLINE:
            lines.append(f"    {names(place)} = {text}")
            texts[place] = names(place), 4
        else:
            texts[place] = text, _STRENGTH.get(operation, 4)
    first, second = (", ".join(texts[place][0] for place in part) + "," * (len(part) == 1) for part in results)
    lines.append(f"    return ({first}), ({second})")
    return "\n".join(lines) + "\n"


def _differentiate(graph: Graph, state: list[int], dstate: list[Value]) -> dict[int, Value]:
    """Return the gradient of every place that the state depends on, from the gradients `dstate` of the state."""
    gradients: dict[int, Value] = {}
    for place, value in zip(state, dstate, strict=True):
        gradients[place] = gradients[place] + value if place in gradients else value
    for place in range(dstate[0].place - 1, -1, -1):
        if place in gradients and graph.arguments(place):
            arguments = [Value(graph, argument) for argument in graph.arguments(place)]
            rule = _RULES[graph.operations[place][0]]
            found = rule(gradients[place], Value(graph, place), *arguments)
            for argument, gradient in zip(arguments, found, strict=True):
                if gradient is not None:
                    known = gradients.get(argument.place)
                    gradients[argument.place] = gradient if known is None else known + gradient
    return gradients


def _kept(graph: Graph, end: int, free: Iterable[int], results: list[int]) -> list[int]:
    """Return the places before `end` to save: needed by the results, and costly to compute again from `free` ones."""
    # A comparison is made again: what is saved are real numbers.
    compares = [operation in COMPARISONS for operation, *_ in graph.operations]
    reached, needed = set(results), set[int]()
    for place in range(len(graph.operations) - 1, -1, -1):
        if place in reached and (place >= end or compares[place]):
            reached.update(graph.arguments(place))
            needed.update(argument for argument in graph.arguments(place) if argument < end and not compares[argument])

    kept: list[int] = []
    costs = dict.fromkeys(free, 0.0)  # calls of _COSTLY in a row on the way from what is at hand
    for place in range(end):
        operation, arguments = graph.operations[place][0], graph.arguments(place)
        if place not in costs:
            start = 0.0 if operation == "number" else math.inf
            costs[place] = max((costs[argument] for argument in arguments), default=start) + (operation in _COSTLY)
        if place in needed and costs[place] > 1:
            kept.append(place)
            costs[place] = 0
    return kept


@cache
def _compile(source: str) -> dict[str, Maths]:
    """Return the maths of a source. Equal source is the same function, and the same file to Triton's cache."""
    name = source[len("def ") : source.index("_fwd(")]
    file = f"<derived {name} {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    # An entry without a time of change stays: inspect.getsource, which Triton and its interpreter use, finds it.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope: dict[str, Any] = {word: getattr(vocabulary, word) for word in TORCH_NAMES}
    scope["__name__"] = __name__
    exec(compile(source, file, "exec"), scope)
    return {"gates_fwd": scope[f"{name}_fwd"], "gates_bwd": scope[f"{name}_bwd"]}


@dataclass(frozen=True)
class DerivedCell(Cell):
    """A cell whose gate maths `derive` has written: `source` shows them, and pickles in their place."""

    source: str = ""

    def __reduce_ex__(self, protocol: Any) -> Any:
        values = self.arguments()
        if any(values.pop(name) is not maths for name, maths in _compile(self.source).items()):
            return super().__reduce_ex__(protocol)  # a copy with other maths
        return _restored, (values,)


def _restored(values: dict[str, Any]) -> Cell:
    return DerivedCell(**values | _compile(values["source"]))


@cache
def derive(cell: Cell) -> Cell:
    """Return `cell` with `gates_bwd`, the gradient of its `gates_fwd`, and with `saved`, what that needs of forward.

    `gates_fwd` is written again as well, to return what is saved; what it returned beside the new state is ignored. A
    cell that has a `gates_bwd` is returned as it is, if its functions fit. `dropped` is derived too.

    `source` of the result shows both functions. The derivative of `relu_grad` by its second argument is taken as 0.

    Raises:
        TypeError: `gates_fwd` used something else than the vocabulary, or did not return `(state, saved)` with one
            value for each name in `states`; a `gates_bwd` by hand does not fit. Names what it used or returned.
    """
    dropped = None if cell.dropped is None else derive(cell.dropped)
    if cell.gates_bwd is not None:
        check_by_hand(cell)
        return cell if dropped is cell.dropped else replace(cell, dropped=dropped)

    traced = trace(cell)
    graph, end, inputs = traced.graph, len(traced.graph.operations), traced.gates + traced.carried
    dstate = [graph.make("input", "dstate", name) for name in cell.states]
    gradients = _differentiate(graph, traced.state, dstate)
    zero = dstate[0] * 0.0
    results = [gradients.get(place, zero).place for place in inputs]
    saved = _kept(graph, end, traced.carried + traced.state, results)

    names = _Names(graph)
    names.wish(traced.carried, [f"{name}_prev" if name in cell.states else name for name in cell.carried])
    names.wish(traced.state, cell.states)
    names.wish(traced.gates, traced.gate_names)
    names.wish([value.place for value in dstate], [f"d{name}" for name in cell.states])
    for place in (*traced.carried, *traced.state, *traced.gates, *(value.place for value in dstate), *saved):
        names(place)
    names.wish([zero.place], ["zero"])
    names.wish(results, [f"d{names(place)}" for place in inputs])
    named = [place for place in gradients if place in names.given]
    names.wish([gradients[place].place for place in named], [f"d{names(place)}" for place in named])

    function = re.sub(r"\W", "_", f"_{cell.name}" if cell.name[:1].isdigit() else cell.name)
    forward = {"gates": traced.gates, "carried": traced.carried}
    backward = {"dstate": [v.place for v in dstate], "saved": saved, "carried": traced.carried, "state": traced.state}
    num_gates = len(traced.gates)
    source = "\n\n".join(
        [
            _write(graph, names, f"{function}_fwd", forward, (traced.state, saved)),
            _write(graph, names, f"{function}_bwd", backward, (results[:num_gates], results[num_gates:])),
        ]
    )
    values = cell.arguments()
    values |= {"saved": tuple(names(place) for place in saved), "dropped": dropped, "source": source}
    return _restored(values)
