"""What `Recurrent` knows of a cell: torch's cells in the form of the others, copies for further layers, checks.

Letters: T time, B batch, I input_size, H hidden_size, D directions.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.nn.cells import torch_cells
from rnnlab.nn.cells.base import ChainCell, check_weights, gate_weights, state_tuple
from rnnlab_kernels.cells import CELLS, Cell
from rnnlab_kernels.cells.chain import Chain, Product, as_chain, without_product
from rnnlab_kernels.schedules.additions import has_candidate

_CHAINS = {mode: as_chain(CELLS[mode]) for mode in ("lstm", "gru", "rnn_tanh", "rnn_relu")}
_FORWARDS: dict[Any, str] = {
    nn.LSTMCell.forward: "lstm",
    nn.GRUCell.forward: "gru",
    nn.RNNCell.forward: "rnn",
    torch_cells.Cell.forward: "",
}


class ChainView:
    """A chain in the form of `ChainCell`: what reads and gives out the values of the steps as they are."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def inputs(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def outputs(self, y: Tensor) -> Tensor:
        """Return `y`."""
        return y


class TorchCell(ChainView):
    """A view of an RNNCell, LSTMCell or GRUCell in the form of `ChainCell`; the cell itself gives out a state only."""

    def __init__(self, cell: Any, mode: str) -> None:
        super().__init__(_CHAINS[mode])
        self.cell = cell

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Widths of the states."""
        return (self.cell.hidden_size,) * len(self.chain.states)

    @property
    def state_type(self) -> Any:
        """The NamedTuple of the states."""
        return state_tuple(self.chain.states)

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> Any:
        """Return zeros, each (B, H)."""
        return self.state_type(*(torch.zeros(batch_size, n, device=device, dtype=dtype) for n in self.state_sizes))

    def kernel_weights(self) -> dict[str, Tensor]:
        """Return the weights by the names that the chain uses."""
        return gate_weights(self.cell)


# How cells make their initial state whose `state_sizes` and `state_type` say what it looks like.
OF_ZEROS = (ChainCell.initial_state, TorchCell.initial_state)


def view(cell: nn.Module) -> Any:
    """Return the cell, or its `TorchCell` if it is one of torch's; one with a forward of its own is left as it is."""
    mode = _FORWARDS.get(type(cell).forward)
    if mode is None:
        return cell
    if mode == "rnn":
        mode = f"rnn_{cell.nonlinearity}"
    return TorchCell(cell, mode or str(cell.mode).lower())


def kind(cell: Any) -> tuple[str, Chain | None]:
    """Return how a view can run over time, and its chain.

    "chain": by any schedule; "scan": as a linear recurrence; "loop": by its forward.
    """
    chain = getattr(cell, "chain", None)
    if chain is not None:
        return "chain", chain
    return ("scan" if hasattr(cell, "coefficients") else "loop"), None


def walked_chain(cell: type) -> Chain | None:
    """Return the `maths` of a class of `ScanCell` as a chain; None where a subclass has other coefficients or outputs.

    What a step computes is said there; `maths` is another route to the same numbers, which a subclass may not know of.
    """
    for owner in cell.__mro__:
        if "maths" in vars(owner):
            maths = vars(owner)["maths"]
            return without_product(maths) if isinstance(maths, Cell) else maths
        if {"coefficients", "outputs"} & vars(owner).keys():
            return None
    return None


def recurrent_weights(chain: Chain) -> tuple[str, ...]:
    """Return the names of the weights that multiply inside a step: all but those of the input product.

    These are what `weight_dropout` drops, in this order: weight_hh and, with a projection, weight_hr of an LSTM.
    """
    return tuple(dict.fromkeys(stage.weight for stage in chain.stages if isinstance(stage, Product)))


def reads_states(chain: Chain) -> bool:
    """Return whether a previous state enters a product as it is."""
    products = (stage for stage in chain.stages if isinstance(stage, Product))
    return any(source.endswith("_prev") for product in products for source in product.sources)


def check_noise(cell: nn.Module, **rates: float) -> None:
    """Refuse dropout inside a step where the cell has no place for it.

    Raises:
        ValueError: a rate above zero that the cell cannot have.
    """
    how, chain = kind(view(cell))
    places: dict[str, tuple[str, Callable[[Chain], Any]]] = {
        "recurrent_dropout": ("a product with the previous state", reads_states),
        "candidate_dropout": ("a candidate", has_candidate),
        "weight_dropout": ("recurrent weights", recurrent_weights),
    }
    for name, p in rates.items():
        place, has = places[name]
        if p and how == "loop":
            raise ValueError(f"{name} needs a cell that states its gate maths; {type(cell).__name__} does not")
        if p and (chain is None or not has(chain)):
            raise ValueError(f"{name} needs a cell with {place}; {type(cell).__name__} has none")


def output_size(cell: nn.Module) -> int:
    """Return the number of features that a step gives out."""
    return int(getattr(cell, "output_size", cell.hidden_size))  # type: ignore[arg-type]


