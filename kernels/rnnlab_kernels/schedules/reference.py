"""The plain loop: one layer, one direction, ordinary autograd.

Slow and obvious on purpose. It is what every other schedule is compared with, and what double backward, forward-mode
differentiation and vmap run on.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.cells import Cell, bind_torch
from rnnlab_kernels.schedules.layout import Weights, step_order, zero_padding


def reference(
    cell: Cell,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Weights,
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run `cell` over time. Arguments and results as in `schedules.eager.eager`, in the dtype given."""
    gates_fwd = bind_torch(cell.gates_fwd)
    num_merged, split = cell.num_merged, cell.split
    if mask is not None:
        x = zero_padding(x, mask)
    gates_x = linear(x, weights.ih, weights.bias_ih).unbind(0)
    state = tuple(state_0)
    outputs: list[Tensor] = [state[0]] * len(gates_x)
    for t in step_order(len(gates_x), reverse):
        parts_x = gates_x[t].chunk(cell.num_gates, -1)
        parts_h = linear(state[0], weights.hh, weights.bias_hh).chunk(cell.num_gates, -1)
        merged = [a + b for a, b in zip(parts_x[:num_merged], parts_h[:num_merged], strict=True)]
        gates = (*merged, *parts_x[num_merged:], *parts_h[num_merged:]) if split else merged
        new, _ = gates_fwd(gates, tuple(state[k] for k in cell.carried_index()))
        if weights.hr is not None:
            new = (linear(new[0], weights.hr), *new[1:])
        if mask is not None:
            new = tuple(torch.where(mask[t], a, b) for a, b in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
    output = torch.stack(outputs)
    return (output if mask is None else zero_padding(output, mask)), state
