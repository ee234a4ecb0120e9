"""Device functions of the kernels: tuples of tiles, sums over the units of a row, waiting, masks from a counter.

Tiles are (UNITS, BLOCK_B): units are rows, batch elements columns. A value of several tiles is a tuple of them.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.launch import is_interpreting
from rnnlab_kernels.schedules.additions import CANDIDATE, ZONEOUT
from rnnlab_kernels.schedules.noise.by_triton import keep_tile
from rnnlab_kernels.schedules.persistent import wiring

# What a kernel passes on as a constant: Triton 3.6 has to be told, the interpreter must not be.
constant = (lambda value: value) if is_interpreting() else tl.constexpr

PRODUCT, NORM, GATES = (tl.constexpr(kind) for kind in (wiring.PRODUCT, wiring.NORM, wiring.GATES))
MOMENTS, PARTS, HAND_BACK = (tl.constexpr(kind) for kind in (wiring.MOMENTS, wiring.PARTS, wiring.HAND_BACK))
WAIT = tl.constexpr(wiring.WAIT)
_CANDIDATE, _ZONEOUT = tl.constexpr(CANDIDATE), tl.constexpr(ZONEOUT)
MAX_SPINS = tl.constexpr(1 << 26)  # about a minute: a lost program must end in an error and not in a hung device

# Arguments that vary from call to call: no kernel is specialised to them.
NOT_SPECIALIZED = [
    *("T", "B", "first_position", "num_positions"),
    *("candidate_threshold", "candidate_scale", "zoneout_0", "zoneout_1", "clip"),
]


@triton.jit
def split_rows(acc, UNITS: tl.constexpr, GATE_ROWS: tl.constexpr, BLOCK_B: tl.constexpr):
    """Return the GATE_ROWS tiles (UNITS, BLOCK_B) whose rows are interleaved in `acc`."""
    if GATE_ROWS == 1:
        parts = (acc,)
    elif GATE_ROWS == 2:
        parts = tl.split(tl.reshape(acc, (UNITS, 2, BLOCK_B)).permute(0, 2, 1))
    else:
        tl.static_assert(GATE_ROWS == 4)
        # The last dimension falls apart first: even and odd rows, then each of those in two.
        even, odd = tl.split(tl.reshape(acc, (UNITS, 2, 2, BLOCK_B)).permute(0, 3, 1, 2))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        parts = (first, second, third, fourth)
    return parts


@triton.jit
def wait_for_all(barrier_ptr, target, in_time):
    """Return once `target` programs have arrived; what they stored before is visible after. False if they never do.

    A program that is no longer `in_time` arrives, so that the others need not wait in vain, and does not wait itself.
    """
    tl.debug_barrier()
    tl.atomic_add(barrier_ptr, 1, sem="release", scope="gpu")
    spins = 0
    arrived = tl.atomic_add(barrier_ptr, 0, sem="acquire", scope="gpu")
    while in_time & (arrived < target) & (spins < MAX_SPINS):
        arrived = tl.atomic_add(barrier_ptr, 0, sem="acquire", scope="gpu")
        spins += 1
    tl.debug_barrier()
    return in_time & (arrived >= target)


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
def sum_of_blocks(acc, ROWS: tl.constexpr, BLOCK_B: tl.constexpr, SPLIT: tl.constexpr):
    """Return the sum over the 1, 2, 4 or 8 blocks of a group, (ROWS, BLOCK_B).

    In halves and not by `tl.sum`, whose result every warp would hold whole, and with it all that is computed from it.
    """
    if SPLIT == 1:
        summed = acc
    elif SPLIT == 2:
        first, second = tl.split(acc.permute(1, 2, 0))
        summed = first + second
    elif SPLIT == 4:
        first, second = tl.split(tl.reshape(acc.permute(1, 2, 0), (ROWS, BLOCK_B, 2, 2)))
        first, second = tl.split(first + second)
        summed = first + second
    else:
        tl.static_assert(SPLIT == 8)
        first, second = tl.split(tl.reshape(acc.permute(1, 2, 0), (ROWS, BLOCK_B, 2, 2, 2)))
        first, second = tl.split(first + second)
        first, second = tl.split(first + second)
        summed = first + second
    return summed


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


@triton.jit
def gate_rows(
    weight_ptr,
    stage: tl.constexpr,
    start,
    D,
    UNITS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Return columns from `start` on of a product's weights, for the rows of this program's units, interleaved."""
    rows = tl.arange(0, UNITS * stage.rows)[:, None]
    i_unit, i_gate = tl.program_id(0) * UNITS + rows // stage.rows, rows % stage.rows
    i_column = as_columns(positions(SPLIT, BLOCK_K)) + start
    mask = (i_gate < len(stage.out)) & (i_unit < D) & (i_column < D)
    return tl.load(weight_ptr + ((stage.weight + i_gate) * D + i_unit) * D + i_column, mask=mask, other=0.0)


@triton.jit
def gate_columns(weight_ptr, gate, start, i_unit, D, BLOCK_K: tl.constexpr, SPLIT: tl.constexpr):
    """Return rows from `start` on of a gate's weights (D, D), transposed, for the columns of this program's units."""
    i_row = as_columns(positions(SPLIT, BLOCK_K)) + start
    return tl.load(weight_ptr + (gate * D + i_row) * D + i_unit, mask=(i_row < D) & (i_unit < D), other=0.0)


@triton.jit
def unit_rows(weight_ptr, gate, start, D, UNITS: tl.constexpr, BLOCK_K: tl.constexpr):
    """Return columns from `start` on of a gate's weights (D, D) for the rows of this program: (BLOCK_K, UNITS)."""
    i_column = start + tl.arange(0, BLOCK_K)[:, None]
    i_unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[None, :]
    return tl.load(weight_ptr + (gate * D + i_unit) * D + i_column, mask=(i_unit < D) & (i_column < D), other=0.0)


