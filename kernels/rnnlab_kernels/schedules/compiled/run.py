"""The passes: a program for sizes, the memory of a call, and the large products after it."""

from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.compiled.backward import backward_recipe
from rnnlab_kernels.schedules.compiled.forward import Sizes, forward_recipe
from rnnlab_kernels.schedules.compiled.program import Recipe
from rnnlab_kernels.schedules.compiled.ragged import back_from, in_order, rows_of
from rnnlab_kernels.schedules.engines import Kept
from rnnlab_kernels.schedules.layout import as_bytes, zero_padding
from rnnlab_kernels.schedules.recording import Key, gates_given, within
from rnnlab_kernels.schedules.stepwise.frame import Frame
from rnnlab_kernels.schedules.stepwise.gradients import Gradients

_FLOW = "flow "  # how names of sums of squares begin
MAX_ROWS = 64  # of a tile
MAX_RECIPES = 64  # of a plan
MAX_JOINED = 1 << 16  # elements of weights whose gradients stay in the nearer caches through a pass


def _sizes(frame: Frame, order: Tensor | None, x: tuple[int, ...], given: tuple[bool, ...] = ()) -> Sizes:
    call, masks, weights = frame.call, frame.masks, frame.weights
    threads = torch.get_num_threads()
    # As many rows as keep all threads busy, in whole groups of eight; two tiles for each where the first take longest.
    rows = -(-frame.batch // (threads if order is None or threads == 1 else 2 * threads))
    return Sizes(
        frame.num_steps,
        frame.batch,
        min(MAX_ROWS, max(8, -(-rows // 8) * 8)),
        frame.reverse,
        call.keep,
        x,
        tuple(zip(weights, map(Tensor.stride, weights.values()), strict=True)),
        call.mask is not None,
        call.additions.reset is not None,
        tuple(masks.sources),
        tuple([True if isinstance(part, Tensor) else part for part in masks.update]),
        call.additions.clip if given else None,
        call.additions.counter is not None,
        given,
        ordered=order is not None,
    )


def _joins(frame: Frame, needed: tuple[bool, ...]) -> bool:
    """Return whether the pass forms the gradients of weights as it goes, where no large product after it need do so.

    Where no product is in the way from step to step, a pass takes little more time than its memory: the gradients of
    pre-activations are worth more where they are, in the nearest cache, than in memory for a product to read.
    """
    chain, weights, wanted = frame.chain, frame.weights, dict(zip(frame.call.names, needed[1:], strict=False))
    products = [stage for stage in chain.stages if isinstance(stage, Product)]
    gates = chain.stages[: len(chain.stages) - len(products)]
    if any(not isinstance(stage, Gates) or stage.recurrent is not None for stage in gates):
        return False
    multiplied = ("ih", *(stage.weight for stage in products))
    if any(stage.out in chain.states for stage in products) or not all(map(wanted.get, multiplied)):
        return False
    return 0 < sum([weights[name].numel() for name in multiplied]) <= MAX_JOINED


def _recipe(frame: Frame, sizes: Sizes) -> Recipe:
    """Return the program of a pass, from those of the plan if it is there."""
    made: dict[Any, Recipe] = frame.plan.made
    found = made.get(sizes)
    if found is None:
        if len(made) >= MAX_RECIPES:
            made.clear()
        if sizes.given:
            found = backward_recipe(frame.plan, sizes)
        else:
            found = forward_recipe(frame.plan, sizes, frame.given.shape[2])
        made[sizes] = found
    return found


def _memory(frame: Frame) -> dict[str, Tensor]:
    """Return the memory that both passes read, by the names of the programs."""
    call, masks, memory = frame.call, frame.masks, dict(frame.weights)
    for name, flags in (("mask", as_bytes(call.mask)), ("reset", as_bytes(call.additions.reset))):
        if flags is not None:
            memory[name] = flags
    for name, mask in masks.sources.items():
        memory[f"dropped {name}"] = mask
    if frame.candidate:
        memory["candidate"] = frame.candidate[0]
    for name, part in zip(frame.chain.states, masks.update, strict=False):
        if isinstance(part, Tensor):
            memory[f"part {name}"] = part
    for name, weight in memory.items():
        if weight.dim() == 1:
            memory[name] = weight.contiguous()
    return memory


def _names(frame: Frame) -> list[str]:
    """Return the names of what backward needs: states, values, and what stages keep."""
    plan = frame.plan
    if found := plan.made.get("names"):
        return found
    names = [f"state {name}" for name in plan.chain.states] + [f"value {name}" for name in plan.stored]
    for number, stage in enumerate(plan.chain.stages):
        if isinstance(stage, Gates):
            names.append(f"kept {number}")
        elif isinstance(stage, Norm) and stage.source not in plan.outlasting:
            names.append(f"source {stage.source}")
    plan.made["names"] = names
    return names


def run_forward(frame: Frame) -> tuple[Tensor, list[Tensor], Kept]:
    """Run all steps; return the output, the last states, and what backward needs."""
    order = in_order(frame)
    x, chain, memory = frame.x if order is None else frame.given, frame.chain, _memory(frame)
    if x.stride(2) != 1:
        x = x.contiguous()
    sizes = _sizes(frame, order, x.stride())
    recipe = _recipe(frame, sizes)
    memory["x"] = x
    if order is not None:
        memory["order"] = order
    if (rows := rows_of(frame, sizes.rows)) is not None:
        memory["active"] = rows.active
    for name, shape in recipe.buffers:
        memory[name] = x.new_empty(shape)
    state_n: list[Tensor] = []
    states = [memory[f"state {name}"] for name in chain.states]
    first, last = (frame.num_steps, 0) if frame.reverse else (0, frame.num_steps)
    for buffer, value in zip(states, frame.state_0, strict=True):
        buffer[first % len(buffer)].copy_(value)
    recipe.run(memory, x)
    for buffer in states:
        state_n.append(buffer[last % len(buffer)].clone())
    output, kept = memory["output"], [memory[name] for name in _names(frame)] if frame.call.keep else []
    if order is not None:
        back = back_from(order)
        state_n = [value.index_select(0, back) for value in state_n]
    return output, state_n, kept


def run_backward(
    frame: Frame,
    kept: Kept,
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Go back over time writing gate gradients only, then form all other gradients from them at once."""
    order = in_order(frame)
    if order is not None:
        dstate_n = tuple(None if grad is None else grad.index_select(0, order) for grad in dstate_n)
    call, chain, plan, memory = frame.call, frame.chain, frame.plan, _memory(frame)
    if order is not None:
        memory["order"] = order
    memory |= zip(_names(frame), kept, strict=True)
    stride: tuple[int, ...] = ()
    if doutput is not None:
        if doutput.stride(2) != 1:
            doutput = doutput.contiguous()
        memory["doutput"], stride = doutput, doutput.stride()
    for name, grad in zip(chain.states, dstate_n, strict=True):
        if grad is not None:
            memory[f"last {name}"] = grad.contiguous()
    joined = _joins(frame, needed)
    sizes = _sizes(frame, order, stride, (doutput is not None, *[grad is not None for grad in dstate_n]))
    rows = rows_of(frame, sizes.rows)
    inside = None if rows is None or joined else rows.inside
    gradients = Gradients(frame, joined, inside)
    if joined:
        memory["x"] = frame.x if frame.x.stride(2) == 1 else frame.x.contiguous()
    else:
        memory["dx"] = gradients.dx
    for name, grad in gradients.dpre.items():
        memory[f"d {name}"] = grad
    if joined:
        sizes = sizes._replace(joined=True, input=memory["x"].stride(), num_features=frame.x.shape[2], dinput=needed[0])
    elif inside is not None:
        sizes = sizes._replace(packed=True)
    if call.additions.recorder is not None:
        sizes = sizes._replace(recorded=True)
    recipe = _recipe(frame, sizes)
    if rows is not None:
        memory["active"] = rows.active
        if inside is not None and rows.ahead is not None:
            memory["ahead"] = rows.ahead
    for name, shape in recipe.buffers:
        memory[name] = frame.given.new_zeros(shape) if name.startswith(_FLOW) else frame.given.new_empty(shape)
    tiles = recipe.run(memory, frame.given)
    parts: dict[str, list[Tensor]] = {}  # of products' gradients, source by source
    for name, (first, count) in recipe.sums.items():
        part = tiles[:, first : first + count]
        if name.startswith("columns "):
            gradients.sums[name.removeprefix("columns ")] = part.sum(0)
        elif name.startswith("weight "):
            weight = name.split(" ", 2)[2]
            parts.setdefault(weight, []).append(part.sum(0).view(len(frame.weights[weight]), -1))
        elif name in chain.constants:
            gradients.dconstants[name] = part.reshape(len(part) * sizes.rows, plan.width[name])
        else:
            gradients.dweights[name] = part.sum(0)
    gradients.dweights |= {name: own[0] if len(own) == 1 else torch.cat(own, 1) for name, own in parts.items()}
    gradients.dinput = memory.get("dinput")
    if call.additions.recorder is not None:
        call.additions.recorder(_flow(frame, memory, order))
    if call.additions.counter is not None and call.additions.clip is not None:
        _count(frame, memory, needed)
    named: dict[str, Tensor] = {}
    for name in chain.states:
        buffer = memory[f"state {name}"]
        before, named[name] = (buffer[1:], buffer[:-1]) if frame.reverse else (buffer[:-1], buffer[1:])
        named[f"{name}_prev"] = before if call.additions.reset is None else zero_padding(before, ~call.additions.reset)
    for name in plan.stored:
        named[name] = memory[f"value {name}"]
    dx, *found = gradients.finish(named, needed)
    dstate_0 = [memory[f"first {name}"] for name in chain.states]
    if order is not None:
        back = back_from(order)
        if dx is not None and not gradients.is_in_order:
            dx = dx.index_select(1, back)
        dstate_0 = [grad.index_select(0, back) for grad in dstate_0]
    return [dx, *found, *dstate_0]


def _flow(frame: Frame, memory: dict[str, Tensor], order: Tensor | None) -> dict[Key, Tensor]:
    """Return what a recorder is told, rows in the order of the input."""
    found: dict[Key, Tensor] = {}
    for name, value in memory.items():
        if name.startswith(_FLOW):
            kind, _, own = name.removeprefix(_FLOW).partition(" ")
            found[kind, own] = value
    if frame.call.additions.recorder.values:
        for number, step in enumerate(frame.plan.steps):
            for k, own in enumerate(() if step is None else step.cell.saved):
                found["value", own] = memory[f"kept {number}"][:, k]
        for stage in frame.chain.stages:
            for own, k in gates_given(frame.chain, stage) if isinstance(stage, Gates) else ():
                found["value", own] = memory[f"value {stage.out[k]}"]
    found = within(found, frame.call.mask, frame.call.additions.reset)  # rows of all in the order of the pass
    return found if order is None else {key: value.index_select(1, back_from(order)) for key, value in found.items()}


def _count(frame: Frame, memory: dict[str, Tensor], needed: tuple[bool, ...]) -> None:
    """Tell the counter of all gradients that were clipped; those of initial states if they are needed."""
    call, additions = frame.call, frame.call.additions
    assert additions.counter is not None and additions.clip is not None
    for name, need in zip(frame.chain.states, needed[1 + len(call.names) :], strict=True):
        steps = slice(None) if need else slice(0, -1) if frame.reverse else slice(1, None)
        valid = None if call.mask is None else call.mask[steps].flatten(0, 1)
        additions.counter(memory[f"unclipped {name}"][steps].flatten(0, 1), additions.clip, valid)
