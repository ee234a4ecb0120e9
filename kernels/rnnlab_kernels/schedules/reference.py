"""The plain loop: one layer, one direction, ordinary autograd.

Slow and obvious on purpose. It is what every other schedule is compared with, and what double backward, forward-mode
differentiation and vmap run on.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import EPS, Chain, Gates, Norm, Product
from rnnlab_kernels.schedules.additions import PLAIN, Additions, Masks, clip_gradient, draw_masks, take_part
from rnnlab_kernels.schedules.layout import Weights, named_weights, step_order, zero_padding


def reference(
    cell: Cell | Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run `cell` over time. Arguments and results as in `kit_torch.eager`, in the dtype given."""
    chain, named = named_weights(cell, weights)
    if mask is not None:
        x = zero_padding(x, mask)
    gates_x = (linear(x, named["ih"], named.get("bias_ih")) if "ih" in named else x).unbind(0)
    masks = draw_masks(additions, chain, state_0, len(gates_x))
    state = tuple(state_0)
    outputs: list[Tensor] = [x] * len(gates_x)
    for t in step_order(len(gates_x), reverse):
        if additions.clip is not None:
            valid = None if mask is None else mask[t]
            state = tuple(clip_gradient(part, additions.clip, additions.counter, valid) for part in state)
        if additions.reset is not None:
            state = tuple(zero_padding(part, ~additions.reset[t]) for part in state)
        values = _step(chain, gates_x[t], state, named, masks, t)
        for name, before, part in zip(chain.states, state, masks.update_at(t), strict=False):
            if part is not None:
                values[name] = take_part(before, values[name], part)
        if mask is not None:
            for name, before in zip(chain.states, state, strict=True):
                values[name] = torch.where(mask[t], values[name], before)
        state = tuple(values[name] for name in chain.states)
        outputs[t] = values[chain.output]
    output = torch.stack(outputs)
    # Copies: gate maths may hand on what they were given.
    return (output if mask is None else zero_padding(output, mask)), tuple(part.clone() for part in state)


def _step(
    chain: Chain, gates_x: Tensor, state: tuple[Tensor, ...], weights: Mapping[str, Tensor], masks: Masks, t: int
) -> dict[str, Tensor]:
    """Return every value of one step by name."""
    values = {f"{name}_prev": value for name, value in zip(chain.states, state, strict=True)}
    values |= {name: weights[name] for name in chain.constants}
    for stage in chain.stages:
        if isinstance(stage, Product):
            parts = [
                values[name] * masks.sources[name] if name in masks.sources else values[name] for name in stage.sources
            ]
            source = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
            product = linear(source, weights[stage.weight], None if stage.bias is None else weights.get(stage.bias))
            values[stage.out] = product + gates_x if stage.add_input else product
        elif isinstance(stage, Norm):
            source = values[stage.source]
            shift = None if stage.shift is None else weights.get(stage.shift)
            values[stage.out] = layer_norm(source, source.shape[-1:], weights[stage.gain], shift, EPS)
        else:
            values |= _update(stage, gates_x, values, masks, t)
    return values


def _update(stage: Gates, gates_x: Tensor, values: dict[str, Tensor], masks: Masks, t: int) -> dict[str, Tensor]:
    """Return the values that a gate update writes."""
    cell = stage.cell if masks.candidate is None or stage.cell.dropped is None else stage.cell.dropped
    num_gates, num_merged = cell.num_gates, cell.num_merged
    parts_h = None if stage.recurrent is None else values[stage.recurrent].chunk(num_gates, -1)
    parts_x = None
    if stage.first is not None:
        beside = parts_h[0] if parts_h is not None else values[stage.carried[0]] if stage.carried else None
        width = gates_x.shape[-1] // num_gates if beside is None else beside.shape[-1]
        parts_x = gates_x.narrow(-1, stage.first * width, num_gates * width).chunk(num_gates, -1)
    if parts_x is None or parts_h is None:
        gates = parts_h if parts_x is None else parts_x
        assert gates is not None and not cell.split
    else:
        merged = (a + b for a, b in zip(parts_x[:num_merged], parts_h[:num_merged], strict=True))
        gates = (*merged, *parts_x[num_merged:], *parts_h[num_merged:])
    carried = tuple(values[name] for name in stage.carried)
    if cell is not stage.cell:
        assert masks.candidate is not None
        carried = (*carried, masks.candidate[t])
    new, _ = cell.torch_fwd(tuple(gates), carried)
    return dict(zip(stage.out, new, strict=True))
