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
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.cells import Cell, bind_triton
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.launch import SequencePlan
from rnnlab_kernels.schedules.layout import Weights, named_weights, settled, zero_padding
from rnnlab_kernels.schedules.sequence_call import BOTH, Call, gates_of, obstacle_of, plan_for, supports
from rnnlab_kernels.schedules.sequence_launch import run_kernel
from rnnlab_kernels.schedules.walk import PLAIN, Walk

Tensors = tuple[Tensor, ...]


def _sides(reverse: int, width: int) -> list[tuple[slice, bool]]:
    """Return the columns of each direction, and whether it walks from the end."""
    if reverse == BOTH:
        return [(slice(0, width // 2), False), (slice(width // 2, width), True)]
    return [(slice(0, width), bool(reverse))]


def _slots(buffer: Tensor, reverse: int) -> tuple[Tensor, Tensor]:
    """Return the states before and after each step, of a buffer (T+1, B, H): views but for two directions."""
    before, after = [], []
    for columns, back in _sides(reverse, buffer.shape[-1]):
        part = buffer[..., columns]
        before.append(part[1:] if back else part[:-1])
        after.append(part[:-1] if back else part[1:])
    return (before[0], after[0]) if len(before) == 1 else (torch.cat(before, -1), torch.cat(after, -1))


def _end(buffer: Tensor, reverse: int, last: bool) -> Tensor:
    """Return what a buffer (T+1, B, ..., H) holds before the first step or after the last one, as a copy."""
    sides = _sides(reverse, buffer.shape[-1])
    return torch.cat([buffer[-1 if back != last else 0][..., columns] for columns, back in sides], -1)


def _padded(flags: Tensor | None) -> Tensor | None:
    """Return flags (T, B) with a slot of zeros at either end."""
    return None if flags is None else torch.nn.functional.pad(flags, (0, 0, 1, 1))


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> Tensors:
        from rnnlab_kernels.schedules.sequence_triton import _sequence_fwd_kernel

        ctx.set_materialize_grads(False)
        weights = dict(zip(call.names, tensors, strict=False))
        state_0 = tensors[len(call.names) :]
        cell, (num_steps, batch), hidden = call.cell, x.shape[:2], state_0[0].shape[1]
        source = x if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
        h = x.new_empty(num_steps + 1, batch, hidden)
        rest = x.new_empty(num_steps + 1, batch, len(state_0) - 1, hidden, dtype=torch.float32)
        for columns, back in _sides(call.reverse, hidden):
            start = num_steps if back else 0
            h[start, :, columns] = state_0[0][:, columns]
            for k, value in enumerate(state_0[1:]):
                rest[start, :, k, columns] = value[:, columns]
        saved = x.new_empty(num_steps if call.keep else 1, batch, len(cell.saved), hidden)
        steps = num_steps if call.zone and call.keep else 0
        fresh = x.new_empty(steps, batch, len(state_0), hidden, dtype=torch.float32)
        bias = weights.get("bias_hh")
        run_kernel(
            _sequence_fwd_kernel,
            call,
            (num_steps, batch),
            False,
            {
                "gates_x": _input_part(call, source, weights, hidden),
                "weight": settled(weights["hh"]).contiguous(),
                "bias": None if bias is None else settled(bias)[cell.num_merged * hidden :].contiguous(),
                "constants": _constants(call, weights, h),
                "mask": call.mask,
                "reset": call.reset,
                "dropped": call.dropped(state_0[0]),
                "h": h,
                "rest": rest,
                "fresh": fresh,
                "saved": saved,
            },
            H=hidden,
            D=weights["hh"].shape[2],
            GATES_FWD=bind_triton(cell.gates_fwd),
            HAS_BIAS=bias is not None,
            KEEP_FRESH=steps > 0,
            GATE_ROWS=call.plan.gate_rows,
        )
        # Masks are saved as tensors are, so that autograd notices when one was written into.
        ctx.call = call._replace(mask=None, reset=None)
        if call.keep:
            ctx.save_for_backward(call.mask, call.reset, x, *tensors, h, rest, fresh, saved)
        output = _slots(h, call.reverse)[1]
        if call.mask is not None:
            output = zero_padding(output, call.mask.unsqueeze(-1).bool())
        elif call.reverse != BOTH:
            output = output.clone()  # what is saved is not given out, so that callers may change the results in place
        others = _end(rest, call.reverse, True).to(x.dtype, copy=True)
        return output, _end(h, call.reverse, True), *others.unbind(1)

    @staticmethod
    def backward(ctx: Any, doutput: Tensor | None, *dstate_n: Tensor | None) -> tuple[Tensor | None, ...]:
        from rnnlab_kernels.schedules.sequence_triton import _sequence_bwd_kernel

        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                'build the module with backend="reference"'
            )
        mask, reset, x, *tensors, h, rest, fresh, saved = ctx.saved_tensors
        call: Call = ctx.call._replace(mask=mask, reset=reset)
        weights = dict(zip(call.names, tensors, strict=False))
        cell, (num_steps, batch), hidden = call.cell, x.shape[:2], h.shape[2]
        dropped = call.dropped(tensors[len(call.names)])
        dstate = torch.stack([_dstate(grad, h) for grad in dstate_n], 1)
        dconstants = torch.zeros(batch, call.constexprs()["C"], hidden, dtype=torch.float32, device=x.device)
        dgates, dsplit = (x.new_empty(num_steps + 2, batch, gates * hidden) for gates in (cell.num_gates, cell.split))
        for grads in (dgates, dsplit):
            grads[0] = grads[-1] = 0
        run_kernel(
            _sequence_bwd_kernel,
            call,
            (num_steps, batch),
            True,
            {
                "doutput": torch.zeros_like(h[1:]) if doutput is None else settled(doutput).contiguous(),
                "dstate": dstate,
                "weight": settled(weights["hh"]).contiguous(),
                "constants": _constants(call, weights, h),
                "mask": mask,
                "reset": reset,
                "dropped": dropped,
                "h": h,
                "rest": rest,
                "fresh": fresh,
                "saved": saved,
                "dgates": dgates,
                "dsplit": dsplit,
                "dconstants": dconstants,
            },
            H=hidden,
            D=weights["hh"].shape[2],
            GATES_BWD=bind_triton(cell.gates_bwd),
        )
        needed = ctx.needs_input_grad[1:]
        found = _finish(call, x, weights, h, dropped, dgates[1:-1], dsplit[1:-1], dconstants, dstate, needed)
        return (None, *(grad if need else None for grad, need in zip(found, needed, strict=True)))


def _dstate(grad: Tensor | None, h: Tensor) -> Tensor:
    return torch.zeros(h.shape[1:], dtype=torch.float32, device=h.device) if grad is None else grad.float()


def _constants(call: Call, weights: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Return the constants of the gate update (C, H) in fp32."""
    values = [weights[name].float().reshape(-1) for name in call.gates.carried if name in call.chain.constants]
    return torch.stack(values) if values else like.new_empty(0, like.shape[-1], dtype=torch.float32)


def _input_part(call: Call, x: Tensor, weights: Mapping[str, Tensor], hidden: int) -> Tensor:
    """Return the input part of the gates (T, B, G*H) with every bias that is added to it whole."""
    merged = call.gates.cell.num_merged * hidden
    bias, recurrent = weights.get("bias_ih"), weights.get("bias_hh")
    if recurrent is not None:
        whole = torch.cat([recurrent[:merged], torch.zeros_like(recurrent[merged:])])
        bias = whole if bias is None else bias + whole
    if "ih" in weights:
        return linear(x, weights["ih"], bias).contiguous()
    return (settled(x) if bias is None else x + bias).contiguous()


def _finish(
    call: Call,
    x: Tensor,
    weights: Mapping[str, Tensor],
    h: Tensor,
    dropped: Tensor | None,
    dgates: Tensor,
    dsplit: Tensor,
    dconstants: Tensor,
    dstate: Tensor,
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients of x, the weights in their order, and the initial states."""
    cell, hidden, reset = call.gates.cell, h.shape[2], call.reset
    wanted = dict(zip(call.names, needed[1:], strict=False))
    recurrent = dgates
    if cell.split:
        recurrent = torch.cat([dgates[..., : cell.num_merged * hidden], dsplit], -1)
    flat_x, flat_h = dgates.flatten(0, 1), recurrent.flatten(0, 1)
    found: dict[str, Tensor] = {}
    dx: Tensor | None = dgates
    if "ih" in weights:
        dx = (flat_x @ weights["ih"]).view_as(x) if needed[0] else None
        if wanted["ih"]:
            source = x if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
            found["ih"] = flat_x.t() @ source.flatten(0, 1)
    if wanted.get("bias_ih"):
        found["bias_ih"] = flat_x.sum(0, dtype=torch.float32)
    if wanted.get("bias_hh"):
        found["bias_hh"] = flat_h.sum(0, dtype=torch.float32)
    if wanted["hh"]:
        before = _slots(h, call.reverse)[0]
        if reset is not None:
            before = zero_padding(before, reset[1:-1].unsqueeze(-1) == 0)
        if dropped is not None:
            before = before * dropped
        found["hh"] = _by_heads(flat_h, before.flatten(0, 1), weights["hh"])
    constants = [name for name in call.gates.carried if name in call.chain.constants]
    found |= {name: dconstants[:, k].sum(0) for k, name in enumerate(constants)}
    # The step before the first is no step of the kernel: what h_0 gets through its product is made here.
    parts = []
    for k, (columns, back) in enumerate(sides := _sides(call.reverse, hidden)):
        first = recurrent[-1 if back else 0].unflatten(1, (cell.num_gates, hidden))[..., columns]
        hh = weights["hh"].chunk(len(sides))[k]
        by_head = first.unflatten(2, (len(hh), -1)).transpose(0, 2).transpose(1, 2).flatten(2)  # (N, B, G*D)
        part = torch.bmm(by_head.float(), hh.float()).transpose(0, 1).flatten(1)
        parts.append(part if reset is None else part.masked_fill(reset[-2 if back else 1].unsqueeze(-1) != 0, 0))
    dh_0 = torch.cat(parts, -1)
    if dropped is not None:
        dh_0 = dh_0 * dropped
    dstate_0 = [dstate[:, 0] + dh_0, *dstate[:, 1:].unbind(1)]
    dweights = [
        found[name].to(weights[name].dtype).view_as(weights[name]) if name in found else None for name in call.names
    ]
    return [dx, *dweights, *(grad.to(h.dtype) for grad in dstate_0)]


def _by_heads(dgates: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the weights of heads (N, G*D, D), of (T*B, G*H) and (T*B, H)."""
    num_heads, rows, units = weight.shape
    if num_heads == 1:
        return dgates.t() @ before
    parts = before.unflatten(1, (num_heads, units)).transpose(0, 1)
    by_gate = dgates.unflatten(1, (rows // units, num_heads, units)).permute(1, 2, 3, 0)
    return torch.stack([torch.bmm(gate, parts) for gate in by_gate], 1)


def _steps(flags: Tensor | None) -> Tensor | None:
    """Return (T, B, 1) booleans as (T, B) bytes."""
    return None if flags is None else flags.expand(-1, -1, 1).squeeze(-1).contiguous().view(torch.uint8)


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
    if plan is None:
        plan, reason = plan_for(chain, walk, x.shape[1], units, x.dtype, x.device, heads, whole)
    else:  # the caller answers for the sizes
        reason = obstacle_of(chain, walk, units, heads)
        plan = None if reason else plan
    if plan is None:
        raise ValueError(f"the {name} schedule cannot run this: {reason}")
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *named.values(), *state_0))
    call = Call(chain, tuple(named), plan, reverse, _steps(mask), _padded(_steps(walk.reset)), walk.noise, seeds, keep)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        output, *state_n = _Sequence.apply(call, x, *named.values(), *state_0)
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
