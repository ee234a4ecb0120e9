"""A cell as a chain of stages: what one time step does, in order, for cells that are more than one gate update.

torch's three cells are one recurrent product and one gate update. A layer norm on the recurrent part, a reset gate
before the product, a projection or a small network inside the step put further products and norms between gate updates.
A chain says so in data; schedules run any chain.

Values of a step have names. The state before the step is "h_prev", "c_prev", ...; a stage writes values of new names; a
value with the name of a state is that state after the step. Weights have names too and come in a dictionary: "ih" and
"bias_ih" belong to the input product, which runs over all steps at once before the recurrence; without "ih" the input
is taken as the input part of the gates already.

B batch, H units of a stage, G its gates.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from rnnlab_kernels.cells.bind import CELLS_BY_KEY, Cell, registered


@dataclass(frozen=True)
class Product:
    """`out` (B, N) = the sources (B, K), side by side, times weight (N, K) transposed, plus bias (N,).

    With `add_input` the whole input part of the gates (B, N) is added: for a norm of the sum. `gated` names the state
    before the step that the one source is, times gates: dropout of that state on its way into products drops it too.
    """

    out: str
    sources: tuple[str, ...]
    weight: str
    bias: str | None = None
    add_input: bool = False
    gated: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Norm:
    """`out` (B, N) = layer norm of `source` over its N columns, times `gain` (N,), plus `shift` (N,) if there is one.

    Ba et al., 2016, equation 4; the variance is the biased one, `EPS` is added to it.
    """

    out: str
    source: str
    gain: str
    shift: str | None = None


@dataclass(frozen=True)
class Gates:
    """A gate update: `cell` on its pre-activations and on `carried` values, all element by element.

    Attributes:
        cell: gate maths. The names of its states, carried and saved values are its own; here they go by position.
        out: values it writes, one for each of `cell.states`.
        carried: values it reads beside the pre-activations, one for each of `cell.carried`.
        recurrent: the value (B, G*H) that holds the recurrent parts of its gates, None if there are none.
        first: its first block of H columns in the input part of the gates; None if it gets no input part.
    """

    cell: Cell
    out: tuple[str, ...]
    carried: tuple[str, ...] = ()
    recurrent: str | None = None
    first: int | None = 0


EPS = 1e-5
CHAINS_BY_KEY: dict[str, "Chain"] = {}


@dataclass(frozen=True)
class Chain:
    """What one step of a recurrent cell does.

    Attributes:
        name: as it appears in tables and messages.
        states: names of the values carried from step to step.
        stages: in the order in which they run.
        output: the value the step gives out.
        constants: weights (H,) that enter gate updates element by element, the same at every step, such as peepholes.
            A gate update names them among its `carried` values.
        key: by which operators name the chain, in `CHAINS_BY_KEY`.
    """

    name: str
    states: tuple[str, ...]
    stages: tuple[Product | Norm | Gates, ...]
    output: str = "h"
    constants: tuple[str, ...] = ()
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        stages = [
            (stage.cell.key, stage.out, stage.carried, stage.recurrent, stage.first)
            if isinstance(stage, Gates)
            else stage
            for stage in self.stages
        ]
        content = (self.states, stages, self.output, self.constants)
        self._check_values()
        object.__setattr__(self, "key", registered(self, CHAINS_BY_KEY, content))

    def _check_values(self) -> None:
        """Raise ValueError for a value that is read before a stage has written it."""
        known = [*(f"{state}_prev" for state in self.states), *self.constants]
        for stage in self.stages:
            if isinstance(stage, Gates):
                for word in ("out", "carried"):
                    names, own = getattr(stage, word), getattr(stage.cell, "states" if word == "out" else word)
                    if len(names) != len(own):
                        raise ValueError(
                            f"chain {self.name!r}: {word} of the gate update {stage.cell.name!r} must name one value "
                            f"for each of {own}, got: {names}"
                        )
                reads = (*stage.carried, *([] if stage.recurrent is None else [stage.recurrent]))
                writes: tuple[str, ...] = stage.out
            else:
                reads, writes = stage.sources if isinstance(stage, Product) else (stage.source,), (stage.out,)
            self._check_known(f"the stage that writes {', '.join(writes)}", reads, known)
            known += writes
        if self.stages:
            self._check_known("what a step gives out", [self.output, *self.states], known)

    def _check_known(self, what: str, names: Iterable[str], known: list[str]) -> None:
        for name in names:
            if name not in known:
                raise ValueError(f"chain {self.name!r}: {what} reads {name!r}; there is {', '.join(known)}")

    def __reduce__(self) -> Any:
        return Chain, (self.name, self.states, self.stages, self.output, self.constants)  # made anew, and so registered

    @property
    def num_states(self) -> int:
        return len(self.states)

    @property
    def is_one_update(self) -> bool:
        """Whether a step is one gate update without a product, so that no unit waits for another."""
        return len(self.stages) == 1 and isinstance(self.stages[0], Gates) and self.stages[0].recurrent is None


def made_once(make: Callable[..., Chain]) -> Callable[..., Chain]:
    """Memoise a function of names and numbers: torch.compile follows a lookup, but neither `functools.cache` nor the
    making of a chain."""
    made: dict[Any, Chain] = {}

    def lookup(*args: Any) -> Chain:
        if args not in made:
            made[args] = make(*args)
        return made[args]

    return wraps(make)(lookup)


@made_once
def _giving(key: str, output: str) -> Chain:
    return replace(CHAINS_BY_KEY[key], output=output)


def giving(chain: Chain, output: str) -> Chain:
    """Return the chain with another of its values as what a step gives out."""
    return _giving(chain.key, output)


@made_once
def _chain_of(key: str, projection: bool, constants: tuple[str, ...]) -> Chain:
    cell = CELLS_BY_KEY[key]
    check_carried(cell, constants)
    out = (("unprojected" if projection else "h"), *cell.states[1:])
    stages: list[Product | Norm | Gates] = [
        Product("recurrent", ("h_prev",), "hh", "bias_hh"),
        Gates(cell, out, tuple(name if name in constants else f"{name}_prev" for name in cell.carried), "recurrent"),
    ]
    if projection:
        stages.append(Product("h", ("unprojected",), "hr"))
    return Chain(cell.name, cell.states, tuple(stages), constants=constants)


@made_once
def _without_product(key: str) -> Chain:
    cell = CELLS_BY_KEY[key]
    names = tuple(name for name in cell.carried if name not in cell.states)
    carried = tuple(name if name in names else f"{name}_prev" for name in cell.carried)
    return Chain(cell.name, cell.states, (Gates(cell, cell.states, carried),), cell.states[0], names)


def without_product(cell: Cell) -> Chain:
    """Return the chain of a cell that is one gate update: what its carried values are beside states is constants.

    Raises:
        ValueError: the cell has split gates, which have a recurrent part.
    """
    if cell.split:
        raise ValueError(f"cell {cell.name} has gates with a recurrent part: it needs a product")
    return _without_product(cell.key)


def check_carried(cell: Cell, constants: tuple[str, ...]) -> None:
    """Raise ValueError unless the carried values of a cell are states and constants, and those that must be."""
    if cell.states[:1] != ("h",):
        raise ValueError(f"states of {cell.name!r} must begin with 'h', which the product reads, got: {cell.states}")
    for name in cell.carried:
        if name not in (*cell.states, *constants):
            raise ValueError(
                f"carried of {cell.name!r} has {name!r}, which is neither a state ({', '.join(cell.states)}) nor a "
                f"constant ({', '.join(constants) or 'none'})"
            )
    for name in (*cell.states[1:], *constants):
        if name not in cell.carried:
            raise ValueError(f"{name!r} of {cell.name!r} must be in carried: nothing else reads it")


def as_chain(cell: Cell, projection: bool = False, constants: tuple[str, ...] = ()) -> Chain:
    """Return the chain of a cell that is one product with h and one gate update, as torch's are.

    Args:
        cell: its carried values are states before the step, and constants.
        projection: the new h goes through weight "hr" (P, H), as in torch's LSTM with `proj_size`.
        constants: names of weights (H,) among the carried values.

    Raises:
        ValueError: a carried value is neither; a state beside h, or a constant, is not carried.
    """
    return _chain_of(cell.key, projection, constants)
