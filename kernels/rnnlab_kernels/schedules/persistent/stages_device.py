"""Device functions of the kernels in stages_triton.py: tuples of tiles, and sums over the units of a row.

Tiles are (UNITS, BLOCK_B): units are rows, batch elements columns. A value of several tiles is a tuple of them.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.launch import is_interpreting

# What a kernel passes on as a constant: Triton 3.6 has to be told, the interpreter must not be.
constant = (lambda value: value) if is_interpreting() else tl.constexpr


@triton.jit
def positions(SPLIT: tl.constexpr, BLOCK_K: tl.constexpr):
    """Return positions along K in a group of blocks, (BLOCK_K,) for one and (SPLIT, BLOCK_K) for more."""
    i_k = tl.arange(0, BLOCK_K)
    if SPLIT == 1:
        found = i_k
    else:
        found = tl.arange(0, SPLIT)[:, None] * BLOCK_K + i_k[None, :]
    return found


@triton.jit
def as_rows(values):
    """Return numbers along K as those of rows: of each tile (K, 1)."""
    return tl.expand_dims(values, -1)


@triton.jit
def as_columns(values):
    """Return numbers along K as those of columns: of each tile (1, K)."""
    return tl.expand_dims(values, -2)


@triton.jit
def no_product(ROWS: tl.constexpr, BLOCK_B: tl.constexpr, SPLIT: tl.constexpr):
    """Return zeros to which the products of a group's blocks are added, each to its own."""
    if SPLIT == 1:
        acc = tl.zeros((ROWS, BLOCK_B), tl.float32)
    else:
        acc = tl.zeros((SPLIT, ROWS, BLOCK_B), tl.float32)
    return acc


@triton.jit
def whole_product(acc, ROWS: tl.constexpr, BLOCK_B: tl.constexpr, SPLIT: tl.constexpr):
    """Return the sum over the 1, 2, 4 or 8 blocks of a group, (ROWS, BLOCK_B).

    In halves and not by `tl.sum`, whose result every warp would hold whole, and with it all that is computed from it.
    """
    if SPLIT == 1:
        whole = acc
    elif SPLIT == 2:
        first, second = tl.split(acc.permute(1, 2, 0))
        whole = first + second
    elif SPLIT == 4:
        first, second = tl.split(tl.reshape(acc.permute(1, 2, 0), (ROWS, BLOCK_B, 2, 2)))
        first, second = tl.split(first + second)
        whole = first + second
    else:
        tl.static_assert(SPLIT == 8)
        first, second = tl.split(tl.reshape(acc.permute(1, 2, 0), (ROWS, BLOCK_B, 2, 2, 2)))
        first, second = tl.split(first + second)
        first, second = tl.split(first + second)
        whole = first + second
    return whole


@triton.jit
def chosen(values, PLACES: tl.constexpr):
    """Return the values at these places."""
    found = ()
    for k in tl.static_range(len(PLACES)):
        found = found + (values[PLACES[k]],)
    return found


@triton.jit
def added(values, place: tl.constexpr, part):
    """Return the values with a part added to the one at `place`."""
    found = ()
    for k in tl.static_range(len(values)):
        if k == place:
            found = found + (values[k] + part,)
        else:
            found = found + (values[k],)
    return found


@triton.jit
def total(values, m_u):
    """Return the sums (1, BLOCK_B) over all units of all tiles, those outside the mask (UNITS, 1) left out."""
    sums = values[0]
    for k in tl.static_range(1, len(values)):
        sums += values[k]
    return tl.sum(tl.where(m_u, sums, 0.0), axis=0, keep_dims=True)


@triton.jit
def moments(values, count, m_u):
    """Return the mean (1, BLOCK_B) of `count` elements of each column, and the sum of their squared distances to it."""
    mean = total(values, m_u) / count
    squares = ()
    for k in tl.static_range(len(values)):
        squares = squares + ((values[k] - mean) * (values[k] - mean),)
    return mean, total(squares, m_u)


@triton.jit
def store_pair(ptr, first, second, i_b, B, mask):
    """Leave two numbers a column (1, BLOCK_B) for the other programs."""
    ptr += tl.program_id(0) * 2 * B
    tl.store(ptr + i_b, first, mask=mask)
    tl.store(ptr + B + i_b, second, mask=mask)


@triton.jit
def load_pairs(ptr, i_b, B, mask, PROGRAMS: tl.constexpr):
    """Return what all programs left, two tiles (PROGRAMS, BLOCK_B), zeros where there is no program."""
    i_p = tl.arange(0, PROGRAMS)[:, None]
    m_p = (i_p < tl.num_programs(0)) & mask
    # Written by other programs: past L1, which they do not share.
    first = tl.load(ptr + i_p * 2 * B + i_b, mask=m_p, other=0.0, cache_modifier=".cg")
    second = tl.load(ptr + (i_p * 2 + 1) * B + i_b, mask=m_p, other=0.0, cache_modifier=".cg")
    return first, second


@triton.jit
def merged_moments(ptr, i_b, B, H, mask, SIZE: tl.constexpr, UNITS: tl.constexpr, PROGRAMS: tl.constexpr):
    """Return mean and sum of squares (1, BLOCK_B) over all SIZE*H elements from those of each program.

    The formula of Chan et al. (1979), of all parts at once: nothing large cancels, and the order is always the same.
    """
    means, squares = load_pairs(ptr, i_b, B, mask, PROGRAMS)
    left = H - tl.arange(0, PROGRAMS)[:, None] * UNITS
    counts = (SIZE * tl.minimum(tl.maximum(left, 0), UNITS)).to(tl.float32)
    mean = tl.sum(counts * means, axis=0, keep_dims=True) / (SIZE * H)
    distances = means - mean
    return mean, tl.sum(squares + counts * distances * distances, axis=0, keep_dims=True)


@triton.jit
def norm_upstream(dys, saved_ptr, vectors_ptr, stage: tl.constexpr, o_saved, i_u, H, mask):
    """Return for each tile of a norm its normalised value z, and u: the gradient of its result times its gain."""
    zs, us = (), ()
    for k in tl.static_range(len(stage.saved)):
        z = tl.load(saved_ptr + stage.saved[k] * H + o_saved, mask=mask, other=0.0).to(tl.float32)
        gain = tl.load(vectors_ptr + (stage.vector + k) * H + i_u, mask=i_u < H, other=0.0)
        zs, us = zs + (z,), us + (dys[k] * gain,)
    return zs, us


@triton.jit
def products(first, second):
    """Return the products of the tiles of two values."""
    found = ()
    for k in tl.static_range(len(first)):
        found = found + (first[k] * second[k],)
    return found
