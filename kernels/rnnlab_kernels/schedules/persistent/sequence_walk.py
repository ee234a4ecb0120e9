"""What sequence.py computes, forward and backward: the launch and the large products around it.

Plain functions of tensors, which engines.py makes an engine.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.cells import bind_triton
from rnnlab_kernels.schedules.engines import BOTH
from rnnlab_kernels.schedules.layout import settled, zero_padding
from rnnlab_kernels.schedules.persistent.sequence_call import Call
from rnnlab_kernels.schedules.persistent.sequence_launch import run_kernel

Tensors = Sequence[Tensor]


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


def as_bytes(flags: Tensor | None) -> Tensor | None:
    """Return (T, B, 1) booleans as (T, B) bytes."""
    return None if flags is None else flags.expand(-1, -1, 1).squeeze(-1).contiguous().view(torch.uint8)


def padded(flags: Tensor | None) -> Tensor | None:
    """Return flags (T, B) with a slot of zeros at either end."""
    return None if flags is None else torch.nn.functional.pad(flags, (0, 0, 1, 1))


def walk_forward(call: Call, x: Tensor, tensors: Tensors) -> tuple[list[Tensor], Tensors]:
    """Return output and last states; and the states, those before zoneout and what the gate update keeps, at all steps.

    Args:
        call: all but tensors.
        x: (T, B, I).
        tensors: weights in the order of `call.names`, then initial states.
    """
    from rnnlab_kernels.schedules.persistent.sequence_triton import _sequence_fwd_kernel

    weights, state_0 = dict(zip(call.names, tensors, strict=False)), tensors[len(call.names) :]
    cell, (num_steps, batch), hidden = call.cell, x.shape[:2], state_0[0].shape[1]
    source = x if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
    h, rest, fresh, saved = kept = [x.new_empty(shape, dtype=dtype) for shape, dtype in kept_by(call, x, state_0)]
    for columns, back in _sides(call.reverse, hidden):
        start = num_steps if back else 0
        h[start, :, columns] = state_0[0][:, columns]
        for k, value in enumerate(state_0[1:]):
            rest[start, :, k, columns] = value[:, columns]
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
        KEEP_FRESH=len(fresh) > 0,
        GATE_ROWS=call.plan.gate_rows,
    )
    output = _slots(h, call.reverse)[1]
    if call.mask is not None:
        output = zero_padding(output, call.mask.unsqueeze(-1).bool())
    elif call.reverse != BOTH:
        output = output.clone()  # what is saved is not given out, so that callers may change the results in place
    others = _end(rest, call.reverse, True).to(x.dtype, copy=True)
    return [output, _end(h, call.reverse, True), *others.unbind(1)], kept


def kept_by(call: Call, x: Tensor, state_0: Tensors) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return shapes and dtypes of what forward writes of all steps: h, further states, those before zoneout, saved."""
    (num_steps, batch), hidden, num_states = x.shape[:2], state_0[0].shape[1], len(state_0)
    steps = num_steps if call.keep else 0
    return [
        ((num_steps + 1, batch, hidden), x.dtype),
        ((num_steps + 1, batch, num_states - 1, hidden), torch.float32),
        ((steps if call.zone else 0, batch, num_states, hidden), torch.float32),
        ((num_steps if call.keep else 1, batch, len(call.cell.saved), hidden), x.dtype),
    ]


def walk_backward(
    call: Call, x: Tensor, tensors: Tensors, kept: Tensors, grads: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of x and `tensors`, None where they are not `needed`.

    Args:
        call, x, tensors: as for `walk_forward`.
        kept: what it returned after the results.
        grads: of the results.
        needed: for x and each of `tensors`.
    """
    from rnnlab_kernels.schedules.persistent.sequence_triton import _sequence_bwd_kernel

    (h, rest, fresh, saved), (doutput, *dstate_n) = kept, grads
    weights = dict(zip(call.names, tensors, strict=False))
    cell, (num_steps, batch), hidden = call.cell, x.shape[:2], h.shape[2]
    dropped = call.dropped(tensors[len(call.names)])
    dstate = torch.stack([_dstate(grad, h) for grad in dstate_n], 1)
    dconstants = torch.zeros(batch, call.constexprs()["C"], hidden, dtype=torch.float32, device=x.device)
    dgates, dsplit = (x.new_empty(num_steps + 2, batch, gates * hidden) for gates in (cell.num_gates, cell.split))
    for written in (dgates, dsplit):
        written[0] = written[-1] = 0
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
            "mask": call.mask,
            "reset": call.reset,
            "dropped": dropped,
            "h": h,
            "rest": rest,
            "fresh": fresh,
            "saved": saved,
            "dgates": dgates,
            "dsplit": dsplit,
            "dconstants": dconstants,
            "parts": _parts(call, h),
        },
        H=hidden,
        D=weights["hh"].shape[2],
        GATES_BWD=bind_triton(cell.gates_bwd),
        PARTIAL=call.plan.partial,
    )
    found = _finish(call, x, weights, h, dropped, dgates[1:-1], dsplit[1:-1], dconstants, dstate, needed)
    return [grad if need else None for grad, need in zip(found, needed, strict=True)]


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
    needed: Sequence[bool],
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


def _parts(call: Call, h: Tensor) -> Tensor | None:
    """Return the memory of what programs leave of dh for each other: of this step and the one before."""
    return h.new_empty(2, call.plan.grid[0], *h.shape[1:], dtype=torch.float32) if call.plan.partial else None


def _by_heads(dgates: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the weights of heads (N, G*D, D), of (T*B, G*H) and (T*B, H)."""
    num_heads, rows, units = weight.shape
    if num_heads == 1:
        return dgates.t() @ before
    parts = before.unflatten(1, (num_heads, units)).transpose(0, 1)
    by_gate = dgates.unflatten(1, (rows // units, num_heads, units)).permute(1, 2, 3, 0)
    return torch.stack([torch.bmm(gate, parts) for gate in by_gate], 1)
