"""What the engine computes, forward and backward: the launch and the large products around it.

Outside the launch, as products and sums over T*B rows: the input part of the gates before it; dx and the gradients of
all weights after it. Inside, backward only writes gradients of pre-activations.

    norm, forward     z = (a - mean(a)) * rstd    y = gain * z + shift    rstd = 1 / sqrt(var(a) + EPS), of each row
    norm, backward    u = gain * dy               da = rstd * (u - mean(u) - z * mean(u * z))
    after the loop    dgain = sum of dy * z       dshift = sum of dy, over T*B rows

T time, B batch, H units of all N heads, K states, S blocks of columns (wiring.py), M norms. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states, mask, reset | as given | as given |
| h, its initial value included | (T+1, B, H) | dtype of x |
| further states, likewise | (T+1, B, K-1, H) | fp32 |
| what gate updates keep, normalised values, values that other stages read | (T, B, S, H) | dtype of x |
| 1 / standard deviation of norms | (T, M, B) | fp32 |

A step outside the mask holds its states in these, too; the output is zero there.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from rnnlab_kernels.cells.chain import Chain, Norm, Product
from rnnlab_kernels.launch import chip_of
from rnnlab_kernels.schedules.engines import BOTH, Call, Engine, Kept
from rnnlab_kernels.schedules.layout import settled, zero_padding
from rnnlab_kernels.schedules.persistent.call import Launch, launch_of
from rnnlab_kernels.schedules.persistent.launching import run_kernel
from rnnlab_kernels.schedules.persistent.tiles import Tiling, heads_of, plan_for
from rnnlab_kernels.schedules.persistent.wiring import Stage

Tensors = Sequence[Tensor]
MAX_SUMMED = 1 << 24  # elements of a product in fp32 that are made at once to be summed
NO_TILES = Tiling((1, 0, 1), {"RESIDENT": True})  # of a call that is only asked for shapes


class Persistent(Engine):
    """The engine. Inputs: x, weights, initial states. The method "sequence" is all of time in one launch, "step" one
    launch a step; programs of version 0.1 leave "" for the former, too. The plan are the tiles."""

    def planned(self, call: Call, inputs: Tensors) -> Call:
        if call.plan is not None:  # who gives tiles answers for the sizes
            return call
        x, chain, heads = inputs[0], call.maths, heads_of(inputs[1 : 1 + len(call.names)])
        assert isinstance(chain, Chain)
        sizes = x.shape[1], inputs[-1].shape[1] // heads, x.dtype, chip_of(x.dtype, x.device)
        tiling, reason = plan_for(chain, call.additions, *sizes, heads, call.method == "step")
        if tiling is None:
            raise ValueError(f"the {call.method or 'sequence'} schedule cannot run this: {reason}")
        return call._replace(plan=tiling)

    def forward(self, call: Call, inputs: Tensors) -> tuple[list[Tensor], Kept]:
        results, kept = _forward(launch_of(call), inputs[0], inputs[1:])
        return results, list(kept)

    def fake(self, call: Call, inputs: Tensors) -> list[Tensor]:
        x, state_0 = inputs[0], inputs[1 + len(call.names) :]
        found = [x.new_empty(*x.shape[:2], state_0[0].shape[1]), *(x.new_empty(value.shape) for value in state_0)]
        if call.keep:
            shapes = _kept_by(launch_of(call._replace(plan=NO_TILES)), x, state_0)
            found += [x.new_empty(shape, dtype=dtype) for shape, dtype in shapes]
        return found

    def backward(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> list[Tensor | None]:
        return _backward(launch_of(call), inputs[0], inputs[1:], kept, grads, needed)


def _sides(reverse: int, width: int) -> list[tuple[slice, bool]]:
    """Return the columns of each direction, and whether it goes from the end."""
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


def _last(buffer: Tensor, reverse: int) -> Tensor:
    """Return what a buffer (T+1, B, ..., H) holds after the last step, as a copy."""
    sides = _sides(reverse, buffer.shape[-1])
    return torch.cat([buffer[0 if back else -1][..., columns] for columns, back in sides], -1)


def _forward(call: Launch, x: Tensor, tensors: Tensors) -> tuple[list[Tensor], Tensors]:
    """Return output and last states; and h, further states, values of stages and deviations of norms, at all steps.

    Args:
        call: all but tensors.
        x: (T, B, I).
        tensors: weights in the order of `call.names`, then initial states.
    """
    from rnnlab_kernels.schedules.persistent.kernel_forward import _forward_kernel

    weights, state_0 = dict(zip(call.names, tensors, strict=False)), tensors[len(call.names) :]
    (num_steps, batch), hidden = x.shape[:2], state_0[0].shape[1]
    source = settled(x) if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
    gates_x = linear(source, weights["ih"], weights.get("bias_ih")) if "ih" in weights else source
    h, rest, saved, rstd = kept = [x.new_empty(shape, dtype=dtype) for shape, dtype in _kept_by(call, x, state_0)]
    for columns, back in _sides(call.reverse, hidden):
        start = num_steps if back else 0
        h[start, :, columns] = state_0[0][:, columns]
        for k, value in enumerate(state_0[1:]):
            rest[start, :, k, columns] = value[:, columns]
    run_kernel(
        _forward_kernel,
        call,
        (num_steps, batch, hidden, hidden // call.tiling.grid[2]),
        False,
        {
            "gates_x": gates_x.contiguous(),
            "weight": _weights(call, weights),
            "vectors": _vectors(call, weights),
            "mask": call.mask,
            "reset": _padded(call, call.reset),
            "dropped": call.dropped(state_0[0]),
            "h": h,
            "rest": rest,
            "saved": saved,
            "rstd": rstd,
        },
    )
    output = _slots(h, call.reverse)[1]
    if call.mask is not None:
        output = zero_padding(output, call.mask.unsqueeze(-1).bool())
    elif call.reverse != BOTH:
        output = output.clone()  # what is saved is not given out, so that callers may change the results in place
    others = _last(rest, call.reverse).to(x.dtype, copy=True)
    return [output, _last(h, call.reverse), *others.unbind(1)], kept


def _kept_by(call: Launch, x: Tensor, state_0: Tensors) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return shapes and dtypes of what forward writes of all steps, in the order of the table above."""
    (num_steps, batch), hidden, wiring = x.shape[:2], state_0[0].shape[1], call.wiring
    # Without a backward pass what the step itself reads from memory: in turn, as the sums.
    return [
        ((num_steps + 1, batch, hidden), x.dtype),
        ((num_steps + 1, batch, len(state_0) - 1, hidden), torch.float32),
        ((num_steps if call.keep else 2, batch, wiring.num_saved, hidden), x.dtype),
        ((num_steps if call.keep else 1, wiring.num_norms, batch), torch.float32),
    ]


