"""How the values of a step flow: a chain as numbers that the kernels unroll.

A value of a step is one tile of H columns or, before a gate update, G of them. Tiles are counted through the step, the
states before it first, then the constants. Blocks are of H columns, too, and say where in a buffer over time a tile
stands:

| buffer | blocks |
| --- | --- |
| input part | as the chain counts them |
| saved | what gate updates keep; normalised values, without gain and shift; values that other stages read |
| gradients | those of the input part; of recurrent parts and of pre-activations that differ from them |
| vectors | constants; biases of products, gain and shift of norms, each there is |
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Norm, Product
from rnnlab_kernels.launch import MIN_TILE

PRODUCT, NORM, GATES, MOMENTS, PARTS, HAND_BACK, WAIT = range(7)
MAX_GATES = 4  # of one product
MAX_UPDATES = 2


@dataclass(frozen=True)
class Stage:
    """One stage; a dataclass of numbers, which Triton takes as a constant and counts by what it prints as.

    Attributes:
        kind: PRODUCT, NORM or GATES; MOMENTS: this program's part of a norm's row sums; PARTS: what its gradients are
            to the units that a product multiplied; HAND_BACK: the gradients of the states before the step, but for what
            the product that is `last` adds; WAIT: for all programs.
        index: which one of its kind it is.
        reads: tiles of the value it takes; for a gate update the recurrent parts.
        out: tiles it writes.
        carried: tiles a gate update takes beside pre-activations.
        candidate: a gate update also takes the mask on candidates.
        gates: pre-activations a gate update takes, both parts of split ones counted.
        split: gates of an update whose input part and recurrent part stay apart.
        x: blocks of the input part that it adds.
        source: for a product the block of `saved` with what it multiplies, -1 for the h before the step.
        saved: blocks of `saved` with what its backward pass needs.
        grads: blocks of the gradients of what it reads: of a gate update's pre-activations (those of gates, then the
            recurrent parts of split ones), of a norm's source if that is a product. For a product those of its result.
        keeps: for a norm whose result is a state, blocks of the gradient of its result.
        drops: dropout of h before the step drops what a product multiplies: h itself, or h times gates.
        rows: for a product, interleaved rows a unit: the number of its gates rounded up to a power of two.
        weight: for a product its first block of H rows among the weights of all products.
        vector: the first row among the vectors of a bias or a gain, -1 without.
        shift: likewise of a shift.
        last: backward, a product after which nothing else is left of a step.
    """

    kind: int
    index: int
    reads: tuple[int, ...] = ()
    out: tuple[int, ...] = ()
    carried: tuple[int, ...] = ()
    candidate: bool = False
    gates: int = 0
    split: int = 0
    x: tuple[int, ...] = ()
    source: int = -1
    drops: bool = False
    saved: tuple[int, ...] = ()
    grads: tuple[int, ...] = ()
    keeps: tuple[int, ...] = ()
    rows: int = 1
    weight: int = 0
    vector: int = -1
    shift: int = -1
    last: bool = False


@dataclass(frozen=True)
class Tiles:
    """How a product goes through K: for each gate of it by `groups` of `split` blocks.

    `numbers` are those of their tiles among all tiles of weights that stay on the chip, none where they do not; forward
    a tile holds the rows of all gates. Tiles of `parts` are a program's own rows, and not its columns.
    """

    numbers: tuple[int, ...]
    groups: int
    split: int
    parts: bool = False


@dataclass(frozen=True)
class Wiring:
    """A chain as numbers.

    Attributes:
        stages: those of the chain in their order.
        cells: gate maths of the gate updates, in their order.
        new: for each state the tile that is the state after the step.
        num_constants: tiles of constants, behind those of the states before the step.
        kept: for each tile its block of `saved`, -1 if it is not there.
        blocks: the gradient's blocks for each product and norm by the value it writes.
        vectors: names of the weights that make the rows of vectors, in their order.
        num_x, num_grads, num_saved: blocks of the buffers.
    """

    stages: tuple[Stage, ...]
    cells: tuple[Cell, ...]
    new: tuple[int, ...]
    num_constants: int
    kept: tuple[int, ...]
    blocks: Mapping[str, tuple[int, ...]]
    vectors: tuple[str, ...]
    num_x: int
    num_grads: int
    num_saved: int

    @property
    def products(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.kind == PRODUCT)

    @property
    def num_norms(self) -> int:
        return sum(stage.kind == NORM for stage in self.stages)


def refusal(chain: Chain) -> str:
    """Return in a few words why the kernels cannot run a chain, an empty string if they can."""
    name = chain.name
    products = [stage for stage in chain.stages if isinstance(stage, Product)]
    norms = [stage for stage in chain.stages if isinstance(stage, Norm)]
    updates = [stage for stage in chain.stages if isinstance(stage, Gates)]
    made = {value for stage in updates for value in stage.out}
    wholes = [stage.out for stage in products] + [stage.out for stage in norms]
    read = [stage.source for stage in norms] + [stage.recurrent for stage in updates]
    for product in products:
        if product.out in chain.states:
            return f"{name} has more than one product, and one of them is a state itself"
        if len(product.sources) != 1 or product.sources[0] not in {f"{chain.states[0]}_prev", *made}:
            return f"a product of {name} multiplies something else than h or the result of a gate update"
        makers = [stage for stage in updates if product.sources[0] in stage.out]
        if any(not stage.carried for stage in makers):
            return f"nothing makes {product.sources[0]} of {name} as wide as its states"
    if chain.states[0] != chain.output or len(updates) > MAX_UPDATES:
        return f"{name} gives out another value than its first state, or has more than two gate updates"
    for stage in updates:
        if stage.recurrent is not None and stage.cell.num_gates > MAX_GATES:
            return f"{name} has {stage.cell.num_gates} gates, a tile has rows for {MAX_GATES}"
    known = {*made, *chain.constants, *(f"{state}_prev" for state in chain.states)}
    if any(read.count(value) != 1 for value in wholes) or any(not {*stage.carried} <= known for stage in updates):
        return f"products, norms and gate updates of {name} are wired in another way"
    if any(stage.first is None and (stage.cell.split or stage.recurrent is None) for stage in updates):
        return f"a gate update of {name} has no input part where it needs one"
    columns = [k for stage in updates if stage.first is not None for k in _input_blocks(stage)]
    added = [stage.out for stage in products if stage.add_input]
    if (added and (columns or len(added) > 1)) or sorted(columns) != [*range(len(columns))] or not (added or columns):
        return f"the input part of {name} does not enter its step once"
    return ""


def is_one_product(chain: Chain) -> bool:
    """Return whether a chain that `refusal` has nothing against is a product with h and a gate update."""
    stages = chain.stages
    return len(stages) == 2 and isinstance(stages[0], Product) and isinstance(stages[1], Gates)


def _input_blocks(stage: Gates) -> range:
    assert stage.first is not None
    return range(stage.first, stage.first + stage.cell.num_gates)


class _Counter:
    """Consecutive numbers."""

    def __init__(self, start: int = 0) -> None:
        self.total = start

    def take(self, number: int) -> tuple[int, ...]:
        self.total += number
        return tuple(range(self.total - number, self.total))


def wire(chain: Chain, names: tuple[str, ...], drops_candidate: bool = False, zone: bool = False) -> Wiring:
    """Return the numbers of a chain that `refusal` has nothing against.

    Args:
        chain: of the step.
        names: weights that are given; biases and shifts may be missing.
        drops_candidate: gate updates that have a variant with a mask on the candidate are that variant.
        zone: states get but a part of their new values, so that those have to be kept themselves.
    """
    tiles, saved = _Counter(), _Counter()
    sizes = _sizes(chain)
    tile = {name: tiles.take(1) for name in (*(f"{name}_prev" for name in chain.states), *chain.constants)}
    for stage in chain.stages:
        for name in stage.out if isinstance(stage, Gates) else (stage.out,):
            tile[name] = tiles.take(sizes[name])
    x: dict[Product | Norm | Gates, tuple[int, ...]] = {
        stage: tuple(_input_blocks(stage)) if isinstance(stage, Gates) else tuple(range(sizes[stage.out]))
        for stage in chain.stages
        if (isinstance(stage, Gates) and stage.first is not None) or (isinstance(stage, Product) and stage.add_input)
    }
    num_x = sum(map(len, x.values()))
    grads, written, blocks = _gradient_blocks(chain, sizes, x, num_x)

    read = {name for stage in chain.stages if isinstance(stage, Gates) for name in (*stage.carried, *stage.out)}
    multiplied = {name for stage in chain.stages if isinstance(stage, Product) for name in stage.sources}
    before = {f"{name}_prev" for name in chain.states}
    states_after = set() if zone else {*chain.states}  # read from the states after the step
    kept = [-1] * tiles.total
    for name in sorted((read - before - states_after - {*chain.constants}) | (multiplied - before)):
        (kept[tile[name][0]],) = saved.take(1)

    vectors: dict[str, int] = {}  # the first row of each
    num_rows, num_weights = _Counter(), _Counter()

    def rows_of(name: str | None, size: int) -> int:
        if name is None or name not in names:
            return -1
        if name not in vectors:
            vectors[name] = num_rows.take(size)[0]
        return vectors[name]

    for name in chain.constants:  # as many as there are rows before others
        vectors[name] = num_rows.take(1)[0]
    stages: list[Stage] = []
    cells: list[Cell] = []
    count = [0] * 3
    for stage in chain.stages:
        if isinstance(stage, Product):
            (source,), size = stage.sources, sizes[stage.out]
            found = Stage(
                PRODUCT,
                count[PRODUCT],
                reads=tile[source],
                out=tile[stage.out],
                x=x.get(stage, ()),
                source=-1 if source in before else kept[tile[source][0]],
                drops=source in before or stage.gated == f"{chain.states[0]}_prev",
                grads=blocks[stage.out],
                rows=1 << max(size - 1, 0).bit_length(),
                weight=num_weights.take(size)[0],
                vector=rows_of(stage.bias, size),
            )
        elif isinstance(stage, Norm):
            size = sizes[stage.out]
            found = Stage(
                NORM,
                count[NORM],
                reads=tile[stage.source],
                out=tile[stage.out],
                saved=saved.take(size),
                grads=blocks.get(stage.source, ()),
                keeps=blocks[stage.out] if stage.out in chain.states else (),
                vector=rows_of(stage.gain, size),
                shift=rows_of(stage.shift, size),
            )
        else:
            masked = drops_candidate and stage.cell.dropped is not None
            cell = stage.cell.dropped if masked and stage.cell.dropped is not None else stage.cell
            cells.append(cell)
            found = Stage(
                GATES,
                count[GATES],
                reads=() if stage.recurrent is None else tile[stage.recurrent],
                out=tuple(tile[name][0] for name in stage.out),
                carried=tuple(tile[name][0] for name in stage.carried),
                candidate=masked,
                gates=cell.num_gates + cell.split,
                split=cell.split,
                x=x.get(stage, ()),
                saved=saved.take(len(cell.saved)),
                grads=written[stage],
            )
        count[found.kind] += 1
        stages.append(found)
    return Wiring(
        tuple(stages),
        tuple(cells),
        tuple(tile[name][0] for name in chain.states),
        len(chain.constants),
        tuple(kept),
        blocks,
        tuple(vectors),
        num_x,
        grads.total,
        saved.total,
    )


def _sizes(chain: Chain) -> dict[str, int]:
    """Return the number of tiles of each value of a step."""
    sizes = {name: 1 for stage in chain.stages if isinstance(stage, Gates) for name in stage.out}
    for stage in chain.stages:
        if isinstance(stage, Gates) and stage.recurrent is not None:
            sizes[stage.recurrent] = stage.cell.num_gates
    for stage in reversed(chain.stages):
        if isinstance(stage, Norm):
            sizes[stage.source] = sizes[stage.out]
    return sizes


def _gradient_blocks(
    chain: Chain, sizes: Mapping[str, int], x: Mapping[Product | Norm | Gates, tuple[int, ...]], num_x: int
) -> tuple[_Counter, dict[Gates, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return the number of gradient blocks, those that each gate update writes, and those of products and norms.

    Gradients of merged gates are those of their input part and of their recurrent part.
    """
    grads = _Counter(num_x)
    written: dict[Gates, tuple[int, ...]] = {}
    blocks: dict[str, tuple[int, ...]] = {}
    for stage in reversed(chain.stages):
        if isinstance(stage, Gates):
            cell = stage.cell
            if stage.recurrent is None:
                written[stage] = x[stage]
            elif stage.first is not None:
                apart = grads.take(cell.split)
                written[stage] = (*x[stage], *apart)
                blocks[stage.recurrent] = (*x[stage][: cell.num_merged], *apart)
            else:
                added = next(
                    (x[other] for other in x if not isinstance(other, Gates) and other.out == stage.recurrent), ()
                )
                written[stage] = blocks[stage.recurrent] = added or grads.take(cell.num_gates)
        elif isinstance(stage, Norm):
            product = next(
                (each for each in chain.stages if isinstance(each, Product) and each.out == stage.source), None
            )
            if product is not None:
                blocks[stage.source] = x[product] if product in x else grads.take(sizes[stage.source])
    return grads, written, blocks


def product_tiles(
    wiring: Wiring,
    units: int,
    num_k: int,
    num_splits: int,
    backwards: bool,
    resident: bool = True,
    parts: bool = False,
) -> tuple[Tiles, ...]:
    """Return the tiles of each product for programs of `units` units and states of `num_k` blocks.

    Rows of a product are `units` times its gates, backward, where weights are transposed, `units`. As many times
    MIN_TILE as `num_splits` keep all warps busy: a product of fewer rows has blocks along K multiplied side by side
    instead, since warps without rows of their own would repeat what others do.
    """
    found: list[Tiles] = []
    numbers = _Counter()
    for stage in wiring.products:
        rows, gates = (units, len(stage.out)) if backwards else (units * stage.rows, 1)
        split = max(1, min(num_splits * MIN_TILE // rows, 1 << (num_k - 1).bit_length()))
        groups = -(-num_k // split)
        found.append(Tiles(numbers.take(gates * groups if resident else 0), groups, split, parts and backwards))
    return tuple(found)
