"""What stages.py computes, forward and backward: the launches and the large products around them.

Plain functions of tensors, which engines.py makes an engine.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.cells.chain import Norm, Product
from rnnlab_kernels.launch import is_interpreting
from rnnlab_kernels.schedules.layout import settled, zero_padding
from rnnlab_kernels.schedules.persistent.stages_call import Call
from rnnlab_kernels.schedules.persistent.stages_wiring import Stage, up_to_each_wait

Tensors = Sequence[Tensor]
MAX_SUMMED = 1 << 24  # elements of a product in fp32 that are made at once to be summed


def _launch(kernel: Any, call: Call, batch: int, num_steps: int, backwards: bool, **arguments: Any) -> None:
    """Run all positions: in one launch, or one between two waits where programs cannot wait for each other."""
    grid, steps, like = call.plan.grid, call.steps(backwards), arguments["h_ptr"]
    alone = grid[0] == 1
    barrier = not alone and not is_interpreting()
    arguments |= {
        "barrier_ptr": torch.zeros(grid[1], dtype=torch.int32, device=like.device),
        # A pair of sums of each norm, program and row, for even and odd steps.
        "sums_ptr": like.new_empty(2, call.wiring.num_norms, grid[0], 2, batch, dtype=torch.float32),
        **call.random(),
        **call.constexprs(backwards, like.element_size()),
        **({"launch_cooperative_grid": True} if barrier else {}),
    }
    whole = alone or barrier
    parts = [steps] if whole else up_to_each_wait(steps)
    size = max(num_steps, 1) if whole else 1
    starts = range(0, num_steps, size)
    for first in reversed(starts) if backwards else starts:
        for part in parts:
            kernel[grid](
                T=num_steps,
                B=batch,
                H=like.shape[2],
                first_position=first,
                num_positions=size,
                STEPS=part,
                COMPLETE=part is parts[-1],
                BARRIER=barrier,
                **arguments,
            )


def _slots(buffer: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return the states before and after each step as views of a buffer (T+1, B, ...)."""
    return (buffer[1:], buffer[:-1]) if reverse else (buffer[:-1], buffer[1:])


def walk_forward(call: Call, x: Tensor, tensors: Tensors) -> tuple[list[Tensor], Tensors]:
    """Return output and last states; and h, further states, values of stages and deviations of norms, at all steps.

    Args:
        call: all but tensors.
        x: (T, B, I).
        tensors: weights in the order of `call.names`, then initial states.
    """
    from rnnlab_kernels.schedules.persistent.stages_triton import _stages_fwd_kernel

    weights, state_0 = dict(zip(call.names, tensors, strict=False)), tensors[len(call.names) :]
    num_steps, batch = x.shape[:2]
    padding = None if call.mask is None else call.mask.unsqueeze(-1).bool()
    source = settled(x) if padding is None else zero_padding(x, padding)
    gates_x = linear(source, weights["ih"], weights.get("bias_ih")) if "ih" in weights else source
    h, rest, saved, rstd = kept = [x.new_empty(shape, dtype=dtype) for shape, dtype in kept_by(call, x, state_0)]
    start, last = (num_steps, 0) if call.reverse else (0, num_steps)
    h[start].copy_(state_0[0])
    for k, value in enumerate(state_0[1:]):
        rest[start, :, k].copy_(value)
    dropped = call.dropped(state_0[0])
    _launch(
        _stages_fwd_kernel,
        call,
        batch,
        num_steps,
        False,
        gates_x_ptr=gates_x.contiguous(),
        weight_ptr=_weights(call, weights),
        vectors_ptr=_vectors(call, weights, h),
        mask_ptr=h if call.mask is None else call.mask,
        reset_ptr=h if call.reset is None else call.reset,
        dropped_ptr=h if dropped is None else dropped,
        h_ptr=h,
        rest_ptr=rest,
        saved_ptr=saved,
        rstd_ptr=rstd,
    )
    output = _slots(h, call.reverse)[1]
    # Copies: what is saved is not given out, so that callers may change the results in place.
    output = output.clone() if padding is None else zero_padding(output, padding)
    return [output, h[last].clone(), *(value.to(x.dtype, copy=True) for value in rest[last].unbind(1))], kept