def _backward(
    call: Launch, x: Tensor, tensors: Tensors, kept: Tensors, grads: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of x and `tensors`, None where they are not `needed`.

    Args:
        call, x, tensors: as for `_forward`.
        kept: what it returned after the results.
        grads: of the results.
        needed: for x and each of `tensors`.
    """
    from rnnlab_kernels.schedules.persistent.kernel_backward import _backward_kernel

    (h, rest, saved, rstd), (doutput, *dstate_n) = kept, grads
    weights = dict(zip(call.names, tensors, strict=False))
    (num_steps, batch), hidden, wiring = x.shape[:2], h.shape[2], call.wiring
    dropped = call.dropped(tensors[len(call.names)])
    zeros = torch.zeros(batch, hidden, dtype=torch.float32, device=x.device)
    dstate = torch.stack([zeros if grad is None else grad.float() for grad in dstate_n], 1)
    dconstants = torch.zeros(batch, wiring.num_constants, hidden, dtype=torch.float32, device=x.device)
    written = x.new_empty(num_steps + 2 * call.late, batch, wiring.num_grads * hidden)
    if call.late:  # nothing follows the last step
        written[0] = written[-1] = 0
    unclipped = parts = None
    if call.counter is not None and call.clip is not None:
        unclipped = torch.zeros(num_steps, *dstate.shape, dtype=torch.float32, device=x.device)
    if call.tiling.parts:  # of this step and the one before
        parts = h.new_empty(2, call.tiling.grid[0], *h.shape[1:], dtype=torch.float32)
    run_kernel(
        _backward_kernel,
        call,
        (num_steps, batch, hidden, hidden // call.tiling.grid[2]),
        True,
        {
            "doutput": torch.zeros_like(h[1:]) if doutput is None else settled(doutput).contiguous(),
            "dstate": dstate,
            "weight": _weights(call, weights),
            "vectors": _vectors(call, weights),
            "mask": call.mask,
            "reset": _padded(call, call.reset),
            "dropped": dropped,
            "h": h,
            "rest": rest,
            "saved": saved,
            "rstd": rstd,
            "grads": written,
            "dconstants": dconstants,
            "unclipped": unclipped,
            "parts": parts,
        },
    )
    needed_0 = needed[1 + len(call.names) :]
    if unclipped is not None:
        _count(call, unclipped, needed_0)
    if call.late:
        written = written[1:-1]
        dstate[:, 0] += _first_product(call, weights["hh"], written, dropped)
    found = _finish(call, x, weights, h, saved, dropped, written, needed)
    found |= {name: dconstants[:, k].sum(0) for k, name in enumerate(call.chain.constants)}
    dweights = [
        found[name].to(weights[name].dtype).view_as(weights[name]) if name in found and need else None
        for name, need in zip(call.names, needed[1:], strict=False)
    ]
    dstate_0 = [grad.to(h.dtype) if need else None for grad, need in zip(dstate.unbind(1), needed_0, strict=True)]
    return [found.get("x"), *dweights, *dstate_0]


def _padded(call: Launch, flags: Tensor | None) -> Tensor | None:
    """Return flags (T, B), where a step reads those of its neighbours with a slot of zeros at either end."""
    return pad(flags, (0, 0, 1, 1)) if flags is not None and call.late else flags


def _count(call: Launch, unclipped: Tensor, needed_0: Sequence[bool]) -> None:
    """Tell the counter of all gradients (T, B, K, H) that were clipped; those of initial states if they are needed."""
    for k, need in enumerate(needed_0):
        steps = slice(None) if need else slice(0, -1) if call.reverse else slice(1, None)
        valid = None if call.mask is None else call.mask[steps].flatten().unsqueeze(1).bool()
        call.counter(unclipped[steps, :, k].flatten(0, 1), call.clip, valid)


def _first_product(call: Launch, weight: Tensor, grads: Tensor, dropped: Tensor | None) -> Tensor:
    """Return what h_0 gets through the product of the first step (B, H), which no later step of the kernel makes."""
    wiring, parts = call.wiring, []
    sides = _sides(call.reverse, grads.shape[2] // wiring.num_grads)
    weights = (weight if weight.dim() == 3 else weight.unsqueeze(0)).chunk(len(sides))
    for (columns, back), own in zip(sides, weights, strict=True):
        first = grads[-1 if back else 0].unflatten(1, (wiring.num_grads, -1))
        first = first[:, list(wiring.products[0].grads), columns]
        by_head = first.unflatten(2, (len(own), -1)).transpose(1, 2).transpose(0, 1).flatten(2)  # (N, B, G*D)
        part = torch.bmm(by_head.float(), own.float()).transpose(0, 1).flatten(1)
        if call.reset is not None:
            part = part.masked_fill(call.reset[-1 if back else 0].unsqueeze(-1) != 0, 0)
        parts.append(part)
    dh_0 = torch.cat(parts, -1)
    return dh_0 if dropped is None else dh_0 * dropped


def _products(call: Launch) -> list[Product]:
    return [stage for stage in call.chain.stages if isinstance(stage, Product)]


def _weights(call: Launch, weights: Mapping[str, Tensor]) -> Tensor | None:
    """Return the weights of all products (N, R*D, D) of N heads, one under the other."""
    parts = [settled(weights[stage.weight]) for stage in _products(call)]
    parts = [part if part.dim() == 3 else part.unsqueeze(0) for part in parts]
    return torch.cat(parts, 1).contiguous() if parts else None


def _vectors(call: Launch, weights: Mapping[str, Tensor]) -> Tensor | None:
    """Return constants, biases of products, gains and shifts (V, H) in fp32."""
    values = [settled(weights[name]).float().reshape(-1) for name in call.wiring.vectors]
    return torch.cat(values) if values else None


def _columns(buffer: Tensor, blocks: tuple[int, ...], hidden: int) -> Tensor:
    """Return blocks of H columns of a buffer (T, B, D*H) as rows (T*B, len(blocks)*H)."""
    rows = buffer.flatten(0, 1)
    if blocks == tuple(range(blocks[0], blocks[-1] + 1)):
        return rows[:, blocks[0] * hidden : (blocks[-1] + 1) * hidden]
    return torch.cat([rows[:, k * hidden : (k + 1) * hidden] for k in blocks], 1)


def _sum_of_products(first: Tensor, second: Tensor) -> Tensor:
    """Return the sums of first * second over their rows (R, N) in fp32."""
    size = max(1, MAX_SUMMED // max(first.shape[1], 1))
    parts = [(a.float() * b.float()).sum(0) for a, b in zip(first.split(size), second.split(size), strict=True)]
    return torch.stack(parts).sum(0)


def _finish(
    call: Launch,
    x: Tensor,
    weights: Mapping[str, Tensor],
    h: Tensor,
    saved: Tensor,
    dropped: Tensor | None,
    grads: Tensor,
    needed: Sequence[bool],
) -> dict[str, Tensor]:
    """Return the gradients of x and of the weights that need one, by name."""
    wiring, hidden = call.wiring, h.shape[2]
    wanted = {name for name, need in zip(call.names, needed[1:], strict=False) if need}
    kept = saved.flatten(2)
    found: dict[str, Tensor] = {}

    def give(name: str, grad: Tensor) -> None:
        found[name] = found[name] + grad if name in found else grad  # stages may share a weight

    flat_x = _columns(grads, tuple(range(wiring.num_x)), hidden)
    if needed[0]:
        found["x"] = (flat_x @ weights["ih"] if "ih" in weights else flat_x).reshape(x.shape)
    if "ih" in wanted:
        source = x if call.mask is None else zero_padding(x, call.mask.unsqueeze(-1).bool())
        give("ih", flat_x.t() @ source.flatten(0, 1))
    if "bias_ih" in wanted and "ih" in weights:
        give("bias_ih", flat_x.sum(0, dtype=torch.float32))
    for stage, numbers in zip(call.chain.stages, wiring.stages, strict=True):
        if isinstance(stage, Product):
            dproduct = _columns(grads, wiring.blocks[stage.out], hidden)
            if stage.weight in wanted:
                multiplied = _multiplied(call, numbers, h, kept, dropped)
                give(stage.weight, _by_heads(dproduct, multiplied, weights[stage.weight]))
            if stage.bias in wanted:
                give(stage.bias, dproduct.sum(0, dtype=torch.float32))
        elif isinstance(stage, Norm):
            dresult = _columns(grads, wiring.blocks[stage.out], hidden)
            if stage.gain in wanted:
                give(stage.gain, _sum_of_products(dresult, _columns(kept, numbers.saved, hidden)))
            if stage.shift in wanted:
                give(stage.shift, dresult.sum(0, dtype=torch.float32))
    return found


def _multiplied(call: Launch, product: Stage, h: Tensor, kept: Tensor, dropped: Tensor | None) -> Tensor:
    """Return what a product multiplied at all steps (T*B, H)."""
    if product.source >= 0:
        multiplied = _columns(kept, (product.source,), h.shape[2]).unflatten(0, h[1:].shape[:2])
    else:
        multiplied = _slots(h, call.reverse)[0]
        if call.reset is not None:
            multiplied = zero_padding(multiplied, call.reset.unsqueeze(-1) == 0)
    return (multiplied if dropped is None or not product.drops else multiplied * dropped).flatten(0, 1)


def _by_heads(dproduct: Tensor, multiplied: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of weights (G*H, H), or (N, G*D, D) of N heads, out of (T*B, G*H) and (T*B, H)."""
    num_heads = len(weight) if weight.dim() == 3 else 1
    if num_heads == 1:
        return dproduct.t() @ multiplied
    _, rows, units = weight.shape
    parts = multiplied.unflatten(1, (num_heads, units)).transpose(0, 1)
    by_gate = dproduct.unflatten(1, (rows // units, num_heads, units)).permute(1, 2, 3, 0)
    return torch.stack([torch.bmm(gate, parts) for gate in by_gate], 1)
