"""The forward half of a recurrence: the stages of each step, run over time.

T time, B batch, N columns of the input part, W width of a value.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from operator import getitem
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.additions import take_part
from rnnlab_kernels.schedules.engines import Kept
from rnnlab_kernels.schedules.layout import step_order, zero_padding
from rnnlab_kernels.schedules.stepwise.frame import Frame, Step
from rnnlab_kernels.schedules.stepwise.products import bind_product, bind_product_added, blockwise


def run_forward(frame: Frame) -> tuple[Tensor, list[Tensor], Kept]:
    """Run all steps; return the output, the last states, and what backward needs: states, values, by stage and step."""
    call, chain, rows, x = frame.call, frame.chain, frame.rows, frame.x
    plan = frame.plan
    num_steps, mask, reset = frame.num_steps, call.mask, call.additions.reset
    first, last = (num_steps, 0) if frame.reverse else (0, num_steps)
    buffers: list[Tensor] = []
    for name, value in zip(chain.states, frame.state_0, strict=True):
        dtype = x.dtype if name == chain.output else plan.work
        buffers.append(torch.empty(num_steps + 1, *value.shape, dtype=dtype, device=x.device))
        buffers[-1][first].copy_(value)
    values: list[Tensor] = []
    for name in plan.stored:
        dtype = x.dtype if name == chain.output else plan.work
        length = num_steps if call.keep or name == chain.output else 1
        values.append(torch.empty(length, frame.batch, plan.width[name], dtype=dtype, device=x.device))
    frame.set_states(buffers, values)
    if reset is not None:
        rows.update({f"{name}_prev": list(rows[f"{name}_prev"]) for name in chain.states})
    gates_x: Any = [None] * num_steps
    rows["x"] = gates_x
    input_part = _input_part(frame)

    runs: list[Callable[[int], None]] = []
    memories: list[list[Tensor]] = []
    for stage, step in zip(chain.stages, plan.steps, strict=True):
        memory: list[Tensor] = []
        memories.append(memory)
        if not isinstance(stage, Gates) and stage.out not in plan.outlasting:
            rows[stage.out] = [None] * num_steps
        if isinstance(stage, Product):
            runs.append(_product_fwd(frame, stage))
        elif isinstance(stage, Norm):
            runs.append(_norm_fwd(frame, stage, memory))
        elif step is not None:
            runs.append(_gates_fwd(frame, stage, step, memory))

    for t in step_order(num_steps, frame.reverse):
        gates_x[t] = next(input_part)
        if reset is not None:
            for name in chain.states:
                rows[f"{name}_prev"][t] = zero_padding(rows[f"{name}_prev"][t], ~reset[t])
        for run in runs:
            run(t)
        gates_x[t] = None
        for name, part in zip(chain.states, frame.masks.update_at(t) if plan.zoned else (), strict=False):
            if part is not None:
                after = rows[f"{name}_next"][t]
                after.copy_(take_part(rows[f"{name}_prev"][t], rows[name][t].to(after.dtype), part))
        if mask is not None:
            for name in chain.states:
                after = rows[f"{name}_next"][t]
                after.copy_(torch.where(mask[t], after, rows[f"{name}_prev"][t]))

    state_n: list[Tensor] = []
    for buffer in buffers:
        state_n.append(buffer[last].to(x.dtype, copy=True))
    if chain.output in chain.states:
        buffer = buffers[chain.states.index(chain.output)]
        output = buffer[:-1] if frame.reverse else buffer[1:]
    else:
        output = values[plan.stored.index(chain.output)]
    # A copy, so that callers may change the output in place, as they may with torch.nn.
    output = output.clone() if mask is None else zero_padding(output, mask)
    if not call.keep:
        return output, state_n, []
    kept: Kept = [*buffers, *values]
    for memory, count in zip(memories, plan.num_kept, strict=True):
        for k in range(count):
            kept.append(memory[k::count])
    return output, state_n, kept


def _input_part(frame: Frame) -> Iterator[Tensor]:
    """Yield the input part of the gates (B, N) step by step, the biases of merged products in it where it is ours."""
    weights, x, reverse = frame.weights, frame.x, frame.reverse
    if "ih" not in weights:
        x = x.contiguous()
        return iter(x.unbind(0)[::-1] if reverse else x.unbind(0))
    bias = weights.get("bias_ih")
    for stage in frame.chain.stages:
        if isinstance(stage, Product) and stage.out in frame.plan.merged and stage.bias in weights:
            bias = weights[stage.bias] if bias is None else bias + weights[stage.bias]
    product = bind_product(weights["ih"], frame.num_steps * frame.batch, bias)
    return blockwise(product, x, frame.num_columns, reverse)


def _product_fwd(frame: Frame, stage: Product) -> Callable[[int], None]:
    weight, rows, out = frame.weights[stage.weight], frame.rows, frame.rows[stage.out]
    bias = None if stage.bias is None else frame.weights.get(stage.bias)
    single = stage.sources[0]
    plain = len(stage.sources) == 1 and single not in frame.masks.sources and frame.work == frame.x.dtype
    source = rows[single].__getitem__ if plain else partial(frame.source, stage)

    if stage.out in frame.plan.merged:
        added, gates, is_ours = bind_product_added(weight, frame.batch), rows["x"], "ih" in frame.weights

        def run(t: int) -> None:
            # An input part that the caller gave must not be overwritten, nor is this product's bias in it.
            total = gates[t] if is_ours else gates[t].clone() if bias is None else gates[t] + bias
            out[t] = gates[t] = added(source(t), total)

    elif isinstance(out, list):
        product = bind_product(weight, frame.batch, bias)

        def run(t: int) -> None:
            out[t] = product(source(t))

    else:
        product = bind_product(weight, frame.batch, bias)

        def run(t: int) -> None:
            out[t].copy_(product(source(t)))

    return run


def _norm_fwd(frame: Frame, stage: Norm, memory: list[Tensor]) -> Callable[[int], None]:
    rows, out, keep = frame.rows[stage.source], frame.rows[stage.out], frame.call.keep
    gain, shift = frame.affine[stage.gain], frame.affine.get(stage.shift)
    outlasts = stage.out in frame.plan.outlasting
    norm_fwd = frame.kit.norm_fwd

    def run(t: int) -> None:
        source = rows[t].to(frame.work)
        normed, saved = norm_fwd(source, gain, shift)
        if keep:
            memory.extend(saved)
        if outlasts:
            out[t].copy_(normed)
        else:
            out[t] = normed

    return run


def _gates_fwd(frame: Frame, stage: Gates, step: Step, memory: list[Tensor]) -> Callable[[int], None]:
    rows, keep = frame.rows, frame.call.keep
    merged = stage.recurrent in frame.plan.merged
    from_h = None if stage.recurrent is None or merged else rows[stage.recurrent]
    carried, outs = list(map(rows.__getitem__, stage.carried)), list(map(rows.__getitem__, stage.out))
    if stage.cell.dropped is not None:
        carried += frame.candidate
    from_x = rows["x"] if stage.first is not None or merged else [None] * frame.num_steps
    # A step may use the recurrent part as scratch, but not a value that others read.
    must_copy = stage.recurrent in frame.plan.outlasting and stage.first is not None

    def run(t: int) -> None:
        gates_h = None if from_h is None else from_h[t]
        if must_copy and gates_h is not None:
            gates_h = gates_h.clone()
        at = repeat(t)
        saved = step.fwd(from_x[t], gates_h, tuple(map(getitem, carried, at)), tuple(map(getitem, outs, at)))
        if keep:
            memory.extend(saved)

    return run
