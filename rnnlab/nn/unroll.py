"""One cell over time in one direction, whatever kind of cell: what `Recurrent` calls for each layer and direction.

| kind of cell | how it runs |
| --- | --- |
| states its gate maths (`chain`) | any schedule of rnnlab_kernels |
| is linear in its state (`coefficients`) | a linear scan, whose coefficients take in masks, resets and zoneout |
| neither | the plain loop over its forward |

On a CPU a cell without a product whose gate maths are known runs in one compiled loop, unless the walk is special.

T time, B batch, W width of a state.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from rnnlab.nn.backend import OF_ONE_LAUNCH, scan_method, schedule
from rnnlab.nn.cells.protocol import elementwise_constants, kind, one_pass_maths
from rnnlab.nn.state import autocast_dtype, autocast_to, without_autocast
from rnnlab_kernels.cells.chain import Chain, giving
from rnnlab_kernels.schedules.additions import PLAIN, Walk, clip_gradient, draw_masks, take_part
from rnnlab_kernels.schedules.layout import step_order, unread_states, walked, work, zero_padding
from rnnlab_kernels.schedules.persistent.elementwise import elementwise
from rnnlab_kernels.schedules.scan.linear_scan import linear_scan

Tensors = tuple[Tensor, ...]
_NO_CHAIN = Chain("", (), ())
_ONE_LOOP = {"fused": "numba", "triton": "triton"}  # backends that have a schedule for cells without a product
# Output, last states, and all states at all steps if they were asked for.
Result = tuple[Tensor, Tensors, Tensors]


def unroll(
    cell: Any,
    backend: str,
    x: Tensor,
    state: Tensors,
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    walk: Walk = PLAIN,
    weights: Mapping[str, Tensor] | None = None,
    checkpoint_steps: int | None = None,
    collect: bool = False,
) -> Result:
    """Run a cell over time.

    Args:
        cell: a view from `protocol.view`.
        backend: as chosen for it.
        x: (T, B, I), T >= 1.
        state: initial states, each (B, W).
        mask: (T, B, 1) boolean or None. Where False, a row's state is held and its output is zero.
        reverse: walk from the last step to the first.
        walk: resets, noise, clipping.
        weights: of a cell with a chain.
        checkpoint_steps: keep activations for windows of so many steps only while they are needed.
        collect: return every state at every step; a chain runs once more for each state that is not its output.

    Returns:
        output (T, B, N), the states after the last visited step, and, for `collect`, all states, each (T, B, W).
    """
    outputs: list[Tensor] = []
    every: list[Tensors] = []
    run = partial(_run, cell, backend, reverse, weights, collect)
    if checkpoint_steps is None:
        return run(walk, mask, x, *state)
    for part in _windows(len(x), checkpoint_steps, reverse):
        arguments: tuple[Any, ...] = (_at(walk, part), None if mask is None else mask[part], x[part], *state)
        if torch.is_grad_enabled():
            # Masks come from a counter, but a cell of the user's may draw from torch's generators.
            window = run
            if not torch.compiler.is_compiling():
                window = partial(_same_again, run, getattr(cell, "cell", cell), [])  # torch's cells are behind a view
            result = checkpoint(window, *arguments, use_reentrant=False, preserve_rng_state=True)
        else:
            result = run(*arguments)
        y, state, states = result
        outputs.append(y)
        every.append(states)
    if len(outputs) == 1:
        return outputs[0], state, every[0]
    if reverse:
        outputs.reverse()
        every.reverse()
    return torch.cat(outputs), state, tuple(torch.cat(values) for values in zip(*every, strict=True))


def _run(
    cell: Any,
    backend: str,
    reverse: bool,
    weights: Mapping[str, Tensor] | None,
    collect: bool,
    walk: Walk,
    mask: Tensor | None,
    x: Tensor,
    *state: Tensor,
) -> Result:
    """Run a window; initial states that no step reads, whatever stands in them, touch nothing but those held."""
    run = partial(_RUN[kind(cell)], cell, backend, reverse, weights, collect, walk, mask, x)
    if mask is None:
        return run(*state)
    unread, held = unread_states(mask, walk.reset, reverse)
    y, final, every = run(*(part.masked_fill(unread, 0) for part in state))
    final = tuple(torch.where(held, old.to(new.dtype), new) for old, new in zip(state, final, strict=True))
    if collect:
        begun = walked(mask if walk.reset is None else mask | walk.reset, reverse)
        every = tuple(torch.where(begun, new, old.to(new.dtype)) for old, new in zip(state, every, strict=True))
    return y, final, every


class _Again(nn.Module):
    """A window as a module, for `functional_call` to put the cell's parameters back."""

    def __init__(self, run: Callable[..., Result], cell: nn.Module) -> None:
        super().__init__()
        self.run, self.cell = run, cell

    def forward(self, *arguments: Any) -> Result:
        return self.run(*arguments)


