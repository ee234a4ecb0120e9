"""Cells without a recurrent product on a GPU: one launch over the sequence each way, by Triton.

A program owns a tile of (B, H) and walks over time with the states, or backward their gradients, in registers; so are
the constants of the units and the sums of their gradients. Storage is fp32, fp16 or bf16, registers are fp32. Any T, B
and H: edges are masked, all are run-time values. Shapes as in elementwise.py.
"""

# mypy: disable-error-code="assignment,misc"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_triton
from rnnlab_kernels.launch import Block
from rnnlab_kernels.schedules.persistent.elementwise import Call, carried_states

DIFFERENTIABLE = False


@triton.jit
def _states(h_ptr, rest_ptr, o_h, o_rest, H, mask, K: tl.constexpr):
    """Return the K states in fp32; h has memory of its own."""
    state = (tl.load(h_ptr + o_h, mask=mask, other=0.0).to(tl.float32),)
    for k in tl.static_range(K - 1):
        state = state + (tl.load(rest_ptr + o_rest + k * H, mask=mask, other=0.0).to(tl.float32),)
    return state


@triton.jit
def _carried(state, constants, CARRIED: tl.constexpr, C: tl.constexpr):
    values = ()
    for k in tl.static_range(len(CARRIED)):
        values = values + (state[CARRIED[k]],)
    for k in tl.static_range(C):
        values = values + (constants[k],)
    return values


