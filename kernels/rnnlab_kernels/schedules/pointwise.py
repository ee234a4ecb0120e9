"""One fused Triton launch per time step and direction of differentiation for the gate maths of any cell.

The products stay torch.matmul; time, memory and autograd are those of eager.py. Fused are the element-wise operations
of a step: adding the two parts of the gates, activations, new states, saved gates; backward, the gate gradients and the
gradients of the carried states. Storage is fp32, fp16 or bf16, registers are fp32. Any B and H: edges are masked, both
are run-time values. Saved per step: the cell's saved values (S, B, H) in the storage dtype.

B batch, H units, G gates of which the first NUM_MERGED reach the cell as one sum, S saved values.
"""

# mypy: disable-error-code="assignment"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_triton
from rnnlab_kernels.launch import pointwise_block
from rnnlab_kernels.schedules.eager import Tensors, recurrence, working_dtype
from rnnlab_kernels.schedules.layout import Weights


@triton.jit
def _pointwise_fwd_kernel(
    gates_x_ptr,
    gates_h_ptr,
    carried_ptrs,
    state_ptrs,
    saved_ptr,
    B,
    H,
    stride_gates_b,
    stride_carried_b,
    stride_state_b,
    stride_saved_s,
    GATES_FWD: tl.constexpr,
    G: tl.constexpr,
    NUM_MERGED: tl.constexpr,
    S: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    i_b = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    i_h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    m = (i_b < B) & (i_h < H)

    o_gates = i_b * stride_gates_b + i_h
    gates = ()
    for k in tl.static_range(G):
        gate = tl.load(gates_x_ptr + o_gates + k * H, mask=m, other=0.0).to(tl.float32)
        if NUM_MERGED < G and k < NUM_MERGED:
            gate += tl.load(gates_h_ptr + o_gates + k * H, mask=m, other=0.0).to(tl.float32)
        gates = gates + (gate,)
    for k in tl.static_range(NUM_MERGED, G):
        gates = gates + (tl.load(gates_h_ptr + o_gates + k * H, mask=m, other=0.0).to(tl.float32),)
    carried = ()
    for k in tl.static_range(len(carried_ptrs)):
        value = tl.load(carried_ptrs[k] + i_b * stride_carried_b + i_h, mask=m, other=0.0).to(tl.float32)
        carried = carried + (value,)

    state, saved = GATES_FWD(gates, carried)

    for k in tl.static_range(len(state_ptrs)):
        tl.store(state_ptrs[k] + i_b * stride_state_b + i_h, state[k], mask=m)
    for k in tl.static_range(S):
        tl.store(saved_ptr + k * stride_saved_s + i_b * H + i_h, saved[k], mask=m)


@triton.jit
def _pointwise_bwd_kernel(
    dstate_ptrs,
    saved_ptr,
    carried_ptrs,
    state_ptrs,
    dgates_h_ptr,
    dsplit_x_ptr,
    dcarried_ptrs,
    B,
    H,
    stride_dstate_b,
    stride_saved_s,
    stride_carried_b,
    stride_state_b,
    stride_dgates_b,
    stride_dsplit_b,
    GATES_BWD: tl.constexpr,
    G: tl.constexpr,
    NUM_MERGED: tl.constexpr,
    S: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    i_b = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    i_h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    m = (i_b < B) & (i_h < H)

    dstate = ()
    for k in tl.static_range(len(dstate_ptrs)):
        value = tl.load(dstate_ptrs[k] + i_b * stride_dstate_b + i_h, mask=m, other=0.0).to(tl.float32)
        dstate = dstate + (value,)
    saved = ()
    for k in tl.static_range(S):
        value = tl.load(saved_ptr + k * stride_saved_s + i_b * H + i_h, mask=m, other=0.0).to(tl.float32)
        saved = saved + (value,)
    carried = ()
    for k in tl.static_range(len(carried_ptrs)):
        value = tl.load(carried_ptrs[k] + i_b * stride_carried_b + i_h, mask=m, other=0.0).to(tl.float32)
        carried = carried + (value,)
    state = ()
    for k in tl.static_range(len(state_ptrs)):
        value = tl.load(state_ptrs[k] + i_b * stride_state_b + i_h, mask=m, other=0.0).to(tl.float32)
        state = state + (value,)

    dgates, dcarried = GATES_BWD(dstate, saved, carried, state)

    o_gates = i_b * stride_dgates_b + i_h
    for k in tl.static_range(NUM_MERGED):
        tl.store(dgates_h_ptr + o_gates + k * H, dgates[k], mask=m)
    for k in tl.static_range(NUM_MERGED, G):
        tl.store(dgates_h_ptr + o_gates + k * H, dgates[G + k - NUM_MERGED], mask=m)
        tl.store(dsplit_x_ptr + i_b * stride_dsplit_b + i_h + (k - NUM_MERGED) * H, dgates[k], mask=m)
    for k in tl.static_range(len(dcarried_ptrs)):
        tl.store(dcarried_ptrs[k] + i_b * H + i_h, dcarried[k], mask=m)


class PointwiseStep:
    """Gate maths by one Triton launch per step: what `schedules.eager.recurrence` calls at each time index."""

    differentiable = False

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def fwd(self, gates_x: Tensor, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        batch, hidden = out[0].shape
        num_saved = len(self.cell.saved)
        saved = out[0].new_empty(num_saved, batch, hidden)
        block = pointwise_block(batch, hidden)
        _pointwise_fwd_kernel[block.grid](
            gates_x_ptr=gates_x,
            gates_h_ptr=gates_x if gates_h is None else gates_h,
            carried_ptrs=carried,
            state_ptrs=out,
            saved_ptr=saved,
            B=batch,
            H=hidden,
            stride_gates_b=gates_x.stride(0),
            stride_carried_b=carried[0].stride(0) if carried else 0,
            stride_state_b=out[0].stride(0),
            stride_saved_s=saved.stride(0),
            GATES_FWD=bind_triton(self.cell.gates_fwd),
            G=self.cell.num_gates,
            NUM_MERGED=self.cell.num_merged,
            S=num_saved,
            **block.options,
        )
        return (saved,) if num_saved else ()

    def views(self, buffer: Tensor, num_gates: int) -> Sequence[Tensor]:
        return buffer.unbind(0)

    def bwd(
        self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dgates_h: Tensor, dsplit_x: Any
    ) -> Tensors:
        batch, hidden = state[0].shape
        dstate = tuple(grad.contiguous() for grad in dstate)  # an upstream gradient may be expanded or transposed
        dcarried = tuple(dstate[0].new_empty(batch, hidden) for _ in self.cell.carried)
        block = pointwise_block(batch, hidden)
        _pointwise_bwd_kernel[block.grid](
            dstate_ptrs=dstate,
            saved_ptr=saved[0] if saved else dgates_h,
            carried_ptrs=carried,
            state_ptrs=state,
            dgates_h_ptr=dgates_h,
            dsplit_x_ptr=dgates_h if dsplit_x is None else dsplit_x,
            dcarried_ptrs=dcarried,
            B=batch,
            H=hidden,
            stride_dstate_b=dstate[0].stride(0),
            stride_saved_s=saved[0].stride(0) if saved else 0,
            stride_carried_b=carried[0].stride(0) if carried else 0,
            stride_state_b=state[0].stride(0),
            stride_dgates_b=dgates_h.stride(0),
            stride_dsplit_b=0 if dsplit_x is None else dsplit_x.stride(0),
            GATES_BWD=bind_triton(self.cell.gates_bwd),
            G=self.cell.num_gates,
            NUM_MERGED=self.cell.num_merged,
            S=len(self.cell.saved),
            **block.options,
        )
        return dcarried


def pointwise(
    cell: Cell, x: Tensor, state_0: Tensors, weights: Weights, mask: Tensor | None = None, *, reverse: bool = False
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction with fused gate kernels. Arguments and results as in `schedules.eager.eager`.

    `launch.supported` says which inputs this takes; it is the caller's to ask.
    """
    assert working_dtype(x.dtype) == torch.float32
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        return recurrence(PointwiseStep(cell), x, state_0, weights, mask, reverse=reverse)
