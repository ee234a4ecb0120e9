"""The whole sequence in one Triton launch: recurrent weights stay on the chip, time runs inside the kernel.

For cells that are one product with h_{t-1} and one gate update, as torch's are, and for peepholes, which are constants
of the update. The kernels are in sequence_triton.py, the choice of tiles in launch.py. Outside the launch, as products
over T*B rows: the input part of the gates before it; dx and the gradients of all weights after it. Inside, backward
only writes gate gradients.

Where one program has all units of its rows, no program waits for another. Where several share them, all wait at a
barrier after each step, in a cooperative launch. Triton's interpreter runs one program after the other, so that there
such a launch covers one step. `step` is the same with a launch for each step on purpose: for weights that do not fit on
the chip, and what `sequence` is compared with on a GPU. There its launches are replayed from a graph (graphs.py).

Heads, of which each reads its own units of h alone, are an axis of the grid, and so are the two directions of a layer,
`both_ways`: heads of which the second half walk from the end.

T time, B batch, H units of all N heads, G gates, K states, S saved values, C constants. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states, mask, reset | as given | as given |
| h, its initial value included | (T+1, B, H) | dtype of x |
| further states, likewise | (T+1, B, K-1, H) | fp32 |
| with zoneout, the states before it | (T, B, K, H) | fp32 |
| what the gate update keeps (activated gates) | (T, B, S, H) | dtype of x |

A step outside the mask holds its states in these, too; the output is zero there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.launch import SequencePlan
from rnnlab_kernels.schedules import engines, node
from rnnlab_kernels.schedules.additions import PLAIN, Walk
from rnnlab_kernels.schedules.engines import BOTH
from rnnlab_kernels.schedules.layout import Weights, named_weights
from rnnlab_kernels.schedules.persistent.sequence_call import gates_of, obstacle_of, supports

Tensors = tuple[Tensor, ...]


def _run(
    chain: Chain,
    x: Tensor,
    state_0: Tensors,
    named: dict[str, Tensor],
    mask: Tensor | None,
    reverse: int,
    walk: Walk,
    seeds: tuple[Any, ...],
    plan: SequencePlan | None,
    whole: bool,
) -> tuple[Tensor, Tensors]:
    name = "sequence" if whole else "step"
    possible, reason = supports(chain)
    if not possible:
        raise ValueError(f"the {name} schedule cannot run this: {reason}")
    weight = named["hh"]
    named["hh"] = weight = weight if weight.dim() == 3 else weight.unsqueeze(0)
    heads, units = weight.shape[0], weight.shape[2]
    if reason := obstacle_of(chain, walk, units, heads):
        raise ValueError(f"the {name} schedule cannot run this: {reason}")
    if plan is not None and torch.compiler.is_compiling():
        raise ValueError("a compiled program plans its tiles as it runs, from the sizes it gets: give no plan")
    call = engines.Call("sequence", name, chain, tuple(named), reverse, mask, walk, seeds, plan=plan)
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
    walk: Walk = PLAIN,
    plan: SequencePlan | None = None,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction in one launch each way. Arguments and results as in `schedules.eager.eager`.

    Args:
        weights: "hh" may be (N, G*D, D): N heads of D = H/N units, of which each reads its own.
        plan: tiles; those of `launch.plan_sequence` unless given.

    Raises:
        ValueError: the cell is more than a product and a gate update, the walk has clipping, or the recurrent weights
            do not fit on the chip.
    """
    chain, named = named_weights(cell, weights, dense=False)
    return _run(chain, x, state_0, named, mask, int(reverse), walk, _seeds(walk), plan, True)


def step(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    walk: Walk = PLAIN,
    plan: SequencePlan | None = None,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction in one launch a step, for any H. Arguments, results and errors as `sequence`.

    On a GPU windows of steps are replayed from a CUDA graph, unless the caller is capturing one.
    """
    chain, named = named_weights(cell, weights, dense=False)
    return _run(chain, x, state_0, named, mask, int(reverse), walk, _seeds(walk), plan, False)


def both_ways(
    cell: Cell | Chain,
    x: Tensor,
    states: Sequence[Tensors],
    weights: Sequence[Weights | Mapping[str, Tensor]],
    mask: Tensor | None = None,
    *,
    walks: Sequence[Walk] = (PLAIN, PLAIN),
    plan: SequencePlan | None = None,
) -> tuple[Tensor, list[Tensors]]:
    """Run both directions of a layer in one launch each way.

    Args:
        cell, x, mask: as in `sequence`.
        states, weights: of the direction along time and of the one from the end.
        walks: alike but for their seeds.
        plan: as in `sequence`.

    Returns:
        output (T, B, 2H), the directions side by side, and the last states of both.

    Raises:
        ValueError: as in `sequence`; the walks differ in more than seeds; a direction has no input weights.
    """
    sides = [named_weights(cell, own, dense=False) for own in weights]
    chain, names = sides[0][0], tuple(sides[0][1])
    if "ih" not in names or set(names) != set(sides[1][1]):
        raise ValueError(
            f"both directions need the same weights, 'ih' among them, got {names} and {tuple(sides[1][1])}"
        )
    alike = [walk if walk.noise is None else walk._replace(noise=walk.noise._replace(seed=0)) for walk in walks]
    if alike[0].reset is not alike[1].reset or alike[0]._replace(reset=None) != alike[1]._replace(reset=None):
        raise ValueError("the walks of both directions may differ in their seeds only")
    num_gates = gates_of(chain).cell.num_gates if supports(chain)[0] else 1

    def stacked(name: str) -> Tensor:
        first, second = (side[1][name] for side in sides)
        if name == "hh":
            return torch.cat([part if part.dim() == 3 else part.unsqueeze(0) for part in (first, second)])
        gates = 1 if name in chain.constants else num_gates
        return torch.stack([part.unflatten(0, (gates, -1)) for part in (first, second)], 1).flatten(0, 2)

    named = {name: stacked(name) for name in names}
    state_0 = tuple(torch.cat(parts, -1) for parts in zip(*states, strict=True))
    seeds = tuple(seed for walk in walks for seed in _seeds(walk))
    output, state_n = _run(chain, x, state_0, named, mask, BOTH, walks[0], seeds, plan, True)
    pairs = zip(*(value.chunk(2, -1) for value in state_n), strict=True)
    return output, [tuple(pair) for pair in pairs]


def _seeds(walk: Walk) -> tuple[Any, ...]:
    return (0 if walk.noise is None else walk.noise.seed,)