def weight_like(cell: nn.Module) -> Tensor | None:
    """Return a parameter that has the device and dtype of the cell's input; None for a cell without any."""
    for weight in cell._parameters.values():
        if weight is not None and weight.is_floating_point():
            return weight
    return next((weight for weight in cell.parameters() if weight.is_floating_point()), None)


def respawn(cell: nn.Module, input_size: int) -> nn.Module:
    """Return a cell like this one, with `input_size` inputs and parameters drawn anew.

    Raises:
        ValueError: the cell has no `respawn(input_size)`, and a copy of it would have another size or the same weights.
    """
    name = type(cell).__name__
    if hasattr(cell, "respawn"):
        made = cell.respawn(input_size)  # type: ignore[operator]
        if made.input_size != input_size:
            raise ValueError(f"{name}.respawn({input_size}) returned a cell with input_size={made.input_size}")
        return made
    if type(cell).forward in _FORWARDS:
        options = {"device": cell.weight_ih.device, "dtype": cell.weight_ih.dtype}
        if hasattr(cell, "nonlinearity"):
            options["nonlinearity"] = cell.nonlinearity
        return type(cell)(input_size, cell.hidden_size, cell.bias, **options)
    if cell.input_size != input_size:
        raise ValueError(
            f"a further layer or direction reads {input_size} features, {name} has input_size={cell.input_size}: "
            "give a list of cells, a factory that takes input_size, or a cell with respawn(input_size)"
        )
    made = copy.deepcopy(cell)
    reset_parameters(made)
    return made


def reset_parameters(module: nn.Module) -> None:
    """Draw the parameters of a module, and of all modules in it, anew.

    Raises:
        ValueError: a module in it has parameters and no `reset_parameters`.
    """
    parts = list(module.modules())
    for part in parts if not hasattr(module, "reset_parameters") else ():
        if not hasattr(part, "reset_parameters") and next(part.parameters(recurse=False), None) is not None:
            raise ValueError(
                f"{type(part).__name__} has no reset_parameters(), so a copy would start with the same weights: "
                "give a list of cells or a factory that takes input_size"
            )
    for part in reversed(parts):  # a module may draw anew what its children have drawn
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()  # type: ignore[operator]


Source = nn.Module | Callable[[int], nn.Module]


def build_cells(
    cell: Source | Sequence[Source], num_layers: int, num_directions: int, input_size: int | None, widen: bool
) -> list[nn.Module]:
    """Return the cells of all layers and directions, the directions of a layer side by side.

    Args:
        cell: a cell, a factory that takes input_size, or one of them for each layer.
        num_layers: ignored for a sequence.
        num_directions: 1 or 2; the reverse direction has a cell of its own.
        input_size: I of the first layer, for a factory.
        widen: whether a layer gives out its directions side by side.
    """
    sources = list(cell) if isinstance(cell, Sequence | nn.ModuleList) else [cell] * num_layers
    if not sources or len(sources) != num_layers and num_layers != 1:
        raise ValueError(f"num_layers={num_layers} does not go with a list of {len(sources)} cells")
    built: list[nn.Module] = []
    width = input_size
    for layer, source in enumerate(sources):
        is_copy = layer > 0 and source is sources[0] and not isinstance(cell, Sequence | nn.ModuleList)
        first = _first(source, layer, width, is_copy)
        width = int(first.input_size)  # type: ignore[arg-type]
        built.append(first)
        if num_directions == 2:
            built.append(check_cell(source(width)) if not isinstance(source, nn.Module) else respawn(first, width))
        width = output_size(first) * (num_directions if widen else 1)
    return built


def _first(source: Source, layer: int, width: int | None, is_copy: bool) -> nn.Module:
    if not isinstance(source, nn.Module):
        if not callable(source):
            raise TypeError(f"expected a cell or a function of input_size, got: {type(source).__name__}")
        if width is None:
            hint = f"; or make a cell of the class {source.__name__}" if isinstance(source, type) else ""
            raise ValueError(f"a function that makes cells needs the size of the first input: pass input_size={hint}")
        return check_cell(source(width))
    check_cell(source)
    if is_copy:
        assert width is not None
        return respawn(source, width)
    if width is not None and source.input_size != width:
        raise ValueError(f"layer {layer} reads {width} features, its cell has input_size={source.input_size}")
    return source


def check_cell(cell: object) -> nn.Module:
    """Return `cell` if it follows the protocol.

    Raises:
        TypeError: it does not.
    """
    if not isinstance(cell, nn.Module):
        raise TypeError(f"a recurrent cell is an nn.Module, got: {type(cell).__name__}")
    if isinstance(cell, nn.RNNBase):
        raise TypeError(f"{type(cell).__name__} is a layer; Recurrent takes a cell, such as {type(cell).__name__}Cell")
    wanted = ("input_size", "hidden_size", *(() if type(cell).forward in _FORWARDS else ("initial_state",)))
    for name in wanted:
        if not hasattr(cell, name):
            raise TypeError(f"{type(cell).__name__} is no recurrent cell: it has no {name}")
    if isinstance(cell, ChainCell) and cell.chain is not None:
        check_weights(cell)
    return cell
