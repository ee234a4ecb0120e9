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
from rnnlab_kernels.schedules.additions import NO_MASKS, PLAIN, Additions, Masks, clip_gradient, draw_masks, take_part
from rnnlab_kernels.schedules.layout import Weights, named_weights, step_order, zero_padding
from rnnlab_kernels.schedules.recording import Hooks, gates_given, gates_told


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
    before = [f"{name}_prev" for name in chain.states]
    hooks = None
    if additions.recorder is not None:
        hooks = Hooks(additions, mask, len(x), x, *state_0, *named.values())
        x, *rest = hooks.inputs
        state_0, named = tuple(rest[: len(state_0)]), dict(zip(named, rest[len(state_0) :], strict=True))
    constants = {name: named[name] for name in chain.constants}
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
        values = {**constants, **dict(zip(before, state, strict=True))}
        _step(chain, gates_x[t], values, named, masks, t, hooks)
        for name, old, part in zip(chain.states, state, masks.update_at(t), strict=False):
            if part is not None:
                old = old if hooks is None else hooks.see("direct", name, t, old)
                values[name] = take_part(old, values[name], part)
        if mask is not None:
            for name, old in zip(chain.states, state, strict=True):
                values[name] = torch.where(mask[t], values[name], old)
        state = tuple([values[name] for name in chain.states])
        outputs[t] = values[chain.output]
    output = torch.stack(outputs)
    # Copies: gate maths may hand on what they were given.
    return (output if mask is None else zero_padding(output, mask)), tuple([part.clone() for part in state])


def one_step(
    chain: Chain, x: Tensor, state: tuple[Tensor, ...], weights: Mapping[str, Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the output of a single step on x (B, I), and the states after it: what `reference` gives for T = 1."""
    _, named = named_weights(chain, weights)
    values = {name: named[name] for name in chain.constants}
    for name, value in zip(chain.states, state, strict=True):
        values[f"{name}_prev"] = value
    gates_x = linear(x, named["ih"], named.get("bias_ih")) if "ih" in named else x
    _step(chain, gates_x, values, named, NO_MASKS, 0)
    return values[chain.output], tuple([values[name].clone() for name in chain.states])


def _step(
    chain: Chain,
    gates_x: Tensor,
    values: dict[str, Tensor],
    weights: Mapping[str, Tensor],
    masks: Masks,
    t: int,
    hooks: Hooks | None = None,
) -> None:
    """Add every value of one step, by name, to those before it."""
    before = {f"{name}_prev": name for name in chain.states} if hooks is not None else {}
    for stage in chain.stages:
        if isinstance(stage, Product):
            parts = [values[name] for name in stage.sources]
            if hooks is not None:
                for k, name in enumerate(stage.sources):
                    if name in before:
                        parts[k] = hooks.see("recurrent", before[name], t, parts[k])
            if masks.sources:
                pairs = zip(parts, stage.sources, strict=True)
                parts = [part * masks.sources[name] if name in masks.sources else part for part, name in pairs]
            source = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
            product = linear(source, weights[stage.weight], None if stage.bias is None else weights.get(stage.bias))
            values[stage.out] = product + gates_x if stage.add_input else product
        elif isinstance(stage, Norm):
            source = values[stage.source]
            shift = None if stage.shift is None else weights.get(stage.shift)
            values[stage.out] = layer_norm(source, source.shape[-1:], weights[stage.gain], shift, EPS)
        else:
            values |= _update(chain, stage, gates_x, values, masks, t, hooks, before)
            if hooks is not None:
                for name, k in gates_given(chain, stage):
                    hooks.keep(name, t, values[stage.out[k]])
        if hooks is not None:
            for name in stage.out if isinstance(stage, Gates) else (stage.out,):
                if name in chain.states:
                    hooks.watch("state", name, t, values[name])


def _update(
    chain: Chain,
    stage: Gates,
    gates_x: Tensor,
    values: dict[str, Tensor],
    masks: Masks,
    t: int,
    hooks: Hooks | None,
    before: Mapping[str, str],
) -> dict[str, Tensor]:
    """Return the values that a gate update writes."""
    cell = stage.cell if masks.candidate is None or stage.cell.dropped is None else stage.cell.dropped
    num_gates = len(cell.gates)
    part_h = None if stage.recurrent is None else values[stage.recurrent]  # (B, G*H)
    part_x = None
    if stage.first is not None:
        columns = gates_x.shape[-1]
        if part_h is not None:
            columns = part_h.shape[-1]
        elif stage.carried:
            columns = num_gates * values[stage.carried[0]].shape[-1]
        whole = columns == gates_x.shape[-1]
        part_x = gates_x if whole else gates_x.narrow(-1, stage.first * (columns // num_gates), columns)
    if part_x is None or part_h is None:
        gates = part_h if part_x is None else part_x
        assert gates is not None and not cell.split
        parts = gates.chunk(num_gates, -1)
    elif not cell.split:
        parts = (part_x + part_h).chunk(num_gates, -1)
    else:
        parts_x, parts_h, merged = part_x.chunk(num_gates, -1), part_h.chunk(num_gates, -1), num_gates - cell.split
        sums = [a + b for a, b in zip(parts_x[:merged], parts_h[:merged], strict=True)]
        parts = (*sums, *parts_x[merged:], *parts_h[merged:])
    carried = tuple([values[name] for name in stage.carried])
    if hooks is not None:
        seen = [hooks.see("gate", name, t, part) for name, part in zip(gates_told(chain, stage), parts, strict=False)]
        parts = (*seen, *parts[len(seen) :])
        pairs = zip(stage.carried, carried, strict=True)
        carried = tuple([hooks.see("direct", before[n], t, value) if n in before else value for n, value in pairs])
    if cell is not stage.cell:
        assert masks.candidate is not None
        carried = (*carried, masks.candidate[t])
    new, saved = cell.torch_fwd(tuple(parts), carried)
    if hooks is not None:
        for name, value in zip(cell.saved, saved, strict=False):
            hooks.keep(name, t, value)
    return dict(zip(stage.out, new, strict=True))
