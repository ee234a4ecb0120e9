"""One fused Triton launch per time step and direction of differentiation for the gate maths of any cell.

The products stay torch.matmul; time, norms, memory and autograd are those of run.py. Fused are the element-wise
operations of a step: adding the two parts of the gates, activations, new states, saved gates; backward, the gate
gradients and the gradients of the carried states. Storage is fp32, fp16 or bf16, registers are fp32. Any B and H: edges
are masked, both are run-time values. Saved per step: the cell's saved values (S, B, H) in the storage dtype.

B batch, H units, G gates of which the first NUM_MERGED reach the cell as one sum, S saved values.
"""

# mypy: disable-error-code="assignment"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_triton
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.launch import pointwise_block
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.stepwise.backward import run_backward
from rnnlab_kernels.schedules.stepwise.forward import run_forward
from rnnlab_kernels.schedules.stepwise.kit_torch import TorchStep
from rnnlab_kernels.schedules.stepwise.run import Tensors, recurrence, working_dtype


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
    stride_gates_h_b,
    stride_saved_s,
    GATES_FWD: tl.constexpr,
    HAS_BOTH: tl.constexpr,
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
    o_gates_h = i_b * stride_gates_h_b + i_h
    gates = ()
    for k in tl.static_range(G):
        gate = tl.load(gates_x_ptr + o_gates + k * H, mask=m, other=0.0).to(tl.float32)
        if HAS_BOTH and k < NUM_MERGED:
            gate += tl.load(gates_h_ptr + o_gates_h + k * H, mask=m, other=0.0).to(tl.float32)
        gates = gates + (gate,)
    for k in tl.static_range(NUM_MERGED, G):
        gates = gates + (tl.load(gates_h_ptr + o_gates_h + k * H, mask=m, other=0.0).to(tl.float32),)
    carried = ()
    for k in tl.static_range(len(carried_ptrs)):
        value = tl.load(carried_ptrs[k] + i_b * H + i_h, mask=m, other=0.0).to(tl.float32)
        carried = carried + (value,)

    state, saved = GATES_FWD(gates, carried)

    for k in tl.static_range(len(state_ptrs)):
        tl.store(state_ptrs[k] + i_b * H + i_h, state[k], mask=m)
    for k in tl.static_range(S):
        tl.store(saved_ptr + k * stride_saved_s + i_b * H + i_h, saved[k], mask=m)