def _same_again(
    run: Callable[..., Result], cell: nn.Module, seen: list[dict[str, tuple[Tensor, int]]], *arguments: Any
) -> Result:
    """Run a window; at every later time with the parameters that the cell had at the first, or refuse to."""
    own = dict(cell.named_parameters())
    if not seen:
        result = run(*arguments)
        seen.append({name: (value, 0 if value.is_inference() else value._version) for name, value in own.items()})
        return result
    if any(value._version != version for value, version in seen[0].values() if not value.is_inference()):
        raise RuntimeError(
            "checkpoint_steps computes a window again in the backward pass, but parameters of the cell have been "
            "modified by an inplace operation since: call backward before the optimiser's step"
        )
    if all(own.get(name) is value for name, (value, _) in seen[0].items()):
        return run(*arguments)
    # functional_call has ended since, and taken its parameters with it.
    first = {f"cell.{name}": value for name, (value, _) in seen[0].items()}
    return functional_call(_Again(run, cell), first, arguments)


def _windows(num_steps: int, size: int, reverse: bool) -> Iterator[slice]:
    starts = range(0, num_steps, size)
    for start in reversed(starts) if reverse else starts:
        yield slice(start, min(start + size, num_steps))


def _at(walk: Walk, part: slice) -> Walk:
    noise = walk.noise and walk.noise._replace(first=walk.noise.first + part.start)
    return walk._replace(reset=None if walk.reset is None else walk.reset[part], noise=noise)


def hold(y: Tensor, valid: Tensor, before: Tensor, reverse: bool = False) -> Tensor:
    """Return `y` (T, B, N), steps outside `valid` (T, B, 1) filled by the last valid one, at first `before` (B, N)."""
    if reverse:
        return hold(y.flip(0), valid.flip(0), before).flip(0)
    steps = torch.arange(1, y.shape[0] + 1, device=y.device).view(-1, 1, 1)
    last = torch.where(valid, steps, 0).cummax(0).values
    return torch.cat([before.unsqueeze(0).to(y.dtype), y]).gather(0, last.expand_as(y))


def _run_chain(
    cell: Any,
    backend: str,
    reverse: bool,
    weights: Mapping[str, Tensor],
    collect: bool,
    walk: Walk,
    mask: Tensor | None,
    x: Tensor,
    *state: Tensor,
) -> Result:
    cast_to = autocast_dtype(x.device)
    x = cell.inputs(x if mask is None else zero_padding(x, mask))
    with without_autocast(x.device, cast_to):
        gates_x = autocast_to(cast_to, x)
        state = tuple(autocast_to(cast_to, value) for value in state)
        cast = {name: autocast_to(cast_to, weight) for name, weight in weights.items()}
        run = partial(schedule(backend), x=gates_x, state_0=state, weights=cast, mask=mask, reverse=reverse, walk=walk)
        constants = elementwise_constants(cell.chain)
        if constants is None or not _is_plain(walk) or backend not in _ONE_LOOP:
            y, final = run(cell.chain)
        else:
            y, final = elementwise(
                cell.chain.stages[0].cell,
                linear(gates_x, cast["ih"], cast.get("bias_ih")) if "ih" in cast else gates_x,
                state,
                constants=tuple(cast[name] for name in constants),
                mask=mask,
                reverse=reverse,
                method=_ONE_LOOP[backend],
            )
        states: Tensors = ()
        if collect:
            names = cell.chain.states
            # Schedules of one launch give out h alone.
            other = partial(run.func if backend not in OF_ONE_LAUNCH else schedule("triton"), **run.keywords)
            states = tuple(
                y.clone() if name == cell.chain.output else other(giving(cell.chain, name))[0] for name in names
            )
            if mask is not None:
                valid = mask if walk.reset is None else mask | walk.reset  # a reset ends what is held, output is zero
                states = tuple(hold(part, valid, before, reverse) for part, before in zip(states, state, strict=True))
    output = cell.outputs(y)
    return output if mask is None or output is y else zero_padding(output, mask), final, states


def _is_plain(walk: Walk) -> bool:
    """Return whether there is nothing in a walk that a loop over all of time does not do."""
    return walk.reset is None and walk.noise is None and walk.clip is None


