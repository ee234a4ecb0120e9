"""The whole sequence in one Triton launch, for any chain of stages: recurrent weights stay on the chip.

The kernels are in kernel_forward.py and kernel_backward.py, the numbers they unroll come from wiring.py, tiles from
tiles.py; what is computed outside of the launch, with a table of what is saved, is in run.py.

Where one program has all units of its rows, no program waits for another. Where several share them, all wait at a
barrier in a cooperative launch: after each step, after each norm's partial sums, and before each product with a value
of the same step. Triton's interpreter runs one program after the other: there a launch covers what lies between two
waits.

`step` is the same with a launch for each step on purpose, for cells that are one product and one gate update: for
weights that do not fit on the chip, and what `sequence` is compared with on a GPU. There its launches are replayed from
a graph (graphs.py). Heads, of which each reads its own units of h alone, are an axis of the grid, and so are the two
directions of a layer, `both_ways`: heads of which the second half go from the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, Product
from rnnlab_kernels.schedules import node
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.engines import BOTH, Call
from rnnlab_kernels.schedules.layout import Weights, named_weights
from rnnlab_kernels.schedules.persistent.tiles import Tiling, heads_of, obstacle_of
from rnnlab_kernels.schedules.persistent.wiring import is_one_product

Tensors = tuple[Tensor, ...]


def _named(cell: Cell | Chain, weights: Weights | Mapping[str, Tensor]) -> tuple[Chain, dict[str, Tensor]]:
    """Return the chain and its weights by name, those of heads as they are where the kernels take them."""
    dense = isinstance(cell, Chain) and not is_one_product(cell)
    return named_weights(cell, weights, dense)


def _run(
    chain: Chain,
    x: Tensor,
    state_0: Tensors,
    named: dict[str, Tensor],
    mask: Tensor | None,
    reverse: int,
    additions: Additions,
    seeds: tuple[Any, ...],
    tiling: Tiling | None,
    step: bool,
) -> tuple[Tensor, Tensors]:
    name = "step" if step else "sequence"
    heads = heads_of(named.values())
    if reason := obstacle_of(chain, additions, state_0[0].shape[1] // heads, heads, step):
        raise ValueError(f"the {name} schedule cannot run this: {reason}")
    if tiling is not None and torch.compiler.is_compiling():
        raise ValueError("a compiled program plans its tiles as it runs, from the sizes it gets: give no plan")
    call = Call("sequence", name, chain, tuple(named), reverse, mask, additions, seeds, plan=tiling)
    output, *state_n = node.run(call, x, *named.values(), *state_0)
    return output, tuple(state_n)


def sequence(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
    plan: Tiling | None = None,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction in one launch each way. Arguments and results as in `kit_torch.eager`.

    Args:
        weights: "hh" may be (N, G*D, D): N heads of D = H/N units, of which each reads its own.
        plan: tiles; those of `tiles.plan_sequence` unless given.

    Raises:
        ValueError: the kernels cannot run the chain or its additions, or the recurrent weights do not fit on the chip.
    """
    chain, named = _named(cell, weights)
    return _run(chain, x, state_0, named, mask, int(reverse), additions, _seeds(additions), plan, False)


def step(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
    plan: Tiling | None = None,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction in one launch a step, for any H. Arguments, results and errors as `sequence`.

    For cells that are one product and one gate update, without clipping. On a GPU windows of steps are replayed from a
    CUDA graph, unless the caller is capturing one.
    """
    chain, named = _named(cell, weights)
    return _run(chain, x, state_0, named, mask, int(reverse), additions, _seeds(additions), plan, True)


def both_ways(
    cell: Cell | Chain,
    x: Tensor,
    states: Sequence[Tensors],
    weights: Sequence[Weights | Mapping[str, Tensor]],
    mask: Tensor | None = None,
    *,
    additions: Sequence[Additions] = (PLAIN, PLAIN),
    plan: Tiling | None = None,
) -> tuple[Tensor, list[Tensors]]:
    """Run both directions of a layer in one launch each way.

    Args:
        cell, x, mask: as in `sequence`.
        states, weights: of the direction along time and of the one from the end.
        additions: alike but for their seeds.
        plan: as in `sequence`.

    Returns:
        output (T, B, 2H), the directions side by side, and the last states of both.

    Raises:
        ValueError: as in `sequence`; the additions differ in more than seeds; a direction has no input weights.
    """
    sides = [_named(cell, own) for own in weights]
    chain, names = sides[0][0], tuple(sides[0][1])
    if "ih" not in names or set(names) != set(sides[1][1]):
        raise ValueError(
            f"both directions need the same weights, 'ih' among them, got {names} and {tuple(sides[1][1])}"
        )
    alike = [side if side.noise is None else side._replace(noise=side.noise._replace(seed=0)) for side in additions]
    if alike[0].reset is not alike[1].reset or alike[0]._replace(reset=None) != alike[1]._replace(reset=None):
        raise ValueError("the additions of both directions may differ in their seeds only")
    products, hidden = {stage.weight for stage in chain.stages if isinstance(stage, Product)}, states[0][0].shape[1]

    def stacked(name: str) -> Tensor:
        first, second = (side[1][name] for side in sides)
        if name in products:
            return torch.cat([part if part.dim() == 3 else part.unsqueeze(0) for part in (first, second)])
        # By blocks of H rows, those of both directions side by side.
        return torch.stack([part.unflatten(0, (-1, hidden)) for part in (first, second)], 1).flatten(0, 2)

    named = {name: stacked(name) for name in names}
    state_0 = tuple(torch.cat(parts, -1) for parts in zip(*states, strict=True))
    seeds = tuple(seed for side in additions for seed in _seeds(side))
    output, state_n = _run(chain, x, state_0, named, mask, BOTH, additions[0], seeds, plan, False)
    pairs = zip(*(value.chunk(2, -1) for value in state_n), strict=True)
    return output, [tuple(pair) for pair in pairs]


def _seeds(additions: Additions) -> tuple[Any, ...]:
    return (0 if additions.noise is None else additions.noise.seed,)
