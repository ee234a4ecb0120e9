"""Initialisers by name, among them Keras' defaults, for any recurrent layer or cell with torch's parameter names.

A name alone acts as Keras does, on the whole kernel at once: on the (I, G*H) or (H, G*H) matrix of all gates. A mapping
from gates to names acts on the (H, I) or (H, H) block of each gate, which is another distribution: "glorot" sees H
outputs instead of G*H, and orthogonal blocks are each orthogonal, where one orthogonal kernel has blocks that are not.

| name       | weight                                                          | source                 |
| ---------- | --------------------------------------------------------------- | ---------------------- |
| torch      | left as constructed: U(-1/sqrt(H), 1/sqrt(H))                   |                        |
| glorot     | U(-b, b) with b^2 = 6 / (rows + columns)                        | Glorot & Bengio, 2010  |
| orthogonal | orthonormal columns                                             | Saxe et al., 2014      |
| identity   | `scale` (default 1) times the identity in every gate block      | Le et al., 2015 (IRNN) |
| normal     | N(0, s/n): the variance is `s` (default 1) over the n columns   | He et al., 2015: s = 2 |
| zeros      | 0                                                               |                        |
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnnlab_kernels.cells import CELLS

# A name, "name(number)", {"name": name, option: number}, or {gate: any of these, "*": for all other gates}.
Initialiser = str | Mapping[str, Any]
GRU_GATES = CELLS["gru"].gates
_GATES_BY_COUNT = {cell.num_gates: cell.gates for cell in (CELLS["rnn_tanh"], CELLS["gru"], CELLS["lstm"])}
_CALL = re.compile(r"(\w+)\((.*)\)")


def _identity(weight: Tensor, scale: float = 1.0) -> Tensor:
    """Identity in every gate block: the IRNN start (Le et al., 2015)."""
    hidden = weight.shape[1]
    return weight.copy_(scale * torch.eye(hidden).repeat(weight.shape[0] // hidden, 1))


def _orthogonal(weight: Tensor) -> Tensor:
    """Orthonormal rows of the (H, G*H) kernel, i.e. orthonormal columns of torch's (G*H, H)."""
    return nn.init.orthogonal_(weight)


def _normal(weight: Tensor, s: float = 1.0) -> Tensor:
    """N(0, s/n), n the columns: a linear recurrence then has spectral radius sqrt(s) for large n."""
    return weight.normal_(0.0, (s / weight.shape[1]) ** 0.5)


def _keep(weight: Tensor) -> Tensor:
    return weight


WEIGHTS: dict[str, Callable[..., Tensor]] = {
    "torch": _keep,
    "glorot": nn.init.xavier_uniform_,
    "orthogonal": _orthogonal,
    "identity": _identity,
    "normal": _normal,
    "zeros": nn.init.zeros_,
}
BIASES: dict[str, Callable[..., Tensor]] = {"torch": _keep, "zeros": nn.init.zeros_}
OPTIONS = {"identity": "scale", "normal": "s"}


class Rule(NamedTuple):
    """An initialiser that has been read: its name, and the function with its option bound."""

    name: str
    fill: Callable[[Tensor], Tensor]

    def apply(self, weight: Tensor, hidden: int) -> None:
        if self.name == "identity" and weight.shape[1] != hidden:
            raise ValueError(f"identity needs square gate blocks, got {tuple(weight.shape)} for {hidden} units")
        self.fill(weight)


Plan = Rule | dict[str, Rule]


