"""Linear scan on a GPU: associative scans over chunks of time, with a carry from chunk to chunk, by Triton.

One program owns BLOCK_N units and goes over time in chunks of BLOCK_T steps. The scan of a chunk does not wait for the
carry, which enters last: h = A * carry + B, where (A, B) composes all steps of the chunk so far. Storage is fp32, fp16,
bf16 or complex64 (pairs of fp32), registers are fp32. Any T, B and H: edges are masked, and a step beyond the end is
the identity (1, 0). Arrays are (T, R, N) as in by_numba.py, N contiguous.
"""

# mypy: disable-error-code="assignment"
# The checker does not know that branches on compile-time constants are resolved before types are.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlab_kernels.launch import Block
from rnnlab_kernels.schedules.layout import rows


@triton.jit
def _load(ptr, offset, mask, other, COMPLEX: tl.constexpr):
    """Return (value,) or (real, imaginary) in fp32; `other`, a real number, stands where the mask is off."""
    if COMPLEX:
        pair = tl.load(ptr + 2 * offset[:, :, None] + tl.arange(0, 2)[None, None, :], mask=mask[:, :, None], other=0.0)
        real, imag = tl.split(pair)
        return tl.where(mask, real, other), imag
    else:
        return (tl.load(ptr + offset, mask=mask, other=other).to(tl.float32),)


@triton.jit
def _store(ptr, offset, value, mask, COMPLEX: tl.constexpr):
    if COMPLEX:
        pair = tl.join(value[0], value[1])
        tl.store(ptr + 2 * offset[:, :, None] + tl.arange(0, 2)[None, None, :], pair, mask=mask[:, :, None])
    else:
        tl.store(ptr + offset, value[0], mask=mask)


@triton.jit
def _cut(x, a, COMPLEX: tl.constexpr):
    """Return x, 0 where a is 0."""
    if COMPLEX:
        cut = (a[0] == 0.0) & (a[1] == 0.0)
        return tl.where(cut, 0.0, x[0]), tl.where(cut, 0.0, x[1])
    else:
        return (tl.where(a[0] == 0.0, 0.0, x[0]),)


@triton.jit
def _times_conj(x, y, COMPLEX: tl.constexpr):
    if COMPLEX:
        return x[0] * y[0] + x[1] * y[1], x[1] * y[0] - x[0] * y[1]
    else:
        return (x[0] * y[0],)


@triton.jit
def _compose(a_1, b_1, a_2, b_2):
    cut = a_2 == 0.0  # nothing of what was before is left, be it infinite or NaN
    return a_2 * tl.where(cut, 0.0, a_1), a_2 * tl.where(cut, 0.0, b_1) + b_2


@triton.jit
def _compose_complex(ar_1, ai_1, br_1, bi_1, ar_2, ai_2, br_2, bi_2):
    cut = (ar_2 == 0.0) & (ai_2 == 0.0)
    ar = tl.where(cut, 0.0, ar_2 * ar_1 - ai_2 * ai_1)
    ai = tl.where(cut, 0.0, ar_2 * ai_1 + ai_2 * ar_1)
    br = tl.where(cut, br_2, ar_2 * br_1 - ai_2 * bi_1 + br_2)
    bi = tl.where(cut, bi_2, ar_2 * bi_1 + ai_2 * br_1 + bi_2)
    return ar, ai, br, bi


@triton.jit
def _scan_chunk(a, b, carry, COMPLEX: tl.constexpr, BLOCK_T: tl.constexpr):
    """Return h at all steps of a chunk (BLOCK_T, BLOCK_N), and at its last (1, BLOCK_N)."""
    is_last = (tl.arange(0, BLOCK_T) == BLOCK_T - 1)[:, None]
    if COMPLEX:
        ar, ai, br, bi = tl.associative_scan((a[0], a[1], b[0], b[1]), 0, _compose_complex)
        cut = (ar == 0.0) & (ai == 0.0)
        real = tl.where(cut, br, ar * carry[0] - ai * carry[1] + br)
        imag = tl.where(cut, bi, ar * carry[1] + ai * carry[0] + bi)
        last_real = tl.sum(tl.where(is_last, real, 0.0), axis=0)[None, :]
        last_imag = tl.sum(tl.where(is_last, imag, 0.0), axis=0)[None, :]
        return (real, imag), (last_real, last_imag)
    else:
        a_all, b_all = tl.associative_scan((a[0], b[0]), 0, _compose)
        h = a_all * tl.where(a_all == 0.0, 0.0, carry[0]) + b_all
        return (h,), (tl.sum(tl.where(is_last, h, 0.0), axis=0)[None, :],)


