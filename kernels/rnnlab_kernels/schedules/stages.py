"""The whole sequence in one Triton launch for steps of several stages, which exchange values within the step.

Layer norms, whose statistics are those of all units, and the GRU with its reset gate before the second product. The
kernels are in stages_triton.py, a chain as the numbers they unroll comes from stages_wiring.py, the choice of tiles is
`plan_stages` below. Outside the launch, as products and sums over T*B rows: the input part of the gates before it; dx
and the gradients of all weights after it. Inside, backward only writes gradients of pre-activations.

    norm, forward     z = (a - mean(a)) * rstd    y = gain * z + shift    rstd = 1 / sqrt(var(a) + EPS), of each row
    norm, backward    u = gain * dy               da = rstd * (u - mean(u) - z * mean(u * z))
    after the loop    dgain = sum of dy * z       dshift = sum of dy, over T*B rows

Where one program has all units of its rows, no program waits for another and a norm's sums are those of a tile. Where
several share them, all wait at a barrier in a cooperative launch: after each step, after each norm's partial sums and
before each product with a value of the same step. Triton's interpreter runs one program after the other: there a launch
covers what lies between two waits.

T time, B batch, H units, K states, S and D blocks of columns (stages_wiring.py), N norms. Saved for backward:

| tensor | shape | dtype |
| --- | --- | --- |
| x, weights, initial states, mask, reset | as given | as given |
| h, its initial value included | (T+1, B, H) | dtype of x |
| further states, likewise | (T+1, B, K-1, H) | fp32 |
| what gate updates keep, normalised values, values that other stages read | (T, B, S, H) | dtype of x |
| 1 / standard deviation of norms | (T, N, B) | fp32 |

A step outside the mask holds its states in these, too; the output is zero there.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.cells import Cell, bind_triton
from rnnlab_kernels.cells.chain import EPS, Chain, Norm, Product
from rnnlab_kernels.launch import H200, MIN_TILE, SequencePlan, is_interpreting
from rnnlab_kernels.schedules.layout import Weights, named_weights, settled, zero_padding
from rnnlab_kernels.schedules.noise import as_int32, keep_threshold, key_words
from rnnlab_kernels.schedules.stages_wiring import (
    Stage,
    Wiring,
    backward_steps,
    forward_steps,
    num_waits,
    product_tiles,
    refusal,
    up_to_each_wait,
    wire,
)
from rnnlab_kernels.schedules.walk import PLAIN, Noise, Walk, draw_masks

Tensors = tuple[Tensor, ...]
MAX_SUMMED = 1 << 24  # elements of a product in fp32 that are made at once to be summed


class Call(NamedTuple):
    """One call: all that is not differentiated. `mask` and `reset` are (T, B) bytes or None."""

    chain: Chain
    names: tuple[str, ...]  # of the weights
    plan: SequencePlan
    reverse: bool
    mask: Tensor | None
    reset: Tensor | None
    noise: Noise | None
    keep: bool

    @property
    def wiring(self) -> Wiring:
        noise = self.noise
        drops_candidate = noise is not None and noise.training and noise.candidate > 0
        return wire(self.chain, self.names, drops_candidate, self.zone > 0)

    @property
    def zone(self) -> int:
        """0 without zoneout, 1 where it is drawn, 2 in expectation."""
        noise = self.noise
        if noise is None or not any(noise.zoneout):
            return 0
        return 1 if noise.training else 2

    def dropped(self, h_0: Tensor) -> Tensor | None:
        """Return the mask (B, H) of what a step multiplies of the state before, scaled, or None."""
        noise = self.noise
        if noise is None or not noise.training or not noise.recurrent:
            return None
        only = Walk(noise=noise._replace(candidate=0.0, zoneout=()))
        return draw_masks(only, self.chain, (h_0,) * self.chain.num_states, 1).sources["h_prev"]

    def random(self) -> dict[str, Any]:
        """Return the arguments of both kernels from which they make masks."""
        noise = self.noise or Noise(0)
        words = [as_int32(word) for word in key_words(int(noise.seed))]
        rates = [*noise.zoneout, 0.0, 0.0][:2]
        return {
            "key_0": words[0],
            "key_1": words[1],
            "first_step": noise.first,
            "candidate_threshold": keep_threshold(noise.candidate),
            "candidate_scale": 1.0 if noise.candidate == 1 else 1 / (1 - noise.candidate),
            **{f"zoneout_{k}": float(keep_threshold(p)) if noise.training else 1 - p for k, p in enumerate(rates)},
        }

    def constexprs(self, backwards: bool, itemsize: int) -> dict[str, Any]:
        """Return the compile-time arguments of a kernel but for those of the launch."""
        wiring, slices, options = self.wiring, self.plan.grid[0], self.plan.options
        splits = _num_splits(options, itemsize)
        maths = [bind_triton(cell.gates_bwd if backwards else cell.gates_fwd) for cell in wiring.cells]
        own = {"D": wiring.num_grads} if backwards else {"X": wiring.num_x, "EPS": EPS, "KEEP": self.keep}
        return {
            # Apart and not in a tuple, of which Triton's cache would know names alone and not what they compute.
            "MATHS_0": maths[0],
            "MATHS_1": maths[-1],
            "PRODUCTS": wiring.products,
            "TILES": product_tiles(wiring, options["UNITS"], options["NUM_K"], splits, backwards),
            "NEW": wiring.new,
            "KEPT": wiring.kept,
            "S": wiring.num_saved,
            "N": wiring.num_norms,
            "WAITS": num_waits(self.steps(backwards)),
            "HAS_MASK": self.mask is not None,
            "HAS_RESET": self.reset is not None,
            "HAS_DROPPED": self.noise is not None and self.noise.training and self.noise.recurrent > 0,
            "ZONE": self.zone,
            "REVERSE": self.reverse,
            "PROGRAMS": 1 << (slices - 1).bit_length(),
            **own,
            **{key: value for key, value in options.items() if key != "NUM_K"},
        }

    def steps(self, backwards: bool) -> tuple[Stage, ...]:
        """Return what a program does in each step."""
        return (backward_steps if backwards else forward_steps)(self.wiring, self.plan.grid[0] == 1)


def supports(chain: Chain) -> tuple[bool, str]:
    """Return whether the kernels run a chain, and the reason in a few words."""
    reason = refusal(chain)
    return reason is None, reason or "several products or norms in a step, all as wide as the state"


def _num_splits(options: Mapping[str, Any], itemsize: int) -> int:
    """Return by how many the blocks of the narrowest product are multiplied side by side: tensor cores' warps."""
    return 8 if itemsize == 2 or options["PRECISION"] == "tf32" else 1