def initialise(
    module: nn.Module,
    *,
    input: Initialiser = "torch",
    recurrent: Initialiser = "torch",
    bias: Initialiser = "torch",
    forget_bias: float | None = None,
    chrono: float | None = None,
) -> nn.Module:
    """Initialise a recurrent layer or cell in place.

    Args:
        module: a recurrent layer or cell of rnnlab.nn or torch.nn, or a module that contains some. Any module with
            `gates` (names in row order), `hidden_size` and `weight_ih` counts as a cell.
        input: for `weight_ih`: a name of the table above; "normal(2)" or {"name": "normal", "s": 2} with its option;
            or a mapping from gates to these, {"f": "zeros", "*": "glorot"}, "*" being all other gates, which are left
            as constructed without it.
        recurrent: for `weight_hh`, likewise. By gate, parameters of other than G*H rows are left alone. Each head of a
            cell that has heads is initialised as if it stood alone.
        bias: torch or zeros, also by gate.
        forget_bias: the forget gates, those called f, get this sum of biases: `bias_ih` is set to it and `bias_hh` to 0
            in their rows (Gers et al., 2000). None leaves them alone; cells without one ignore it.
        chrono: T_max, the longest dependency expected, in steps. The gate that keeps the past, see `keeping_gate`,
            gets biases b = log U(1, T_max - 1), so that it keeps sigmoid(b) of a state and forgets it within 2 to
            T_max steps; one that lets it go gets their negatives, and so do input gates, those called i (Tallec &
            Ollivier, 2018). A minLSTM then keeps sigmoid(b) / (sigmoid(b) + sigmoid(-b)), which is sigmoid(b).
            Written as `forget_bias` is. In a module, layers without such a gate are left alone.

    Returns:
        The module.

    Raises:
        ValueError: an unknown name, option or gate, "identity" for weights that are not square per gate, `chrono` of 2
            or less, beside `forget_bias`, or where no layer has biases of a gate that keeps the past, or nothing
            recurrent inside.

    Example:
        >>> import rnnlab.nn
        >>> lstm = rnnlab.nn.init.initialise(rnnlab.nn.LSTM(3, 4), bias="zeros", forget_bias=1.0)
        >>> lstm.bias_ih_l0[4:8].tolist()
        [1.0, 1.0, 1.0, 1.0]
        >>> lstm = rnnlab.nn.init.initialise(lstm, recurrent={"g": "identity(0.5)", "*": "zeros"})
        >>> lstm.weight_hh_l0.sum().item()
        2.0
    """
    plans = _plan("input", input, WEIGHTS), _plan("recurrent", recurrent, WEIGHTS), _plan("bias", bias, BIASES)
    if chrono is not None and forget_bias is not None:
        raise ValueError("chrono sets the forget gates' biases, so forget_bias must be None beside it")
    if chrono is not None and not chrono > 2:
        raise ValueError(f"chrono is the longest dependency in steps and must be above 2, got {chrono}")
    layers = [layer for _, layer in recurrent_modules(module)]
    if not layers:
        raise ValueError(
            f"expected a recurrent layer or cell, or a module with one inside, got: {type(module).__name__}"
        )
    if chrono is not None and not any(any(_keeping_biases(layer)) for layer in layers):
        names = ", ".join(dict.fromkeys(type(layer).__name__ for layer in layers))
        raise ValueError(f"chrono needs a gate that keeps the past, with a bias: {names} has none")
    with torch.no_grad():
        for layer in layers:
            _initialise_one(layer, *plans, forget_bias)
            if chrono is not None:
                _chrono(layer, chrono)
    return module


def keeping_gate(layer: nn.Module) -> tuple[str, int] | None:
    """Return which gate of a layer or cell keeps its state, and 1 if it is the share that is kept, -1 if that let go.

    It is what the cell says itself, `keeps = ("z", -1)`; else f, or the z of a GRU. None if there is none.
    """
    own = getattr(layer, "keeps", None)
    if own is not None:
        return own
    named = layer.named_parameters(recurse=False)
    gates = next((_gates(layer, weight) for name, weight in named if name.startswith("weight_ih")), None) or ()
    return ("f", 1) if "f" in gates else ("z", 1) if gates == GRU_GATES else None