@triton.jit
def state_block(h_ptr, dropped_ptr, o_h, mask, reset, HAS_RESET: tl.constexpr, HAS_DROPPED: tl.constexpr):
    """Return a block of the units of h (BLOCK_K, BLOCK_B) as the product takes it: reset, and dropped."""
    # Written by other programs before the last wait: past L1, which they do not share.
    h = tl.load(h_ptr + o_h, mask=mask, other=0.0, cache_modifier=".cg")
    if HAS_RESET:
        h = tl.where(reset, 0.0, h).to(h.dtype)
    if HAS_DROPPED:
        h = (h * tl.load(dropped_ptr + o_h, mask=mask, other=0.0)).to(h.dtype)
    return h


@triton.jit
def product_gradient(
    weight_ptr,
    weights,
    grads_ptr,
    stage: tl.constexpr,
    tiles: tl.constexpr,
    i_unit,
    i_row,
    m_b,
    D,
    H,
    RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Return the gradient (UNITS, BLOCK_B) of what a product multiplied, out of those of its gates for all units.

    Rows of the gradients' blocks of a step, `grads_ptr`, begin at `i_row` (1, BLOCK_B).
    """
    acc = no_product(UNITS, BLOCK_B, tiles.split)
    i_k = as_rows(positions(tiles.split, BLOCK_K))
    for j in tl.static_range(len(stage.grads)):
        gate_ptr = grads_ptr + stage.grads[j] * H
        if RESIDENT:
            for k in tl.static_range(constant(tiles.groups)):
                start = k * tiles.split * BLOCK_K
                m_k = (i_k < D - start) & m_b
                dgate = tl.load(gate_ptr + start + (i_row + i_k), mask=m_k, other=0.0, cache_modifier=".cg")
                acc = tl.dot(weights[tiles.numbers[j * tiles.groups + k]], dgate, acc, input_precision=PRECISION)
        else:
            for k in range(0, tiles.groups):
                start = k * tiles.split * BLOCK_K
                m_k = (i_k < D - start) & m_b
                dgate = tl.load(gate_ptr + start + (i_row + i_k), mask=m_k, other=0.0, cache_modifier=".cg")
                part = gate_columns(weight_ptr, stage.weight + j, start, i_unit, D, BLOCK_K, tiles.split)
                acc = tl.dot(part, dgate, acc, input_precision=PRECISION)
    return sum_of_blocks(acc, UNITS, BLOCK_B, tiles.split)


@triton.jit
def sum_of_parts(parts_ptr, o_state, stride_slot, mask):
    """Return the sum of what all programs left for a tile (UNITS, BLOCK_B), in their order."""
    acc = tl.zeros(mask.shape, tl.float32)
    for program in range(0, tl.num_programs(0)):
        acc += tl.load(parts_ptr + program * stride_slot + o_state, mask=mask, other=0.0, cache_modifier=".cg")
    return acc


@triton.jit
def read_states(h_ptr, rest_ptr, slot, o_state, o_rest, stride_slot, H, mask, K: tl.constexpr):
    """Return the K states (UNITS, BLOCK_B) of a slot in fp32; h has memory of its own."""
    h_ptr += slot * stride_slot
    rest_ptr += slot * stride_slot * (K - 1)
    state = (tl.load(h_ptr + o_state, mask=mask, other=0.0).to(tl.float32),)
    for k in tl.static_range(K - 1):
        state = state + (tl.load(rest_ptr + k * H + o_rest, mask=mask, other=0.0).to(tl.float32),)
    return state


@triton.jit
def zeroed(values, rows):
    """Return the values with zeros in the rows (1, BLOCK_B) that are true."""
    found = ()
    for k in tl.static_range(len(values)):
        found = found + (tl.where(rows, 0.0, values[k]),)
    return found


@triton.jit
def drawn(key_ptr, t, stream: tl.constexpr, i_b, i_quad, threshold):
    """Return what is kept at step t, for rows (BLOCK_B, 1) and groups of 4 units, as a tile (UNITS, BLOCK_B).

    The counter's key and the index of the first step are in memory, `key_ptr`, and not among the arguments, which a
    captured graph would keep for ever; read where they are used, to hold no registers before.
    """
    step = tl.load(key_ptr + 2) + t.to(tl.int32)
    kept = keep_tile(tl.load(key_ptr), tl.load(key_ptr + 1), tl.cast(stream, tl.int32), step, i_b, i_quad, threshold)
    return kept.trans()


@triton.jit
def candidate_mask(key_ptr, t, i_b, i_quad, threshold, scale):
    """Return the mask (UNITS, BLOCK_B) on the candidates of a step."""
    return tl.where(drawn(key_ptr, t, _CANDIDATE, i_b, i_quad, threshold), scale, 0.0)


@triton.jit
def zoneout_part(key_ptr, t, k: tl.constexpr, i_b, i_quad, rate, DRAWN: tl.constexpr):
    """Return what part of the new value of state k is taken: 0 and 1 if DRAWN, by the threshold `rate`, else `rate`."""
    if DRAWN:
        part = tl.where(drawn(key_ptr, t, _ZONEOUT + k, i_b, i_quad, rate.to(tl.int32)), 1.0, 0.0)
    else:
        part = rate
    return part


@triton.jit
def between(previous, new, part):
    """Return previous + part * (new - previous), exactly `new` for 1."""
    return tl.where(part < 0.5, previous + part * (new - previous), new - (1.0 - part) * (new - previous))