def plan_stages(
    chain: Chain, batch: int, hidden: int, itemsize: int, sm_count: int, smem_bytes: int, tf32: bool = False
) -> tuple[SequencePlan | None, str]:
    """Return the tiles of the kernels for these sizes, None where they do not fit, and the reason in words.

    As `launch.plan_sequence` does: slices of all weights of a step stay on the chip, on as few programs along units as
    they fit, and all programs of a grid that waits are on the chip at once, one a multiprocessor. `tf32` says how fp32
    values are multiplied.
    """
    possible, reason = supports(chain)
    if not possible:
        return None, reason
    wiring = wire(chain, ())
    products = wiring.products
    if batch * hidden * max(wiring.num_grads, wiring.num_saved) >= 1 << 31:
        return None, "offsets within a step are 32 bits wide"
    rows, most = sum(stage.rows for stage in products), max(stage.rows for stage in products)
    # fp32 products are no tensor core's, odd sizes are read element by element: larger blocks would spill registers.
    # So they would in slices of four gates of so many units.
    widest = MIN_TILE if itemsize == 4 or hidden % 16 or most * hidden >= 4096 else 64 if len(products) > 1 else 128
    block_k = min(widest, max(MIN_TILE, 1 << max(hidden - 1, 0).bit_length()))
    options: dict[str, Any] = {
        "NUM_K": -(-hidden // block_k),
        "BLOCK_K": block_k,
        "PRECISION": "tf32" if tf32 else "ieee",
        "num_warps": 8,
        "num_stages": 1,
        "maxnreg": 240 if itemsize == 4 or most * hidden >= 4096 else 255,
        "enable_fp_fusion": True,
    }
    if itemsize == 4 and hidden % 16 and not tf32:  # many single elements: more warps of fewer registers
        options |= {"num_warps": 16, "maxnreg": 128}
    # More rows of weights, in programs that wait, and registers spill: so the compiler says (stages_variants.py).
    most_rows = 256 if itemsize == 4 else 128 if len(products) == 1 else 64
    for block_b in (16, 32, 64, 128):
        num_tiles = -(-batch // block_b)
        for units in (128, 64, 32, MIN_TILE):
            num_slices = -(-hidden // units)
            options |= {"UNITS": units, "BLOCK_B": block_b}
            too_wide = units > MIN_TILE and units >= 2 * hidden or units > 32 and hidden % 16
            too_wide = too_wide or num_slices > 1 and units > MIN_TILE and units * max(rows, 4) > most_rows
            too_wide = too_wide or units * most * block_b > 1 << 14
            if too_wide or _shared_bytes(wiring, options, itemsize) > smem_bytes:
                continue
            if num_slices == 1 or num_slices * num_tiles <= sm_count:
                plan = SequencePlan((num_slices, num_tiles, 1), most, options)
                return plan, f"weights on the chip, {num_slices} programs a batch tile of {block_b} rows"
            break  # more programs would not help; larger tiles of rows might
    return None, f"the recurrent weights of {hidden} units do not fit on {sm_count} multiprocessors with {batch} rows"


def _shared_bytes(wiring: Wiring, options: Mapping[str, Any], itemsize: int) -> int:
    """Return the shared memory a program needs: all weights, and what is multiplied or on its way to another layout."""
    units, block_b, block_k = options["UNITS"], options["BLOCK_B"], options["BLOCK_K"]
    needed = 0
    for backwards in (False, True):
        held, passing = 0, 0
        splits = _num_splits(options, itemsize)
        all_tiles = product_tiles(wiring, units, options["NUM_K"], splits, backwards)
        for stage, tiles in zip(wiring.products, all_tiles, strict=True):
            rows = units if backwards else units * stage.rows
            held += len(tiles.numbers) * tiles.split * rows * block_k * itemsize
            passing = max(passing, tiles.split * block_b * max(block_k * itemsize, 4 * rows))
        needed = max(needed, held + passing)
    return needed + (1 << 11)


def plan_for(
    chain: Chain, walk: Walk, batch: int, hidden: int, dtype: torch.dtype, device: torch.device
) -> tuple[SequencePlan | None, str]:
    """Return the tiles for a chain on a device, None where the schedule cannot run it, and the reason in a few words.

    Without a GPU plans are for an H200.
    """
    if walk.clip is not None:
        return None, "clipping between steps takes the pointwise schedule"
    (sm_count, smem_bytes), tf32 = H200, False
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        sm_count, smem_bytes = properties.multi_processor_count, properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
        tf32 = dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    return plan_stages(chain, batch, hidden, dtype.itemsize, sm_count, smem_bytes, tf32)


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
    size = num_steps if whole else 1
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


class _Stages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> Tensors:
        from rnnlab_kernels.schedules.stages_triton import _stages_fwd_kernel

        ctx.set_materialize_grads(False)
        weights = dict(zip(call.names, tensors, strict=False))
        state_0 = tensors[len(call.names) :]
        (num_steps, batch), hidden, wiring = x.shape[:2], state_0[0].shape[1], call.wiring
        padding = None if call.mask is None else call.mask.unsqueeze(-1).bool()
        source = settled(x) if padding is None else zero_padding(x, padding)
        gates_x = linear(source, weights["ih"], weights.get("bias_ih")) if "ih" in weights else source
        h = x.new_empty(num_steps + 1, batch, hidden)
        rest = x.new_empty(num_steps + 1, batch, len(state_0) - 1, hidden, dtype=torch.float32)
        start, last = (num_steps, 0) if call.reverse else (0, num_steps)
        h[start].copy_(state_0[0])
        for k, value in enumerate(state_0[1:]):
            rest[start, :, k].copy_(value)
        # Without a backward pass what the step itself reads from memory: in turn, as the sums.
        saved = x.new_empty(num_steps if call.keep else 2, batch, wiring.num_saved, hidden)
        rstd = x.new_empty(num_steps if call.keep else 1, wiring.num_norms, batch, dtype=torch.float32)
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
        # Masks are saved as tensors are, so that autograd notices when one was written into.
        ctx.call = call._replace(mask=None, reset=None)
        if call.keep:
            ctx.save_for_backward(call.mask, call.reset, x, *tensors, h, rest, saved, rstd)
        output = _slots(h, call.reverse)[1]
        output = output.clone() if padding is None else zero_padding(output, padding)
        return output, h[last].clone(), *(value.to(x.dtype, copy=True) for value in rest[last].unbind(1))

    @staticmethod
    def backward(ctx: Any, doutput: Tensor | None, *dstate_n: Tensor | None) -> tuple[Tensor | None, ...]:
        from rnnlab_kernels.schedules.stages_triton import _stages_bwd_kernel

        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
                'build the module with backend="reference"'
            )
        mask, reset, x, *tensors, h, rest, saved, rstd = ctx.saved_tensors
        call: Call = ctx.call._replace(mask=mask, reset=reset)
        weights = dict(zip(call.names, tensors, strict=False))
        (num_steps, batch), hidden = x.shape[:2], h.shape[2]
        dropped = call.dropped(tensors[len(call.names)])
        zeros = torch.zeros(batch, hidden, dtype=torch.float32, device=x.device)
        dstate = torch.stack([zeros if grad is None else grad.float() for grad in dstate_n], 1)
        grads = x.new_empty(num_steps, batch, call.wiring.num_grads * hidden)
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
            mask_ptr=h if mask is None else mask,
            reset_ptr=h if reset is None else reset,
            dropped_ptr=h if dropped is None else dropped,
            h_ptr=h,
            rest_ptr=rest,
            saved_ptr=saved,
            rstd_ptr=rstd,
            grads_ptr=grads,
        )
        needed = ctx.needs_input_grad[1:]
        found = _finish(call, x, weights, h, saved, dropped, grads, needed)
        dweights = [
            found[name].to(weights[name].dtype).view_as(weights[name]) if name in found and need else None
            for name, need in zip(call.names, needed[1:], strict=False)
        ]
        needed_0 = needed[1 + len(call.names) :]
        dstate_0 = [grad.to(h.dtype) if need else None for grad, need in zip(dstate.unbind(1), needed_0, strict=True)]
        return (None, found.get("x"), *dweights, *dstate_0)


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
    needed: tuple[bool, ...],
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


def _bytes(flags: Tensor | None) -> Tensor | None:
    """Return (T, B, 1) booleans as (T, B) bytes."""
    return None if flags is None else flags.expand(-1, -1, 1).squeeze(-1).contiguous().view(torch.uint8)


def stages(
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
        plan: tiles; those of `plan_stages` unless given.

    Raises:
        ValueError: the step is of another kind, the walk has clipping, or the recurrent weights do not fit on the chip.
    """
    chain, named = named_weights(cell, weights)
    planned, reason = plan_for(chain, walk, x.shape[1], state_0[0].shape[1], x.dtype, x.device)
    plan = plan or planned
    if planned is None or plan is None:
        raise ValueError(f"the schedule of several stages cannot run this: {reason}")
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *named.values(), *state_0))
    call = Call(chain, tuple(named), plan, reverse, _bytes(mask), _bytes(walk.reset), walk.noise, keep)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        output, *state_n = _Stages.apply(call, x, *named.values(), *state_0)
    return output, tuple(state_n)
