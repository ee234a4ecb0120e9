"""The masks of counter.py by Triton: a device function for kernels that make them themselves, and a kernel that stores.

The layout of counters is that of counter.py. No element depends on the block sizes.
"""

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlab_kernels.launch import Block, pointwise_block
from rnnlab_kernels.schedules.noise.counter import ROUNDS, THRESHOLD_BITS, as_int32, key_words

_ROUNDS = tl.constexpr(ROUNDS)
_SHIFT = tl.constexpr(32 - THRESHOLD_BITS)


@triton.jit
def keep_tile(key_0, key_1, stream, step, rows, quads, threshold):
    """Return which elements of a tile are kept, (R, 4*Q) of int1.

    Args:
        key_0, key_1, stream: int32 with the bits of the words.
        step: time index, an int scalar or (R, 1).
        rows: batch indices, (R, 1).
        quads: unit indices divided by 4, (1, Q) of consecutive numbers.
        threshold: in [0, 2^24], from `noise.keep_threshold`.
    """
    zero = tl.zeros_like(rows + quads).to(tl.uint32)
    word_0, word_1, word_2, word_3 = tl.philox_impl(
        zero + quads.to(tl.uint32),
        zero + rows.to(tl.uint32),
        zero + step.to(tl.uint32),
        zero + stream.to(tl.uint32, bitcast=True),
        zero + key_0.to(tl.uint32, bitcast=True),
        zero + key_1.to(tl.uint32, bitcast=True),
        _ROUNDS,
    )
    words = tl.interleave(tl.interleave(word_0, word_2), tl.interleave(word_1, word_3))
    return (words >> _SHIFT).to(tl.int32) >= threshold


@triton.jit(do_not_specialize=["key_0", "key_1", "stream", "first", "threshold"])
def _keep_mask_kernel(
    out_ptr,
    key_0,
    key_1,
    stream,
    first,
    threshold,
    R,
    B,
    H,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    i_r = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    i_q = tl.program_id(1) * (BLOCK_H // 4) + tl.arange(0, BLOCK_H // 4)[None, :]
    i_h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    step = i_r // B + first.to(tl.uint32, bitcast=True)
    kept = keep_tile(key_0, key_1, stream, step, i_r % B, i_q, threshold)
    tl.store(out_ptr + i_r * H + i_h, tl.where(kept, 1.0, 0.0), mask=(i_r < R) & (i_h < H))


def keep_block(rows: int, hidden: int) -> Block:
    """Return the launch over R = N*B rows of H units: whole groups of four units in each block."""
    return pointwise_block(rows, max(hidden, 4))


def fill(out: Tensor, seed: int, stream: int, first: int, threshold: int) -> None:
    """Write the mask into `out` (N, B, H), contiguous, on a device that Triton compiles for."""
    if not out.numel():
        return
    num_steps, batch, hidden = out.shape
    words = (*key_words(seed), stream, first)
    block = keep_block(num_steps * batch, hidden)
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        _keep_mask_kernel[block.grid](
            out, *(as_int32(word) for word in words), threshold, num_steps * batch, batch, hidden, **block.options
        )
