"""Linear scan on a CPU: one compiled pass over time each way, vectorised over batch and units, by Numba.

Arrays are (T, R, N) with the units of all rows in N and R = 1, or R = B rows of N = H where the coefficients are the
same for every row. A loop is compiled for a dtype, real or complex, at its first use in a process.
"""

import numba
import numpy as np
import torch
from torch import Tensor

from rnnlab_kernels.cells.compiled import FASTMATH
from rnnlab_kernels.schedules.layout import rows

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")


@compiled
def _forward(a, b, h_0, h, reverse):
    num_steps, num_rows, width = b.shape
    stride_t, stride_r = min(a.shape[0] - 1, 1), min(a.shape[1] - 1, 1)
    for position in range(num_steps):
        t = num_steps - 1 - position if reverse else position
        before = t + 1 if reverse else t - 1
        for r in range(num_rows):
            a_t, b_t, h_t = a[t * stride_t, r * stride_r], b[t, r], h[t, r]
            previous = h_0[r] if position == 0 else h[before, r]
            for n in range(width):
                h_t[n] = b_t[n] if a_t[n] == 0 else a_t[n] * previous[n] + b_t[n]


@compiled
def _backward(a, h_0, h, g, da, dh, carry, reverse):
    """`carry` starts as zeros and ends as the gradient of h_0; `da` may have no steps, and is then not wanted."""
    num_steps, num_rows, width = g.shape
    stride_t, stride_r = min(a.shape[0] - 1, 1), min(a.shape[1] - 1, 1)
    for position in range(num_steps - 1, -1, -1):
        t = num_steps - 1 - position if reverse else position
        before = t + 1 if reverse else t - 1
        for r in range(num_rows):
            a_t, g_t, dh_t, carry_r = a[t * stride_t, r * stride_r], g[t, r], dh[t, r], carry[r]
            if da.shape[0]:
                da_t = da[t, r]
                previous = h_0[r] if position == 0 else h[before, r]
                for n in range(width):
                    value = g_t[n] + carry_r[n]
                    dh_t[n] = value
                    da_t[n] = value * np.conj(previous[n])
                    carry_r[n] = a_t[n] if a_t[n] == 0 else value * np.conj(a_t[n])
            else:
                for n in range(width):
                    value = g_t[n] + carry_r[n]
                    dh_t[n] = value
                    carry_r[n] = a_t[n] if a_t[n] == 0 else value * np.conj(a_t[n])


def _array(x: Tensor, *shape: int) -> np.ndarray:
    return x.detach().contiguous().view(shape).numpy()


def forward(a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    """Return h (T, B, H); `a` is compact (see `schedules.layout.compact`)."""
    h = torch.empty_like(b, memory_format=torch.contiguous_format)
    a, (num_rows, width) = rows(a, b.shape)
    tile, all_steps = (num_rows, width), (len(b), num_rows, width)
    _forward(_array(a, *a.shape), _array(b, *all_steps), _array(h_0, *tile), _array(h, *all_steps), reverse)
    return h


def backward(
    a: Tensor, h_0: Tensor, h: Tensor, g: Tensor, reverse: bool, need_a: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return da (None unless needed), db and dh_0."""
    dh, dh_0 = torch.empty_like(h), h.new_zeros(h.shape[1:])
    da = torch.empty_like(h) if need_a else h.new_empty(0, *h.shape[1:])
    a, (num_rows, width) = rows(a, g.shape)
    tile, all_steps = (num_rows, width), (len(g), num_rows, width)
    _backward(
        _array(a, *a.shape),
        _array(h_0, *tile),
        _array(h, *all_steps),
        _array(g, *all_steps),
        _array(da, len(da), *tile),
        _array(dh, *all_steps),
        _array(dh_0, *tile),
        reverse,
    )
    return (da if need_a else None), dh, dh_0
