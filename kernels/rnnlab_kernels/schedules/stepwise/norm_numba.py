"""Layer norm over the units of a tile (B, W) by compiled loops on a CPU, for kit_numba.py. float32 only.

    y = gain * (x - mean) * rstd + shift          rstd = 1 / sqrt(variance + EPS), of each row

Mean and variance are computed again in the backward pass, which costs less than a tensor to keep them in. Gradient,
given dy, with z = (x - mean) * rstd and u = dy * gain, means over the row (Ba et al., 2016):

    dx = rstd * (u - mean(u) - z * mean(u * z))       dgain = sum over rows of dy * z       dshift = sum of dy
"""

import numba
import numpy as np
import torch
from torch import Tensor

from rnnlab_kernels.cells.chain import EPS
from rnnlab_kernels.cells.compiled import FASTMATH, inline, load, load_written, store

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")
F = np.float32
_EPS = F(EPS)
Tensors = tuple[Tensor, ...]


@inline
def _moments(row, width):
    """Return mean and 1/standard deviation of a row."""
    scale = F(1.0) / F(width)
    total = F(0.0)
    for n in range(width):
        total += load(row, n)
    mean = total * scale
    squares = F(0.0)
    for n in range(width):
        distance = load(row, n) - mean
        squares += distance * distance
    return mean, F(1.0) / np.sqrt(squares * scale + _EPS)


@compiled
def _forward(batch, width, x, gain, shift, y):
    for b in range(batch):
        row_x, row_y = x + 4 * b * width, y + 4 * b * width
        mean, rstd = _moments(row_x, width)
        if shift:
            for n in range(width):
                store(row_y, n, (load(row_x, n) - mean) * rstd * load(gain, n) + load(shift, n))
        else:
            for n in range(width):
                store(row_y, n, (load(row_x, n) - mean) * rstd * load(gain, n))


@compiled
def _backward(batch, width, dy, x, gain, dx, dgain, dshift):
    scale = F(1.0) / F(width)
    for b in range(batch):
        row_x, row_dy, row_dx = x + 4 * b * width, dy + 4 * b * width, dx + 4 * b * width
        mean, rstd = _moments(row_x, width)
        total, products = F(0.0), F(0.0)
        for n in range(width):
            u = load(row_dy, n) * load(gain, n)
            total += u
            products += u * ((load(row_x, n) - mean) * rstd)
        total, products = total * scale, products * scale
        for n in range(width):
            upstream, z = load(row_dy, n), (load(row_x, n) - mean) * rstd
            store(row_dx, n, rstd * (upstream * load(gain, n) - total - z * products))
            store(dgain, n, load_written(dgain, n) + upstream * z)
        if dshift:
            for n in range(width):
                store(dshift, n, load_written(dshift, n) + load(row_dy, n))


def norm_fwd(x: Tensor, gain: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensors]:
    """See `frame.Step`. `gain` and `shift` are contiguous."""
    x = x.contiguous()
    y = torch.empty_like(x)
    batch, width = x.shape
    _forward(batch, width, x.data_ptr(), gain.data_ptr(), 0 if shift is None else shift.data_ptr(), y.data_ptr())
    return y, (x,)


def norm_bwd(dy: Tensor, saved: Tensors, gain: Tensor, dgain: Tensor, dshift: Tensor | None) -> Tensor:
    """See `frame.Step`."""
    (x,), dy = saved, dy.contiguous()
    dx = torch.empty_like(x)
    batch, width = x.shape
    tiles = (dy.data_ptr(), x.data_ptr(), gain.data_ptr(), dx.data_ptr(), dgain.data_ptr())
    _backward(batch, width, *tiles, 0 if dshift is None else dshift.data_ptr())
    return dx
