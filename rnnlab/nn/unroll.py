"""The one or two directions of a layer over time, whatever kind of cell: what `Stack` calls for each layer.

| kind of cell | how it runs |
| --- | --- |
| states its gate maths (`chain`) | any schedule of rnnlab_kernels |
| is linear in its state (`coefficients`) | a linear scan, whose coefficients take in masks, resets and zoneout |
| is so, and states its steps as a chain (`maths`) | that, where time is walked step by step: on a CPU |
| neither | the plain loop over its forward |

T time, B batch, W width of a state.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from rnnlab.nn.backend import OF_ONE_LAUNCH, scan_method, schedule
from rnnlab.nn.carry import state_names
from rnnlab.nn.cells.protocol import kind, walked_chain
from rnnlab.nn.recording import OfComplex
from rnnlab.nn.state import autocast_dtype, autocast_to, without_autocast
from rnnlab.nn.windows import run_windows
from rnnlab_kernels.cells.chain import Chain, giving
from rnnlab_kernels.schedules.additions import PLAIN, Additions, clip_gradient, draw_masks, take_part
from rnnlab_kernels.schedules.layout import step_order, unread_states, walked, work, zero_padding
from rnnlab_kernels.schedules.library.aten import chain_step
from rnnlab_kernels.schedules.recording import Hooks, squares, within
from rnnlab_kernels.schedules.reference import one_step
from rnnlab_kernels.schedules.scan.linear_scan import linear_scan

Tensors = tuple[Tensor, ...]
_NO_CHAIN = Chain("", (), ())
# Output, last states, and all states at all steps if they were asked for.
Result = tuple[Tensor, Tensors, Tensors]


class Side(NamedTuple):
    """One direction of a layer.

    Attributes:
        cell: a view from `protocol.view`.
        kind: "chain", "scan" or "loop".
        backend: as chosen for it.
        state: initial states, each (B, W).
        chain: of a cell that has one.
        weights: of a cell with a chain.
        additions: noise and clipping.
        reverse: from the last step to the first.
        seed: of what is dropped around the layer.
    """

    cell: Any
    kind: str
    backend: str
    state: Tensors
    chain: Chain | None = None
    weights: Mapping[str, Tensor] | None = None
    additions: Additions = PLAIN
    reverse: bool = False
    seed: int | Tensor = 0


def run_directions(
    sides: Sequence[Side],
    x: Tensor,
    mask: Tensor | None,
    reset: Tensor | None,
    checkpoint_steps: int | None = None,
    collect: bool = False,
) -> list[Result]:
    """Run the one or two directions of a layer: both in one launch, where the backend can do that.

    Args:
        sides: the directions.
        x: (T, B, I), T >= 1.
        mask: (T, B, 1) boolean or None. Where False, a row's state is held and its output is zero.
        reset: (T, B, 1) boolean or None: where True, a new sequence starts.
        checkpoint_steps: keep activations for windows of so many steps only while they are needed.
        collect: return every state at every step; a chain runs once more for each state that is not its output.

    Returns:
        for each direction output (T, B, N), the states after the last visited step, and, for `collect`, all states,
        each (T, B, W).
    """
    if reset is not None:
        # Nothing passes between t-1 and t, so the pass from the end starts from zero before it comes to t-1.
        back = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
        sides = [
            side._replace(additions=side.additions._replace(reset=back if side.reverse else reset)) for side in sides
        ]
    if len(sides) == 2 and sides[0].backend == "sequence" and checkpoint_steps is None and not collect:
        together = _both_ways(sides[0], sides[1], x, mask)
        if together is not None:
            return together
    found: list[Result] = []
    for side in sides:
        if checkpoint_steps is None:
            found.append(_run(side, collect, side.additions, mask, x, *side.state))
        else:
            found.append(run_windows(partial(_run, side, collect), side, x, mask, checkpoint_steps))
    return found


def run_step(cell: Any, x: Tensor, state: Tensors, by_torch: bool) -> tuple[Tensor, Tensors]:
    """Run one step of a cell to which nothing is added: what `run_directions` gives for a sequence of one.

    Args:
        cell: a view from `protocol.view`.
        x: (B, I).
        state: as the cell's own, each part (B, W).
        by_torch: whether torch's cell functions may do it.

    Returns:
        output (B, N), the states after the step.
    """
    how, chain = kind(cell)
    if how == "loop":
        y, new = cell(x, state)
        return y, tuple([part.clone() for part in _as_many(cell, new, state)])
    if chain is None:
        (start,) = state
        a, b = (work(part.to(start.dtype)) for part in cell.coefficients(x))
        h = (a * work(start) + b).to(start.dtype)
        return cell.outputs(h, x), (h,)
    gates_x, weights = cell.inputs(x), cell.kernel_weights()
    found = chain_step(chain, gates_x, state, weights) if by_torch else None
    y, new = one_step(chain, gates_x, state, weights) if found is None else (found[0], found)
    return cell.outputs(y), new


def _as_many(cell: nn.Module, given: Tensors, state: Tensors) -> Tensors:
    """Return the states that a cell gave out, which must be as many as it was given."""
    if len(given) != len(state):
        raise RuntimeError(f"{type(cell).__name__} took {len(state)} states and returned {len(given)}")
    return given


def _held(rows: Tensor, before: Tensors, after: Tensors) -> Tensors:
    """Return the last states, where no step was walked those before."""
    return tuple(torch.where(rows, old.to(new.dtype), new) for old, new in zip(before, after, strict=True))


def _run(side: Side, collect: bool, additions: Additions, mask: Tensor | None, x: Tensor, *state: Tensor) -> Result:
    """Run a window; initial states that no step reads, whatever stands in them, touch nothing but those held."""
    run = _RUN[side.kind]
    if mask is None:
        return run(side, collect, additions, mask, x, *state)
    unread, held = unread_states(mask, additions.reset, side.reverse)
    y, final, every = run(side, collect, additions, mask, x, *(part.masked_fill(unread, 0) for part in state))
    final = _held(held, state, final)
    if collect:
        begun = walked(mask if additions.reset is None else mask | additions.reset, side.reverse)
        every = tuple(torch.where(begun, new, old.to(new.dtype)) for old, new in zip(state, every, strict=True))
    return y, final, every


def hold(y: Tensor, valid: Tensor, before: Tensor, reverse: bool = False) -> Tensor:
    """Return `y` (T, B, N), steps outside `valid` (T, B, 1) filled by the last valid one, at first `before` (B, N)."""
    if reverse:
        return hold(y.flip(0), valid.flip(0), before).flip(0)
    steps = torch.arange(1, y.shape[0] + 1, device=y.device).view(-1, 1, 1)
    last = torch.where(valid, steps, 0).cummax(0).values
    return torch.cat([before.unsqueeze(0).to(y.dtype), y]).gather(0, last.expand_as(y))


def _cast(dtype: torch.dtype, x: Tensor, state: Tensors, weights: Any) -> tuple[Tensor, Tensors, dict[str, Tensor]]:
    """Return input, states and weights as autocast would cast them."""
    weights = {name: autocast_to(dtype, weight) for name, weight in weights.items()}
    return autocast_to(dtype, x), tuple(autocast_to(dtype, value) for value in state), weights


def _run_chain(
    side: Side, collect: bool, additions: Additions, mask: Tensor | None, x: Tensor, *state: Tensor
) -> Result:
    cell, backend, reverse, cast_to = side.cell, side.backend, side.reverse, autocast_dtype(x.device)
    chain: Any = side.chain
    x = cell.inputs(x)
    with without_autocast(x.device, cast_to):
        gates_x, weights = x, cast(Mapping[str, Tensor], side.weights)
        if cast_to is not None:
            gates_x, state, weights = _cast(cast_to, x, state, weights)
        run = schedule("sequence" if backend == "triton" and takes_one_launch(chain, additions) else backend)
        y, final = run(chain, gates_x, state, weights, mask, reverse=reverse, additions=additions)
        states: Tensors = ()
        if collect:
            # Schedules of one launch give out h alone.
            other = schedule(backend if backend not in OF_ONE_LAUNCH else "triton")
            states = tuple(
                y.clone()
                if name == chain.output
                else other(giving(chain, name), gates_x, state, weights, mask, reverse=reverse, additions=additions)[0]
                for name in chain.states
            )
            if mask is not None:
                valid = (
                    mask if additions.reset is None else mask | additions.reset
                )  # a reset ends what is held, output is zero
                states = tuple(hold(part, valid, before, reverse) for part, before in zip(states, state, strict=True))
    output = cell.outputs(y)
    return output if mask is None or output is y else zero_padding(output, mask), final, states


def _both_ways(side: Any, back: Any, x: Tensor, mask: Tensor | None) -> list[Result] | None:
    """Return what the directions of a layer give, one launch for both if that can be; None unless both read `x`."""
    both, chains = (side, back), (side.chain, back.chain)
    if None in chains or chains[0] != chains[1] or not all("ih" in one.weights for one in both):
        return None
    if any(one.cell.inputs(x) is not x for one in both):
        return None
    from rnnlab_kernels.plan import sequence_both_ways

    starts, unread = [one.state for one in both], []
    if mask is not None:
        unread = [unread_states(mask, one.additions.reset, one.reverse) for one in both]
        zeroed = [
            tuple(part.masked_fill(rows, 0) for part in state) for (rows, _), state in zip(unread, starts, strict=True)
        ]
        both = tuple(one._replace(state=state) for one, state in zip(both, zeroed, strict=True))

    cast_to = autocast_dtype(x.device)
    with without_autocast(x.device, cast_to):
        states, weights, additions = zip(*((one.state, one.weights, one.additions) for one in both), strict=True)
        if cast_to is not None:
            casts = [_cast(cast_to, x, one.state, one.weights) for one in both]
            (x, *_), (_, states, weights) = casts[0], zip(*casts, strict=True)
        found = sequence_both_ways(chains[0], x, states, weights, mask, additions)
    outputs = [one.cell.outputs(y) for one, (y, _) in zip(both, found, strict=True)]
    finals = [final for _, final in found]
    if mask is not None:
        outputs = [zero_padding(output, mask) for output in outputs]
        finals = [_held(rows, *states) for (_, rows), *states in zip(unread, starts, finals, strict=True)]
    return [(output, final, ()) for output, final in zip(outputs, finals, strict=True)]


def takes_one_launch(chain: Any, additions: Additions) -> bool:
    """Return whether Triton runs a chain on its own in one launch for all of time, since no unit waits for another."""
    if not chain.is_one_update or additions.recorder is not None:
        return False
    from rnnlab_kernels.schedules.persistent.tiles import obstacle_of

    return not obstacle_of(chain, additions)


def walks(backend: str, dtype: torch.dtype, chain: Chain | None, additions: Additions) -> bool:
    """Return whether a linear recurrence is walked step by step as its chain, in place of a scan.

    Zoneout draws one mask for a complex state, which is two states of a chain; products of a chain are never cast.
    """
    if chain is None or backend != "fused" or dtype not in (torch.float32, torch.complex64):
        return False
    return len(chain.stages) == 1 or (additions.noise is None and autocast_dtype(torch.device("cpu")) is None)


def _run_walk(side: Side, chain: Chain, additions: Additions, mask: Tensor | None, x: Tensor, start: Tensor) -> Result:
    cell, (given, weights) = side.cell, side.cell.walk(x)
    state = (start.real, start.imag) if start.is_complex() else (start,)
    if start.is_complex() and additions.recorder is not None:
        additions = additions._replace(recorder=OfComplex(additions.recorder, chain.states))
    with without_autocast(x.device, autocast_dtype(x.device)):
        run = schedule(side.backend)
        y, final = run(chain, given.to(state[0].dtype), state, weights, mask, reverse=side.reverse, additions=additions)
    output = autocast_to(autocast_dtype(x.device), cell.walked(y, x))
    last = torch.complex(*final) if start.is_complex() else final[0]
    return output if mask is None or output is y else zero_padding(output, mask), (last,), ()


def _run_scan(
    side: Side, collect: bool, additions: Additions, mask: Tensor | None, x: Tensor, *state: Tensor
) -> Result:
    cell, backend, reverse, (start,) = side.cell, side.backend, side.reverse, state
    chain = walked_chain(type(cell))
    if chain is not None and not collect and walks(backend, start.dtype, chain, additions):
        return _run_walk(side, chain, additions, mask, x, start)
    # Under autocast the products of the coefficients are cast; the sum over time keeps the precision of the state.
    a, b = (part.to(start.dtype) for part in cell.coefficients(x))
    (update,) = _updates(additions, state, x.shape[0])
    if update is not None:
        a, b = 1 - update + update * a, update * b
    held: Tensor | int = 1
    if additions.reset is not None:
        a, held = a.masked_fill(additions.reset, 0), (~additions.reset).to(a.dtype)
    if mask is not None:
        a, b = torch.where(mask, a, held), zero_padding(b, mask)
    if additions.recorder is not None:
        b = b.expand(len(b), *state[0].shape) + torch.zeros((), requires_grad=True, device=b.device)
        b.register_hook(partial(_record_scan, additions, mask, a.detach(), update))
    if additions.clip is None and backend != "reference":
        h = linear_scan(a.expand_as(b), b, start, reverse=reverse, method=scan_method(backend, x.device))
    else:
        h = _plain_scan(a.expand_as(b), b, start, reverse, additions, mask)
    output = autocast_to(autocast_dtype(x.device), cell.outputs(h, x))
    # Copies: callers may change in place what they get.
    last = (h[0 if reverse else -1].clone(),)
    return output if mask is None else zero_padding(output, mask), last, (h.clone(),) if collect else ()


def _record_scan(
    additions: Additions, mask: Tensor | None, a: Tensor, update: Tensor | float | None, grad: Tensor
) -> None:
    """Tell a recorder of a linear recurrence's gradients: that of b_t is the whole one of h_t."""
    grad = grad.detach() if mask is None else zero_padding(grad.detach(), mask)
    flow = {
        ("state", "h"): squares(grad if update is None else grad * update),
        ("direct", "h"): squares(a.conj() * grad),
    }
    additions.recorder(within(flow, mask, additions.reset))


