"""The whole sequence in one Triton launch for steps of several stages, which exchange values within the step.

Layer norms, whose statistics are those of all units, and the GRU with its reset gate before the second product. The
kernels are in stages_triton.py, a chain as the numbers they unroll comes from stages_wiring.py, the choice of tiles is
`plan_stages` of stages_call.py. Outside the launch, as products and sums over T*B rows: the input part of the gates
before it; dx and the gradients of all weights after it. Inside, backward only writes gradients of pre-activations.

    norm, forward     z = (a - mean(a)) * rstd    y = gain * z + shift    rstd = 1 / sqrt(var(a) + EPS), of each row
    norm, backward    u = gain * dy               da = rstd * (u - mean(u) - z * mean(u * z))
    after the loop    dgain = sum of dy * z       dshift = sum of dy, over T*B rows

Where one program has all units of its rows, no program waits for another and a norm's sums are those of a tile. Where
several share them, all wait at a barrier in a cooperative launch: after each step, after each norm's partial sums and
before each product with a value of the same step. Triton's interpreter runs one program after the other: there a launch
covers what lies between two waits.

T time, B batch, H units, K states, S and D blocks of columns (stages_wiring.py), N norms. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states, mask, reset | as given | as given |
| h, its initial value included | (T+1, B, H) | dtype of x |
| further states, likewise | (T+1, B, K-1, H) | fp32 |
| what gate updates keep, normalised values, values that other stages read | (T, B, S, H) | dtype of x |
| 1 / standard deviation of norms | (T, N, B) | fp32 |

A step outside the mask holds its states in these, too; the output is zero there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.launch import SequencePlan
from rnnlab_kernels.schedules import engines, node
from rnnlab_kernels.schedules.additions import PLAIN, Walk
from rnnlab_kernels.schedules.layout import Weights, named_weights
from rnnlab_kernels.schedules.persistent.stages_call import Call, obstacle_of, plan_for, plan_stages, supports

__all__ = ["Call", "plan_for", "plan_stages", "stages", "supports"]
Tensors = tuple[Tensor, ...]


def stages(
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
        plan: tiles; those of `plan_stages` unless given.

    Raises:
        ValueError: the step is of another kind, the walk has clipping, or the recurrent weights do not fit on the chip.
    """
    chain, named = named_weights(cell, weights)
    if reason := obstacle_of(chain, walk):
        raise ValueError(f"the schedule of several stages cannot run this: {reason}")
    if plan is not None and torch.compiler.is_compiling():
        raise ValueError("a compiled program plans its tiles as it runs, from the sizes it gets: give no plan")
    call = engines.Call("stages", "", chain, tuple(named), reverse, mask, walk, plan=plan)
    output, *state_n = node.run(call, x, *named.values(), *state_0)
    return output, tuple(state_n)