@triton.jit(do_not_specialize=["T"])
def _scan_fwd_kernel(
    a_ptr,
    b_ptr,
    h_0_ptr,
    h_ptr,
    T,
    N,
    stride_t,
    stride_r,
    stride_a_t,
    stride_a_r,
    REVERSE: tl.constexpr,
    COMPLEX: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    num_blocks = tl.cdiv(N, BLOCK_N)
    i_r = (tl.program_id(0) // num_blocks).to(tl.int64)
    i_n = (tl.program_id(0) % num_blocks * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    m_n = i_n < N
    carry = _load(h_0_ptr, i_r * stride_r + i_n, m_n, 0.0, COMPLEX)
    for start in range(0, T, BLOCK_T):
        i_s = (start + tl.arange(0, BLOCK_T))[:, None]
        m = (i_s < T) & m_n
        i_t = (T - 1 - i_s if REVERSE else i_s).to(tl.int64)
        a = _load(a_ptr, i_t * stride_a_t + i_r * stride_a_r + i_n, m, 1.0, COMPLEX)
        offset = i_t * stride_t + i_r * stride_r + i_n
        b = _load(b_ptr, offset, m, 0.0, COMPLEX)
        h, carry = _scan_chunk(a, b, carry, COMPLEX, BLOCK_T)
        _store(h_ptr, offset, h, m, COMPLEX)


@triton.jit(do_not_specialize=["T"])
def _scan_bwd_kernel(
    a_ptr,
    h_0_ptr,
    h_ptr,
    g_ptr,
    da_ptr,
    dh_ptr,
    dh_0_ptr,
    T,
    N,
    stride_t,
    stride_r,
    stride_a_t,
    stride_a_r,
    REVERSE: tl.constexpr,
    NEED_A: tl.constexpr,
    COMPLEX: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    num_blocks = tl.cdiv(N, BLOCK_N)
    i_r = (tl.program_id(0) // num_blocks).to(tl.int64)
    i_n = (tl.program_id(0) % num_blocks * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    m_n = i_n < N
    # In the order of the steps, "before" is one step of memory down, or up in reverse.
    towards_start = 1 if REVERSE else -1
    o_0 = i_r * stride_r + i_n
    zero = tl.zeros((1, BLOCK_N), tl.float32)
    carry = (zero, zero) if COMPLEX else (zero,)
    for start in range(0, T, BLOCK_T):
        i_s = (start + tl.arange(0, BLOCK_T))[:, None]  # steps back from the last one visited
        m = (i_s < T) & m_n
        i_t = (i_s if REVERSE else T - 1 - i_s).to(tl.int64)
        offset = i_t * stride_t + o_0
        # The coefficient that leads from a step to the one after it; there is none after the last.
        o_a = (i_t - towards_start) * stride_a_t + i_r * stride_a_r + i_n
        a = _load(a_ptr, o_a, m & (i_s > 0), 1.0, COMPLEX)
        if COMPLEX:
            a = (a[0], -a[1])
        g = _load(g_ptr, offset, m, 0.0, COMPLEX)
        dh, carry = _scan_chunk(a, g, carry, COMPLEX, BLOCK_T)
        _store(dh_ptr, offset, dh, m, COMPLEX)
        if NEED_A:
            before = _load(h_ptr, offset + towards_start * stride_t, m & (i_s < T - 1), 0.0, COMPLEX)
            _store(da_ptr, offset, _times_conj(dh, before, COMPLEX), m & (i_s < T - 1), COMPLEX)
    first = tl.cast(T - 1 if REVERSE else 0, tl.int64)
    a = _load(a_ptr, first * stride_a_t + i_r * stride_a_r + i_n, m_n, 0.0, COMPLEX)
    _store(dh_0_ptr, o_0, _times_conj(_cut(carry, a, COMPLEX), a, COMPLEX), m_n, COMPLEX)
    if NEED_A:
        h_0 = _load(h_0_ptr, o_0, m_n, 0.0, COMPLEX)
        _store(da_ptr, first * stride_t + o_0, _times_conj(carry, h_0, COMPLEX), m_n, COMPLEX)


def scan_block(num_rows: int, width: int, is_complex: bool) -> Block:
    """Return the launch of a scan over (T, R, N): few units a program, so that small layers fill a GPU too."""
    block_n = 16
    while block_n < (32 if is_complex else 64) and -(-width // block_n) * num_rows > 256:
        block_n *= 2
    # Complex values take twice the registers and more than twice the operations: 4 elements a thread instead of 16.
    blocks = {"BLOCK_T": (1024 if is_complex else 2048) // block_n, "BLOCK_N": block_n}
    grid = (num_rows * -(-width // block_n), 1)
    return Block(grid, {**blocks, "num_warps": 8 if is_complex else 4, "enable_fp_fusion": True})


def _pairs(x: Tensor) -> Tensor:
    x = x.contiguous()
    return torch.view_as_real(x) if x.is_complex() else x


def _common(a: Tensor, num_rows: int, width: int, num_steps: int, reverse: bool) -> dict[str, Any]:
    return {
        "T": num_steps,
        "N": width,
        "stride_t": num_rows * width,
        "stride_r": width,
        "stride_a_t": a.stride(0) if len(a) > 1 else 0,
        "stride_a_r": a.stride(1) if a.shape[1] > 1 else 0,
        "REVERSE": reverse,
        "COMPLEX": a.is_complex(),
    }


def forward(a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    """Return h (T, B, H); `a` is compact (see `schedules.layout.compact`)."""
    h = torch.empty_like(b, memory_format=torch.contiguous_format)
    a, (num_rows, width) = rows(a, b.shape)
    block = scan_block(num_rows, width, b.is_complex())
    _scan_fwd_kernel[block.grid](
        a_ptr=_pairs(a),
        b_ptr=_pairs(b),
        h_0_ptr=_pairs(h_0),
        h_ptr=_pairs(h),
        **_common(a, num_rows, width, len(b), reverse),
        **block.options,
    )
    return h


def backward(
    a: Tensor, h_0: Tensor, h: Tensor, g: Tensor, reverse: bool, need_a: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return da (None unless needed), db and dh_0."""
    dh, dh_0 = torch.empty_like(h), h.new_empty(h.shape[1:])
    da = torch.empty_like(h) if need_a else None
    a, (num_rows, width) = rows(a, g.shape)
    block = scan_block(num_rows, width, g.is_complex())
    _scan_bwd_kernel[block.grid](
        a_ptr=_pairs(a),
        h_0_ptr=_pairs(h_0),
        h_ptr=_pairs(h),
        g_ptr=_pairs(g),
        da_ptr=_pairs(dh if da is None else da),
        dh_ptr=_pairs(dh),
        dh_0_ptr=_pairs(dh_0),
        **_common(a, num_rows, width, len(g), reverse),
        NEED_A=need_a,
        **block.options,
    )
    return da, dh, dh_0