def _plain_scan(
    a: Tensor, b: Tensor, state: Tensor, reverse: bool, additions: Additions, mask: Tensor | None
) -> Tensor:
    """Return all states by a plain loop, with the gradient clamped from step to step if it is to be."""
    dtype, states = b.dtype, [state] * len(b)
    a, b, state = work(a), work(b), work(state)
    for t in step_order(len(b), reverse):
        state = _clipped(state, additions, mask, t)
        if additions.reset is not None:
            state = zero_padding(state, ~additions.reset[t])
        state = states[t] = a[t] * state + b[t]
    return torch.stack(states).to(dtype)


def _clipped(value: Tensor, additions: Additions, mask: Tensor | None, t: int) -> Tensor:
    """Return `value` with its gradient clamped as `additions` say for step t, both parts where it is complex."""
    if additions.clip is None:
        return value
    valid = None if mask is None else mask[t]
    if not value.is_complex():
        return clip_gradient(value, additions.clip, additions.counter, valid)
    valid = None if valid is None else valid.unsqueeze(-1)
    return torch.view_as_complex(clip_gradient(torch.view_as_real(value), additions.clip, additions.counter, valid))


def _run_loop(
    side: Side, collect: bool, additions: Additions, mask: Tensor | None, x: Tensor, *state: Tensor
) -> Result:
    cell = side.cell
    hooks = None
    if additions.recorder is not None:
        hooks = Hooks(additions, mask, len(x), x, *state)
        x, *state = hooks.inputs
    updates = _updates(additions, state, x.shape[0])
    like = cell.initial_state(1, device=x.device, dtype=x.dtype)
    pack = getattr(type(like), "_make", tuple)
    outputs: list[Tensor] = [x] * len(x)
    every: list[Tensors] = [()] * len(x)
    for t in step_order(len(x), side.reverse):
        state = tuple(_clipped(value, additions, mask, t) for value in state)
        if additions.reset is not None:
            state = tuple(zero_padding(value, ~additions.reset[t]) for value in state)
        y, given = cell(x[t], pack(state))
        _as_many(cell, given, state)
        if hooks is not None:
            for name, value in zip(state_names(like), given, strict=True):
                hooks.watch("state", name, t, value)
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


def _updates(additions: Additions, state: Tensors, num_steps: int) -> tuple[Tensor | float | None, ...]:
    """Return, for each state, the part of its new value that zoneout takes."""
    update = draw_masks(additions, _NO_CHAIN, tuple(value.real for value in state), num_steps).update
    return update or (None,) * len(state)


_RUN: dict[str, Callable[..., Result]] = {"chain": _run_chain, "scan": _run_scan, "loop": _run_loop}
