"""Device functions of the sequence kernels: tiles taken apart, programs that wait for each other, masks from a counter.

Tiles are (UNITS, BLOCK_B): units are rows, batch elements columns.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.schedules.additions import CANDIDATE, ZONEOUT
from rnnlab_kernels.schedules.noise.by_triton import keep_tile

_CANDIDATE, _ZONEOUT = tl.constexpr(CANDIDATE), tl.constexpr(ZONEOUT)
MAX_SPINS = tl.constexpr(1 << 26)  # about a minute: a lost program must end in an error and not in a hung device


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
def wait_for_all(barrier_ptr, target, alive):
    """Return once `target` programs have arrived; what they stored before is visible after. False if they never do.

    A program that is no longer `alive` arrives, so that the others need not wait in vain, and does not wait itself.
    """
    tl.debug_barrier()
    tl.atomic_add(barrier_ptr, 1, sem="release", scope="gpu")
    spins = 0
    arrived = tl.atomic_add(barrier_ptr, 0, sem="acquire", scope="gpu")
    while alive & (arrived < target) & (spins < MAX_SPINS):
        arrived = tl.atomic_add(barrier_ptr, 0, sem="acquire", scope="gpu")
        spins += 1
    tl.debug_barrier()
    return alive & (arrived >= target)


@triton.jit
def gate_rows(
    weight_ptr,
    k,
    D,
    G: tl.constexpr,
    UNITS: tl.constexpr,
    GATE_ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Return block k of the columns of R (G*D, D), for the rows of this program's units, GATE_ROWS for each unit."""
    rows = tl.arange(0, UNITS * GATE_ROWS)[:, None]
    i_unit, i_gate = tl.program_id(0) * UNITS + rows // GATE_ROWS, rows % GATE_ROWS
    i_column = k * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
    mask = (i_gate < G) & (i_unit < D) & (i_column < D)
    return tl.load(weight_ptr + (i_gate * D + i_unit) * D + i_column, mask=mask, other=0.0)


@triton.jit
def gate_columns(weight_ptr, o_weight, gate, k, m_u, D, BLOCK_K: tl.constexpr):
    """Return block k of a gate's rows of R (G*D, D), transposed, for the columns of this program's units."""
    i_row = k * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
    return tl.load(weight_ptr + (gate * D + k * BLOCK_K) * D + o_weight, mask=(i_row < D) & m_u, other=0.0)


@triton.jit
def own_rows(weight_ptr, gate, k, D, UNITS: tl.constexpr, BLOCK_K: tl.constexpr):
    """Return block k of the columns of a gate's rows of R (G*D, D), those of this program's units: (BLOCK_K, UNITS)."""
    i_column = k * BLOCK_K + tl.arange(0, BLOCK_K)[:, None]
    i_unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[None, :]
    return tl.load(weight_ptr + (gate * D + i_unit) * D + i_column, mask=(i_unit < D) & (i_column < D), other=0.0)


@triton.jit
def state_block(h_ptr, dropped_ptr, o_h, mask, anew, HAS_RESET: tl.constexpr, HAS_DROPPED: tl.constexpr):
    """Return a block of the units of h (BLOCK_K, BLOCK_B) as the product takes it: reset, and dropped."""
    # Written by other programs a step ago: past L1, which they do not share.
    h = tl.load(h_ptr + o_h, mask=mask, other=0.0, cache_modifier=".cg")
    if HAS_RESET:
        h = tl.where(anew, 0.0, h).to(h.dtype)
    if HAS_DROPPED:
        h = (h * tl.load(dropped_ptr + o_h, mask=mask, other=0.0)).to(h.dtype)
    return h


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
def carried_values(state, constants, CARRIED: tl.constexpr, C: tl.constexpr):
    values = ()
    for k in tl.static_range(len(CARRIED)):
        values = values + (state[CARRIED[k]],)
    for k in tl.static_range(C):
        values = values + (constants[k],)
    return values


@triton.jit
def zeroed(values, rows):
    """Return the values with zeros in the rows (1, BLOCK_B) that are true."""
    found = ()
    for k in tl.static_range(len(values)):
        found = found + (tl.where(rows, 0.0, values[k]),)
    return found


@triton.jit
def key_words(key_ptr, t, DRAWS: tl.constexpr):
    """Return two words of the counter's key and the index of step t. `key_ptr`: the words, and that of the first step.

    In memory, not among the arguments, which a captured graph would keep for ever.
    """
    words = (0, 0, 0)
    if DRAWS:
        words = (tl.load(key_ptr), tl.load(key_ptr + 1), tl.load(key_ptr + 2) + t.to(tl.int32))
    return words


@triton.jit
def candidate_mask(key_0, key_1, step, i_b, i_quad, threshold, scale):
    """Return the mask (UNITS, BLOCK_B) on the candidates of a step, for rows (BLOCK_B, 1) and groups of 4 units."""
    kept = keep_tile(key_0, key_1, tl.cast(_CANDIDATE, tl.int32), step, i_b, i_quad, threshold)
    return tl.where(kept, scale, 0.0).trans()


@triton.jit
def zoneout_part(key_0, key_1, k: tl.constexpr, step, i_b, i_quad, rate, DRAWN: tl.constexpr):
    """Return what part of the new value of state k is taken: 0 and 1 if DRAWN, by the threshold `rate`, else `rate`."""
    if DRAWN:
        kept = keep_tile(key_0, key_1, tl.cast(_ZONEOUT + k, tl.int32), step, i_b, i_quad, rate.to(tl.int32))
        part = tl.where(kept, 1.0, 0.0).trans()
    else:
        part = rate
    return part


@triton.jit
def between(previous, new, part):
    """Return previous + part * (new - previous), exactly `new` for 1."""
    return tl.where(part < 0.5, previous + part * (new - previous), new - (1.0 - part) * (new - previous))