def _run_scan(
    cell: Any,
    backend: str,
    reverse: bool,
    weights: None,
    collect: bool,
    walk: Walk,
    mask: Tensor | None,
    x: Tensor,
    *state: Tensor,
) -> Result:
    (start,) = state
    if mask is not None:
        x = zero_padding(x, mask)
    maths = one_pass_maths(type(cell))
    if maths is not None and backend == "fused" and start.dtype == torch.float32 and _is_plain(walk) and not collect:
        gates_x = cell.pre_activations(x).to(start.dtype)
        output, last = elementwise(maths, gates_x, state, mask=mask, reverse=reverse, method="numba")
        return autocast_to(autocast_dtype(x.device), output), last, ()
    # Under autocast the products of the coefficients are cast; the sum over time keeps the precision of the state.
    a, b = (part.to(start.dtype) for part in cell.coefficients(x))
    (update,) = _updates(walk, state, x.shape[0])
    if update is not None:
        a, b = 1 - update + update * a, update * b
    held: Tensor | int = 1
    if walk.reset is not None:
        a, held = a.masked_fill(walk.reset, 0), (~walk.reset).to(a.dtype)
    if mask is not None:
        a, b = torch.where(mask, a, held), zero_padding(b, mask)
    if walk.clip is None and backend != "reference":
        h = linear_scan(a.expand_as(b), b, start, reverse=reverse, method=scan_method(backend, x.device))
    else:
        h = _plain_scan(a.expand_as(b), b, start, reverse, walk, mask)
    output = autocast_to(autocast_dtype(x.device), cell.outputs(h, x))
    # Copies: callers may change in place what they get.
    last = (h[0 if reverse else -1].clone(),)
    return output if mask is None else zero_padding(output, mask), last, (h.clone(),) if collect else ()


def _plain_scan(a: Tensor, b: Tensor, state: Tensor, reverse: bool, walk: Walk, mask: Tensor | None) -> Tensor:
    """Return all states by a plain loop, with the gradient clamped from step to step if it is to be."""
    dtype, states = b.dtype, [state] * len(b)
    a, b, state = work(a), work(b), work(state)
    for t in step_order(len(b), reverse):
        state = _clipped(state, walk, mask, t)
        if walk.reset is not None:
            state = zero_padding(state, ~walk.reset[t])
        state = states[t] = a[t] * state + b[t]
    return torch.stack(states).to(dtype)


def _clipped(value: Tensor, walk: Walk, mask: Tensor | None, t: int) -> Tensor:
    """Return `value` with its gradient clamped as the walk says for step t, both parts of it where it is complex."""
    if walk.clip is None:
        return value
    valid = None if mask is None else mask[t]
    if not value.is_complex():
        return clip_gradient(value, walk.clip, walk.counter, valid)
    valid = None if valid is None else valid.unsqueeze(-1)
    return torch.view_as_complex(clip_gradient(torch.view_as_real(value), walk.clip, walk.counter, valid))


def _run_loop(
    cell: Any,
    backend: str,
    reverse: bool,
    weights: None,
    collect: bool,
    walk: Walk,
    mask: Tensor | None,
    x: Tensor,
    *state: Tensor,
) -> Result:
    if mask is not None:
        x = zero_padding(x, mask)
    updates = _updates(walk, state, x.shape[0])
    pack = getattr(type(cell.initial_state(1, device=x.device, dtype=x.dtype)), "_make", tuple)
    outputs: list[Tensor] = [x] * len(x)
    every: list[Tensors] = [()] * len(x)
    for t in step_order(len(x), reverse):
        state = tuple(_clipped(value, walk, mask, t) for value in state)
        if walk.reset is not None:
            state = tuple(zero_padding(value, ~walk.reset[t]) for value in state)
        y, given = cell(x[t], pack(state))
        if len(given) != len(state):
            raise RuntimeError(f"{type(cell).__name__} took {len(state)} states and returned {len(given)}")
        new = tuple(
            value
            if part is None
            else take_part(old.to(value.dtype), value, part if isinstance(part, float) else part[t])
            for old, value, part in zip(state, given, updates, strict=True)
        )
        # A cell that gives out one of its states gives it out as it is after zoneout.
        outputs[t] = next((mine for mine, value in zip(new, given, strict=True) if value is y), y)
        state = new if mask is None else tuple(torch.where(mask[t], a, b) for a, b in zip(new, state, strict=True))
        every[t] = state
    output = torch.stack(outputs)
    states = tuple(torch.stack(values) for values in zip(*every, strict=True)) if collect else ()
    state = tuple(part.clone() for part in state)  # a cell may hand on what it was given
    return output if mask is None else zero_padding(output, mask), state, states


def _updates(walk: Walk, state: Tensors, num_steps: int) -> tuple[Tensor | float | None, ...]:
    """Return, for each state, the part of its new value that zoneout takes."""
    update = draw_masks(walk, _NO_CHAIN, tuple(value.real for value in state), num_steps).update
    return update or (None,) * len(state)


_RUN: dict[str, Callable[..., Result]] = {"chain": _run_chain, "scan": _run_scan, "loop": _run_loop}