def recurrent_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the recurrent layers and cells of a module, itself included, with their dotted names."""
    for name, part in module.named_modules():
        has_gates = all(hasattr(part, attribute) for attribute in ("gates", "hidden_size", "weight_ih"))
        if has_gates or isinstance(part, nn.RNNBase | nn.RNNCellBase):
            yield name, part


def weight_names(module: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module, str]]:
    """Return the weights of a module's recurrent layers and cells, parametrised ones included.

    Args:
        module: a recurrent layer or cell, or a module that contains some.
        names: how the names of the weights begin, such as "weight_hh".

    Returns:
        (dotted name, owner, name in the owner) of each; `getattr(owner, name)` is the weight in use.

    Raises:
        ValueError: no weight is called so.
    """
    found = []
    for path, layer in recurrent_modules(module):
        own = [*layer._parameters, *getattr(layer, "parametrizations", ())]
        # torch's layers know their order, which parametrisation changes.
        order = {name: place for place, name in enumerate(getattr(layer, "_flat_weights_names", ()))}
        for name in sorted(own, key=lambda name: order.get(name, len(order))):
            if name.startswith(names) and getattr(layer, name) is not None:
                found.append((f"{path}.{name}" if path else name, layer, name))
    if not found:
        raise ValueError(f"{type(module).__name__} has no recurrent weights called {' or '.join(names)}")
    return found


def _initialise_one(layer: nn.Module, input: Plan, recurrent: Plan, bias: Plan, forget_bias: float | None) -> None:
    hidden = int(layer.hidden_size)  # type: ignore[arg-type]
    if hasattr(layer, "parametrizations"):
        names = ", ".join(sorted(layer.parametrizations))  # type: ignore[arg-type]
        raise ValueError(f"{type(layer).__name__} has parametrised or pruned weights ({names}): initialise it before")
    for name, parameter in layer.named_parameters(recurse=False):
        gates = _gates(layer, parameter)
        if name.startswith("weight_ih"):
            _apply(input, parameter, hidden, gates)
        elif name.startswith("weight_hh"):
            _apply_by_head(recurrent, parameter, hidden, gates, getattr(layer, "num_heads", 1))
        elif _is_bias(name):
            _apply(bias, parameter, hidden, gates)
            if forget_bias is not None and gates is not None and "f" in gates:
                _rows(parameter, hidden, gates.index("f")).fill_(0.0 if name.startswith("bias_hh") else forget_bias)


def _keeping_biases(layer: nn.Module) -> Iterator[tuple[str, Tensor, tuple[str, ...], str, int]]:
    """Yield name, parameter and gates of each bias with rows of the gate that keeps the past, and `keeping_gate`."""
    keeping = keeping_gate(layer)
    for name, parameter in layer.named_parameters(recurse=False):
        if keeping is not None and _is_bias(name):
            gates = _gates(layer, parameter)
            if gates is not None and keeping[0] in gates:
                yield name, parameter, gates, *keeping


def _chrono(layer: nn.Module, longest: float) -> None:
    hidden = int(layer.hidden_size)  # type: ignore[arg-type]
    for name, parameter, gates, keep, sign in _keeping_biases(layer):
        value = torch.zeros_like(parameter[:hidden])
        if not name.startswith("bias_hh"):
            value.uniform_(1.0, longest - 1.0).log_()
        _rows(parameter, hidden, gates.index(keep)).copy_(sign * value)
        if "i" in gates:
            _rows(parameter, hidden, gates.index("i")).copy_(-value)


def _is_bias(name: str) -> bool:
    return name == "bias" or name.startswith("bias_")


def _gates(layer: nn.Module, parameter: Tensor) -> tuple[str, ...] | None:
    """Return the names of the gates whose rows a parameter holds, None if its rows are not all the gates'."""
    hidden = int(layer.hidden_size)  # type: ignore[arg-type]
    count, rest = divmod(parameter.shape[0], hidden)
    own = getattr(layer, "gates", None)
    gates = _GATES_BY_COUNT.get(count) if own is None else tuple(own)
    return gates if gates is not None and len(gates) == count and not rest else None


def _rows(parameter: Tensor, hidden: int, gate: int) -> Tensor:
    return parameter[gate * hidden : (gate + 1) * hidden]


def _apply(plan: Plan, parameter: Tensor, hidden: int, gates: tuple[str, ...] | None) -> None:
    if not isinstance(plan, dict):
        plan.apply(parameter, hidden)
    elif gates is not None:
        unknown = plan.keys() - {*gates, "*"}
        if unknown:
            raise ValueError(f"Unknown gate {min(unknown)!r}. Select from {', '.join(gates)} or *.")
        for position, gate in enumerate(gates):
            rule = plan.get(gate, plan.get("*"))
            if rule is not None:
                rule.apply(_rows(parameter, hidden, position), hidden)


def _apply_by_head(plan: Plan, parameter: Tensor, hidden: int, gates: tuple[str, ...] | None, num_heads: int) -> None:
    """Apply a plan to each head of a recurrent weight (G*H, D), or to one of another width as a whole."""
    units = parameter.shape[1]
    if num_heads == 1 or num_heads * units != hidden:
        _apply(plan, parameter, hidden, gates)
        return
    for head in parameter.view(-1, num_heads, units, units).unbind(1):
        weight = head.clone().flatten(0, 1)
        _apply(plan, weight, units, gates)
        head.copy_(weight.view_as(head))


def _plan(argument: str, wanted: Initialiser, table: Mapping[str, Callable[..., Tensor]]) -> Plan:
    if isinstance(wanted, Mapping) and "name" not in wanted:
        return {gate: _rule(argument, rule, table) for gate, rule in wanted.items()}
    return _rule(argument, wanted, table)


def _rule(argument: str, wanted: Any, table: Mapping[str, Callable[..., Tensor]]) -> Rule:
    refusal = f"Unknown initialiser {argument}={wanted!r}."
    name, options = wanted, {}
    if isinstance(wanted, Mapping):
        name, options = wanted.get("name"), {key: value for key, value in wanted.items() if key != "name"}
    elif isinstance(wanted, str) and (call := _CALL.fullmatch(wanted)):
        name, options = call[1], {OPTIONS.get(call[1], "an option"): call[2]}
    if name not in table:
        raise ValueError(f"{refusal} Select from {', '.join(table)}.")
    if options.keys() - {OPTIONS.get(name)}:
        raise ValueError(f"{refusal} {name} takes {OPTIONS.get(name, 'no option')}.")
    try:
        numbers = {key: float(value) for key, value in options.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{refusal} {OPTIONS[name]} must be a number.") from None
    if numbers.get("s", 0.0) < 0:
        raise ValueError(f"{refusal} s must be at least 0.")
    return Rule(name, partial(table[name], **numbers))