@triton.jit(do_not_specialize=["T"])
def _elementwise_fwd_kernel(
    gates_ptr,
    h_0_ptr,
    rest_0_ptr,
    constants_ptr,
    mask_ptr,
    h_ptr,
    rest_ptr,
    saved_ptr,
    T,
    B,
    H,
    stride_gates_t,
    stride_gates_b,
    stride_t,
    stride_saved_t,
    GATES_FWD: tl.constexpr,
    CARRIED: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    HAS_MASK: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    i_b = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    i_h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    m = (i_b < B) & (i_h < H)
    o_h = i_b * H + i_h
    constants = ()
    for k in tl.static_range(C):
        constants = constants + (tl.load(constants_ptr + k * H + i_h + 0 * i_b, mask=m, other=0.0),)
    state = _states(h_0_ptr, rest_0_ptr, o_h, i_b * (K - 1) * H + i_h, H, m, K)
    for step in range(0, T):
        t = tl.cast(T - 1 - step if REVERSE else step, tl.int64)
        gates = ()
        for k in tl.static_range(G):
            o_gate = t * stride_gates_t + i_b * stride_gates_b + k * H + i_h
            gates = gates + (tl.load(gates_ptr + o_gate, mask=m, other=0.0).to(tl.float32),)
        new, saved = GATES_FWD(gates, _carried(state, constants, CARRIED, C))
        if HAS_MASK:
            inside = tl.load(mask_ptr + t * B + i_b, mask=i_b < B, other=0) != 0
            held = ()
            for k in tl.static_range(K):
                held = held + (tl.where(inside, new[k], state[k]),)
            new = held
        state = new
        tl.store(h_ptr + t * stride_t + o_h, state[0], mask=m)
        for k in tl.static_range(K - 1):
            tl.store(rest_ptr + t * stride_t * (K - 1) + (i_b * (K - 1) + k) * H + i_h, state[k + 1], mask=m)
        for k in tl.static_range(S):
            tl.store(saved_ptr + t * stride_saved_t + (i_b * S + k) * H + i_h, saved[k], mask=m)


@triton.jit(do_not_specialize=["T"])
def _elementwise_bwd_kernel(
    doutput_ptr,
    dstate_ptr,
    saved_ptr,
    h_ptr,
    rest_ptr,
    h_0_ptr,
    rest_0_ptr,
    constants_ptr,
    mask_ptr,
    dgates_ptr,
    dconstants_ptr,
    T,
    B,
    H,
    stride_t,
    GATES_BWD: tl.constexpr,
    CARRIED: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    HAS_MASK: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    i_b = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    i_h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    m = (i_b < B) & (i_h < H)
    o_h, o_rest, o_gates = i_b * H + i_h, i_b * (K - 1) * H + i_h, i_b * G * H + i_h
    zero = tl.zeros((BLOCK_B, BLOCK_H), tl.float32)
    constants, dconstants, dstate = (), (), ()
    for k in tl.static_range(C):
        constants = constants + (tl.load(constants_ptr + k * H + i_h + 0 * i_b, mask=m, other=0.0),)
        dconstants = dconstants + (zero,)
    for k in tl.static_range(K):
        dstate = dstate + (tl.load(dstate_ptr + (i_b * K + k) * H + i_h, mask=m, other=0.0),)
    start = _states(h_0_ptr, rest_0_ptr, o_h, o_rest, H, m, K)
    last = tl.cast(0 if REVERSE else T - 1, tl.int64) * stride_t
    state = _states(h_ptr, rest_ptr, last + o_h, last * (K - 1) + o_rest, H, m, K)
    for step in range(0, T):
        t = tl.cast(step if REVERSE else T - 1 - step, tl.int64)
        before = t + 1 if REVERSE else t - 1
        is_first = step == T - 1
        o_before = before * stride_t
        loaded = _states(h_ptr, rest_ptr, o_before + o_h, o_before * (K - 1) + o_rest, H, m & (step < T - 1), K)
        previous = ()
        for k in tl.static_range(K):
            previous = previous + (tl.where(is_first, start[k], loaded[k]),)
        saved = ()
        for k in tl.static_range(S):
            o_saved = t * stride_t * S + (i_b * S + k) * H + i_h
            saved = saved + (tl.load(saved_ptr + o_saved, mask=m, other=0.0).to(tl.float32),)
        doutput = tl.load(doutput_ptr + t * stride_t + o_h, mask=m, other=0.0).to(tl.float32)
        upstream = (dstate[0] + doutput,)
        for k in tl.static_range(1, K):
            upstream = upstream + (dstate[k],)

        dgates, dcarried = GATES_BWD(upstream, saved, _carried(previous, constants, CARRIED, C), state)

        direct = ()
        for k in tl.static_range(K):
            part = zero
            for j in tl.static_range(len(CARRIED)):
                if CARRIED[j] == k:
                    part = dcarried[j]
            direct = direct + (part,)
        sums = ()
        for k in tl.static_range(C):
            sums = sums + (dcarried[len(CARRIED) + k],)
        if HAS_MASK:  # outside its length a row only hands its state on: the gradient passes it untouched
            inside = tl.load(mask_ptr + t * B + i_b, mask=i_b < B, other=0) != 0
            chosen, kept, added = (), (), ()
            for k in tl.static_range(G):
                chosen = chosen + (tl.where(inside, dgates[k], 0.0),)
            for k in tl.static_range(K):
                kept = kept + (tl.where(inside, direct[k], dstate[k]),)
            for k in tl.static_range(C):
                added = added + (tl.where(inside, sums[k], 0.0),)
            dgates, direct, sums = chosen, kept, added
        for k in tl.static_range(G):
            tl.store(dgates_ptr + t * stride_t * G + o_gates + k * H, dgates[k], mask=m)
        totals = ()
        for k in tl.static_range(C):
            totals = totals + (dconstants[k] + sums[k],)
        dconstants, dstate, state = totals, direct, previous
    for k in tl.static_range(K):
        tl.store(dstate_ptr + (i_b * K + k) * H + i_h, dstate[k], mask=m)
    for k in tl.static_range(C):
        tl.store(dconstants_ptr + (i_b * C + k) * H + i_h, dconstants[k], mask=m)


def elementwise_block(batch: int, hidden: int) -> Block:
    """Return the launch over a (B, H) tile: one element a thread, since time is what takes long."""
    block_h = min(128, 1 << max(hidden - 1, 0).bit_length())
    block_b = 128 // block_h
    grid = (-(-batch // block_b), -(-hidden // block_h))
    return Block(grid, {"BLOCK_B": block_b, "BLOCK_H": block_h, "num_warps": 4, "enable_fp_fusion": True})


def sizes(cell: Cell) -> dict[str, Any]:
    """Return the compile-time sizes of a cell."""
    carried = carried_states(cell)
    return {
        "CARRIED": carried,
        "G": cell.num_gates,
        "K": len(cell.states),
        "C": len(cell.carried) - len(carried),
        "S": len(cell.saved),
    }


def forward(
    call: Call, gates_x: Tensor, h_0: Tensor, rest_0: Tensor, constants: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h (T, B, H), the other states (T, B, K-1, H) and what the cell keeps, (T, B, S, H) or (1, B, S, H)."""
    (num_steps, batch, _), hidden, cell = gates_x.shape, h_0.shape[1], call.cell
    if gates_x.stride(2) != 1:
        gates_x = gates_x.contiguous()
    h = gates_x.new_empty(num_steps, batch, hidden)
    rest = rest_0.new_empty(num_steps, *rest_0.shape)
    saved = gates_x.new_empty(num_steps if call.keep else 1, batch, len(cell.saved), hidden)
    block = elementwise_block(batch, hidden)
    _elementwise_fwd_kernel[block.grid](
        gates_ptr=gates_x,
        h_0_ptr=h_0,
        rest_0_ptr=rest_0,
        constants_ptr=constants,
        mask_ptr=h_0 if call.mask is None else call.mask,
        h_ptr=h,
        rest_ptr=rest,
        saved_ptr=saved,
        T=num_steps,
        B=batch,
        H=hidden,
        stride_gates_t=gates_x.stride(0),
        stride_gates_b=gates_x.stride(1),
        stride_t=batch * hidden,
        stride_saved_t=saved.stride(0) if call.keep else 0,
        GATES_FWD=bind_triton(cell.gates_fwd),
        HAS_MASK=call.mask is not None,
        REVERSE=call.reverse,
        **sizes(cell),
        **block.options,
    )
    return h, rest, saved


def backward(
    call: Call,
    doutput: Tensor,
    dstate: Tensor,
    h: Tensor,
    rest: Tensor,
    saved: Tensor,
    h_0: Tensor,
    rest_0: Tensor,
    constants: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return dgates (T, B, G*H) and the gradients of the constants (B, C, H); leave those of state_0 in `dstate`."""
    (num_steps, batch, hidden), cell = h.shape, call.cell
    dgates = h.new_empty(num_steps, batch, cell.num_gates * hidden)
    dconstants = constants.new_empty(batch, len(constants), hidden)
    block = elementwise_block(batch, hidden)
    _elementwise_bwd_kernel[block.grid](
        doutput_ptr=doutput,
        dstate_ptr=dstate,
        saved_ptr=saved,
        h_ptr=h,
        rest_ptr=rest,
        h_0_ptr=h_0,
        rest_0_ptr=rest_0,
        constants_ptr=constants,
        mask_ptr=h_0 if call.mask is None else call.mask,
        dgates_ptr=dgates,
        dconstants_ptr=dconstants,
        T=num_steps,
        B=batch,
        H=hidden,
        stride_t=batch * hidden,
        GATES_BWD=bind_triton(cell.gates_bwd),
        HAS_MASK=call.mask is not None,
        REVERSE=call.reverse,
        **sizes(cell),
        **block.options,
    )
    return dgates, dconstants
