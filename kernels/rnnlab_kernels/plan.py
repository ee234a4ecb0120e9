"""Which Triton schedule a layer is for, and with which tiles: a pure function of cell, sizes and chip.

| schedule | chains | weights | from |
| --- | --- | --- | --- |
| sequence | one product, one gate update | must fit on the chip | 16 steps |
| stages | with layer norms, or a second product | must fit on the chip | 16 steps |
| step | as `sequence` | any | 1 step |
| pointwise | any | any | 1 step |

The first that can run a layer is its plan. The order is that of the rooflines in the design of the kernels and has been
measured on no GPU: `backend="auto"` does not follow it, `backend="sequence"` and `"step"` do as they are told.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.launch import SequencePlan, chip_of, plan_sequence, plan_step
from rnnlab_kernels.schedules.additions import PLAIN, Walk
from rnnlab_kernels.schedules.layout import Weights, named_weights
from rnnlab_kernels.schedules.persistent.sequence_call import gates_of, obstacle_of, supports

WHOLE = ("sequence", "stages")  # schedules that run all of time in one launch
ORDER = (*WHOLE, "step", "pointwise")
SHORT = 16  # fewer steps do not repay the loading of weights and the first barrier


class Plan(NamedTuple):
    """What runs a layer.

    Attributes:
        schedule: one of `ORDER`.
        tiles: of all but pointwise.
        reason: in a few words.
        passed: why not, for each schedule before it in `ORDER`.
    """

    schedule: str
    tiles: SequencePlan | None
    reason: str
    passed: Mapping[str, str]


def plan(
    cell: Cell | Chain,
    num_steps: int,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    sm_count: int,
    smem_bytes: int,
    *,
    tf32: bool = False,
    heads: int = 1,
    walk: Walk = PLAIN,
) -> Plan:
    """Return the schedule and its tiles for one layer in one direction.

    Args:
        cell: gate maths or a chain.
        num_steps, batch, hidden: T, B, H.
        dtype: of storage.
        sm_count, smem_bytes: multiprocessors of the chip, and the shared memory that one program may use.
        tf32: fp32 values are multiplied in TF32.
        heads: of the recurrent weights.
        walk: resets, noise, clipping.
    """
    passed: dict[str, str] = {}
    for schedule in ORDER[:-1]:
        if schedule in WHOLE and num_steps < SHORT:
            passed[schedule] = f"{num_steps} steps do not repay the loading of weights"
            continue
        chip = sm_count, smem_bytes, tf32
        tiles, reason = tiles_of(schedule, cell, batch, hidden, dtype, chip, heads=heads, walk=walk)
        if tiles is not None:
            return Plan(schedule, tiles, reason, passed)
        passed[schedule] = reason
    return Plan("pointwise", None, "a product and a launch for each stage of a step", passed)


def tiles_of(
    schedule: str,
    cell: Cell | Chain,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    chip: tuple[int, int, bool],
    *,
    heads: int = 1,
    walk: Walk = PLAIN,
) -> tuple[SequencePlan | None, str]:
    """Return the tiles of one of the schedules, None where it cannot run the layer, and the reason in a few words.

    Args:
        schedule: "sequence", "stages" or "step".
        cell, batch, hidden, dtype, heads, walk: as in `plan`.
        chip: multiprocessors, shared memory, TF32; `launch.chip_of` returns those of a device.
    """
    chain, (sm_count, smem_bytes, tf32) = cell if isinstance(cell, Chain) else as_chain(cell), chip
    if schedule == "stages":
        from rnnlab_kernels.schedules.persistent.stages import plan_stages

        if heads > 1:
            return None, "heads take the schedules of one product"
        if walk.clip is not None:
            return None, "clipping between steps takes the pointwise schedule"
        return plan_stages(chain, batch, hidden, dtype.itemsize, sm_count, smem_bytes, tf32)
    units = hidden // heads
    if obstacle := obstacle_of(chain, walk, units, heads):
        return None, obstacle
    sizes = gates_of(chain).cell.num_gates, batch, units, dtype.itemsize
    if schedule == "step":
        return plan_step(*sizes, tf32, heads)
    return plan_sequence(*sizes, sm_count, smem_bytes, tf32, heads)


def whole(
    cell: Cell | Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a layer by the one of the `WHOLE` schedules that takes its chain. Arguments, results, errors are theirs."""
    chain, _ = named_weights(cell, weights, dense=False)
    if supports(chain)[0]:
        from rnnlab_kernels.schedules.persistent.sequence import sequence

        return sequence(cell, x, state_0, weights, mask, **options)
    from rnnlab_kernels.schedules.persistent.stages import stages

    return stages(cell, x, state_0, weights, mask, **options)


def whole_both_ways(
    cell: Cell | Chain,
    x: Tensor,
    states: Sequence[tuple[Tensor, ...]],
    weights: Sequence[Weights | Mapping[str, Tensor]],
    mask: Tensor | None,
    walks: Sequence[Walk],
) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Return output and last states of both directions of a layer: in one launch each way if that can be, else in two.

    Arguments as in `sequence.both_ways`; the directions may also have resets of their own.
    """
    sides = [named_weights(cell, own, dense=False) for own in weights]
    chain, first = sides[0]
    # Under torch.compile sizes may be any, and nothing is decided by them: two launches are always right.
    together = not torch.compiler.is_compiling() and supports(chain)[0]
    together = (
        together and "ih" in first and set(first) == set(sides[1][1]) and walks[0].reset is None is walks[1].reset
    )
    if together:
        heads = 2 * (len(first["hh"]) if first["hh"].dim() == 3 else 1)
        batch, width, chip = x.shape[1], 2 * states[0][0].shape[1], chip_of(x.dtype, x.device)
        tiles, _ = tiles_of("sequence", chain, batch, width, x.dtype, chip, heads=heads, walk=walks[0])
        together = tiles is not None
    if not together:
        calls = zip(states, weights, (False, True), walks, strict=True)
        return [whole(cell, x, state, own, mask, reverse=back, walk=walk) for state, own, back, walk in calls]
    from rnnlab_kernels.schedules.persistent.sequence import both_ways

    output, finals = both_ways(cell, x, states, weights, mask, walks=walks)
    return list(zip(output.chunk(2, -1), finals, strict=True))