@triton.jit
def _pointwise_bwd_kernel(
    dstate_ptrs,
    saved_ptr,
    carried_ptrs,
    state_ptrs,
    dx_ptr,
    dh_ptr,
    dcarried_ptrs,
    B,
    H,
    stride_saved_s,
    stride_dx_b,
    stride_dh_b,
    GATES_BWD: tl.constexpr,
    HAS_DX: tl.constexpr,
    HAS_DH: tl.constexpr,
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
        value = tl.load(dstate_ptrs[k] + i_b * H + i_h, mask=m, other=0.0).to(tl.float32)
        dstate = dstate + (value,)
    saved = ()
    for k in tl.static_range(S):
        value = tl.load(saved_ptr + k * stride_saved_s + i_b * H + i_h, mask=m, other=0.0).to(tl.float32)
        saved = saved + (value,)
    carried = ()
    for k in tl.static_range(len(carried_ptrs)):
        value = tl.load(carried_ptrs[k] + i_b * H + i_h, mask=m, other=0.0).to(tl.float32)
        carried = carried + (value,)
    state = ()
    for k in tl.static_range(len(state_ptrs)):
        value = tl.load(state_ptrs[k] + i_b * H + i_h, mask=m, other=0.0).to(tl.float32)
        state = state + (value,)

    dgates, dcarried = GATES_BWD(dstate, saved, carried, state)

    if HAS_DX:
        for k in tl.static_range(G):
            tl.store(dx_ptr + i_b * stride_dx_b + i_h + k * H, dgates[k], mask=m)
    if HAS_DH:
        for k in tl.static_range(NUM_MERGED):
            tl.store(dh_ptr + i_b * stride_dh_b + i_h + k * H, dgates[k], mask=m)
        for k in tl.static_range(NUM_MERGED, G):
            tl.store(dh_ptr + i_b * stride_dh_b + i_h + k * H, dgates[G + k - NUM_MERGED], mask=m)
    for k in tl.static_range(len(dcarried_ptrs)):
        tl.store(dcarried_ptrs[k] + i_b * H + i_h, dcarried[k], mask=m)


class PointwiseStep:
    """Gate maths by one Triton launch; see `recurrence.Step`."""

    differentiable = False
    keeps_tensors = False
    run_forward, run_backward = staticmethod(run_forward), staticmethod(run_backward)
    norm_keeps, norm_fwd, norm_bwd = TorchStep.norm_keeps, TorchStep.norm_fwd, TorchStep.norm_bwd

    def __init__(self, cell: Cell, first: int) -> None:
        self.cell, self.first = cell, first

    def fwd(self, gates_x: Tensor | None, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        batch, hidden = out[0].shape
        num_saved = len(self.cell.saved)
        storage = gates_h if gates_x is None else gates_x
        assert storage is not None
        saved = storage.new_empty(num_saved, batch, hidden)
        has_both = gates_x is not None and gates_h is not None
        first_x = storage if gates_x is None else self._narrow(gates_x, hidden)
        first_h = storage if gates_h is None else gates_h
        block = pointwise_block(batch, hidden)
        _pointwise_fwd_kernel[block.grid](
            gates_x_ptr=first_x,
            gates_h_ptr=first_h,
            carried_ptrs=carried,
            state_ptrs=out,
            saved_ptr=saved,
            B=batch,
            H=hidden,
            stride_gates_b=first_x.stride(0),
            stride_gates_h_b=first_h.stride(0),
            stride_saved_s=saved.stride(0),
            GATES_FWD=bind_triton(self.cell.gates_fwd),
            HAS_BOTH=has_both,
            G=self.cell.num_gates,
            NUM_MERGED=self.cell.num_merged,
            S=num_saved,
            **block.options,
        )
        return (saved,) if num_saved else ()

    @staticmethod
    def keeps(cell: Cell, batch: int, hidden: int, dtype: torch.dtype) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [((len(cell.saved), batch, hidden), dtype)] if cell.saved else []

    def _narrow(self, gates: Tensor, hidden: int) -> Tensor:
        return gates.narrow(-1, self.first * hidden, self.cell.num_gates * hidden)

    def views(self, buffer: Tensor, hidden: int) -> Sequence[Tensor]:
        # A recurrent part holds these gates alone.
        alone = buffer.shape[-1] == self.cell.num_gates * hidden
        return (buffer if alone else self._narrow(buffer, hidden)).unbind(0)

    def bwd(
        self,
        dstate: Tensors,
        saved: Tensors,
        carried: Tensors,
        state: Tensors,
        dx: Tensor | None,
        dh: Tensor | None,
    ) -> Tensors:
        assert self.cell.gates_bwd is not None
        batch, hidden = state[0].shape
        dstate = tuple(grad.contiguous() for grad in dstate)  # an upstream gradient may be expanded or transposed
        dcarried = tuple(dstate[0].new_empty(batch, hidden) for _ in carried)
        into_x, into_h = dh if dx is None else dx, dx if dh is None else dh
        assert into_x is not None and into_h is not None
        block = pointwise_block(batch, hidden)
        _pointwise_bwd_kernel[block.grid](
            dstate_ptrs=dstate,
            saved_ptr=saved[0] if saved else into_x,
            carried_ptrs=carried,
            state_ptrs=state,
            dx_ptr=into_x,
            dh_ptr=into_h,
            dcarried_ptrs=dcarried,
            B=batch,
            H=hidden,
            stride_saved_s=saved[0].stride(0) if saved else 0,
            stride_dx_b=into_x.stride(0),
            stride_dh_b=into_h.stride(0),
            GATES_BWD=bind_triton(self.cell.gates_bwd),
            HAS_DX=dx is not None,
            HAS_DH=dh is not None,
            G=self.cell.num_gates,
            NUM_MERGED=self.cell.num_merged,
            S=len(self.cell.saved),
            **block.options,
        )
        return dcarried


def pointwise(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction with fused gate kernels. Arguments and results as in `kit_torch.eager`.

    `launch.supported` says which inputs this takes; it is the caller's to ask.
    """
    assert working_dtype(x.dtype) == torch.float32
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        return recurrence("pointwise", cell, x, state_0, weights, mask, reverse=reverse, additions=additions)