def kept_by(call: Call, x: Tensor, state_0: Tensors) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return shapes and dtypes of what forward writes of all steps, in the order of the table of stages.py."""
    (num_steps, batch), hidden, wiring = x.shape[:2], state_0[0].shape[1], call.wiring
    # Without a backward pass what the step itself reads from memory: in turn, as the sums.
    return [
        ((num_steps + 1, batch, hidden), x.dtype),
        ((num_steps + 1, batch, len(state_0) - 1, hidden), torch.float32),
        ((num_steps if call.keep else 2, batch, wiring.num_saved, hidden), x.dtype),
        ((num_steps if call.keep else 1, wiring.num_norms, batch), torch.float32),
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
    from rnnlab_kernels.schedules.persistent.stages_triton import _stages_bwd_kernel

    (h, rest, saved, rstd), (doutput, *dstate_n) = kept, grads
    weights = dict(zip(call.names, tensors, strict=False))
    (num_steps, batch), hidden = x.shape[:2], h.shape[2]
    dropped = call.dropped(tensors[len(call.names)])
    zeros = torch.zeros(batch, hidden, dtype=torch.float32, device=x.device)
    dstate = torch.stack([zeros if grad is None else grad.float() for grad in dstate_n], 1)
    written = x.new_empty(num_steps, batch, call.wiring.num_grads * hidden)
    _launch(
        _stages_bwd_kernel,
        call,
        batch,
        num_steps,
        True,
        doutput_ptr=torch.zeros_like(h[1:]) if doutput is None else settled(doutput).contiguous(),
        dstate_ptr=dstate,
        weight_ptr=_weights(call, weights),
        vectors_ptr=_vectors(call, weights, h),
        mask_ptr=h if call.mask is None else call.mask,
        reset_ptr=h if call.reset is None else call.reset,
        dropped_ptr=h if dropped is None else dropped,
        h_ptr=h,
        rest_ptr=rest,
        saved_ptr=saved,
        rstd_ptr=rstd,
        grads_ptr=written,
    )
    found = _finish(call, x, weights, h, saved, dropped, written, needed)
    dweights = [
        found[name].to(weights[name].dtype).view_as(weights[name]) if name in found and need else None
        for name, need in zip(call.names, needed[1:], strict=False)
    ]
    needed_0 = needed[1 + len(call.names) :]
    dstate_0 = [grad.to(h.dtype) if need else None for grad, need in zip(dstate.unbind(1), needed_0, strict=True)]
    return [found.get("x"), *dweights, *dstate_0]


def _products(call: Call) -> list[Product]:
    return [stage for stage in call.chain.stages if isinstance(stage, Product)]


def _weights(call: Call, weights: Mapping[str, Tensor]) -> Tensor:
    """Return the weights of all products (R*H, H), one under the other."""
    return torch.cat([settled(weights[stage.weight]) for stage in _products(call)])


def _vectors(call: Call, weights: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Return biases of products, gains and shifts (V, H) in fp32."""
    values = [settled(weights[name]).float().reshape(-1) for name in call.wiring.vectors]
    return torch.cat(values) if values else like.new_empty(0, dtype=torch.float32)


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
    call: Call,
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
                give(stage.weight, dproduct.t() @ _multiplied(call, numbers, h, kept, dropped))
            if stage.bias in wanted:
                give(stage.bias, dproduct.sum(0, dtype=torch.float32))
        elif isinstance(stage, Norm):
            dresult = _columns(grads, wiring.blocks[stage.out], hidden)
            if stage.gain in wanted:
                give(stage.gain, _sum_of_products(dresult, _columns(kept, numbers.saved, hidden)))
            if stage.shift in wanted:
                give(stage.shift, dresult.sum(0, dtype=torch.float32))
    return found


def _multiplied(call: Call, product: Stage, h: Tensor, kept: Tensor, dropped: Tensor | None) -> Tensor:
    """Return what a product multiplied at all steps (T*B, H)."""
    if product.source >= 0:
        return _columns(kept, (product.source,), h.shape[2])
    before = _slots(h, call.reverse)[0]
    if call.reset is not None:
        before = zero_padding(before, call.reset.unsqueeze(-1) == 0)
    return (before if dropped is None else before * dropped).flatten(0, 1)
