"""The masks of counter.py by one compiled loop on a CPU: about a third of a nanosecond an element with wide vectors."""

import numba
import numpy as np
import torch
from torch import Tensor

from rnnlab_kernels.schedules.noise.counter import KEY_STEPS, MULTIPLIERS, ROUNDS, THRESHOLD_BITS, key_words

U = np.uint32
_M0, _M1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
_K0, _K1 = (U(step) for step in KEY_STEPS)
_HALF = np.uint64(32)
NARROW = 64  # units of a row: as many groups of four as a vector has lanes
_SHIFT = U(32 - THRESHOLD_BITS)
# A 1 of any dtype is written as its bits, so that one loop serves all dtypes of a width.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@numba.njit(inline="always")
def _philox(c0, c1, c2, c3, k0, k1):
    for _ in range(ROUNDS):
        product_0, product_2 = np.uint64(c0) * _M0, np.uint64(c2) * _M1
        c0, c1 = U(U(product_2 >> _HALF) ^ c1 ^ k0), U(product_2)
        c2, c3 = U(U(product_0 >> _HALF) ^ c3 ^ k1), U(product_0)
        k0, k1 = U(k0 + _K0), U(k1 + _K1)
    return c0, c1, c2, c3


@numba.njit
def _narrow(out, one, k0, k1, stream, first, threshold):
    """As `_loop`, all groups of a step in one loop: those of a row are too few for a vector."""
    num_steps, batch, hidden = out.shape
    num_quads, zero = (hidden + 3) // 4, out.dtype.type(0)
    count = batch * num_quads
    quads, rows = np.empty(count, np.uint32), np.empty(count, np.uint32)
    for i in range(count):
        quads[i], rows[i] = i % num_quads, i // num_quads
    whole = np.empty((batch, 4 * num_quads), out.dtype)
    for n in range(num_steps):
        flat = out[n].reshape(-1) if hidden % 4 == 0 else whole.reshape(-1)
        for i in range(count):
            word_0, word_1, word_2, word_3 = _philox(quads[i], rows[i], U(first + n), stream, k0, k1)
            flat[4 * i] = one if word_0 >> _SHIFT >= threshold else zero
            flat[4 * i + 1] = one if word_1 >> _SHIFT >= threshold else zero
            flat[4 * i + 2] = one if word_2 >> _SHIFT >= threshold else zero
            flat[4 * i + 3] = one if word_3 >> _SHIFT >= threshold else zero
        if hidden % 4:
            out[n] = whole[:, :hidden]


@numba.njit
def _loop(out, one, k0, k1, stream, first, threshold):
    num_steps, batch, hidden = out.shape
    num_quads = hidden // 4
    zero = out.dtype.type(0)
    for n in range(num_steps):
        for b in range(batch):
            row = out[n, b]
            for q in range(num_quads):
                word_0, word_1, word_2, word_3 = _philox(U(q), U(b), U(first + n), stream, k0, k1)
                row[4 * q] = one if word_0 >> _SHIFT >= threshold else zero
                row[4 * q + 1] = one if word_1 >> _SHIFT >= threshold else zero
                row[4 * q + 2] = one if word_2 >> _SHIFT >= threshold else zero
                row[4 * q + 3] = one if word_3 >> _SHIFT >= threshold else zero
            if 4 * num_quads < hidden:
                words = _philox(U(num_quads), U(b), U(first + n), stream, k0, k1)
                for h in range(4 * num_quads, hidden):
                    row[h] = one if words[h - 4 * num_quads] >> _SHIFT >= threshold else zero


def fill(out: Tensor, seed: int, stream: int, first: int, threshold: int) -> None:
    """Write the mask into `out` (N, B, H), contiguous, on a CPU, of any real dtype."""
    bits = _BITS[out.element_size()]
    one = torch.ones((), dtype=out.dtype).view(bits).numpy()[()]
    k0, k1 = key_words(seed)
    loop = _narrow if out.shape[2] < NARROW else _loop
    loop(out.view(bits).numpy(), one, U(k0), U(k1), U(stream), first, U(threshold))
