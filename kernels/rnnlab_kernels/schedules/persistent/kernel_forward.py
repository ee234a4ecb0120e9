"""The forward kernel: all of time in one launch, or one step a launch, for any chain of stages.

A program owns UNITS units of BLOCK_B rows of one head. It keeps its slices of all weights on the chip, if RESIDENT, and
the states of its units in registers, and unrolls the stages of a step as `wiring` counts them: every value is a tile or
a few, one after the other in a tuple. What a stage needs of other programs' units (the sums of a norm, what a product
multiplies) goes through global memory, with a wait at a grid barrier before it is read. A program that is ahead
overwrites nothing that another still has to read: such values have a place for each step or, for sums, for even and odd
ones. A chain without a product exchanges nothing, and no program waits.

Where programs cannot wait for each other, in Triton's interpreter, a launch does a step only up to one of its waits. It
computes again what the launches before it did, from the same values to the same values; the last one, COMPLETE, does
the whole step and moves the states on.

Units are rows and batch elements columns, so that the gates, which are many, are the M dimension of a product and the
batch, which may be small, is N. Rows of the weights are interleaved, as many for each unit as its gates rounded up to a
power of two, so that one product makes all gates; `split_rows` takes them apart. Storage is fp32, fp16 or bf16;
products accumulate in fp32 and registers are fp32. B, H and T are run-time values; offsets over time are 64 bits wide,
those within a step 32.

H is the width of a state, D that of a head: weights are (H/D, R*D, D), and what a head reads of h is its own part.
REVERSE 2 has the second half of the heads go from the end: two directions of a layer in one launch.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.schedules.persistent.device import (
    GATES,
    MOMENTS,
    NORM,
    NOT_SPECIALIZED,
    PRODUCT,
    WAIT,
    as_rows,
    between,
    candidate_mask,
    chosen,
    constant,
    gate_rows,
    merged_moments,
    moments,
    no_product,
    positions,
    read_states,
    split_rows,
    state_block,
    store_pair,
    sum_of_blocks,
    wait_for_all,
    zeroed,
    zoneout_part,
)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def _forward_kernel(
    gates_x_ptr,
    weight_ptr,
    vectors_ptr,
    mask_ptr,
    reset_ptr,
    dropped_ptr,
    key_ptr,
    h_ptr,
    rest_ptr,
    saved_ptr,
    rstd_ptr,
    sums_ptr,
    barrier_ptr,
    T,
    B,
    H,
    D,
    first_position,
    num_positions,
    candidate_threshold,
    candidate_scale,
    zoneout_0,
    zoneout_1,
    MATHS_0: tl.constexpr,
    MATHS_1: tl.constexpr,
    TASKS: tl.constexpr,
    PRODUCTS: tl.constexpr,
    TILES: tl.constexpr,
    NEW: tl.constexpr,
    KEPT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    X: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    WAITS: tl.constexpr,
    EPS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_RESET: tl.constexpr,
    HAS_DROPPED: tl.constexpr,
    ZONE: tl.constexpr,
    HEADS: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP: tl.constexpr,
    COMPLETE: tl.constexpr,
    BARRIER: tl.constexpr,
    RESIDENT: tl.constexpr,
    PROGRAMS: tl.constexpr,
    PRECISION: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    K: tl.constexpr = len(NEW)
    if not HEADS:
        D = H
    if REVERSE == 2:
        back = (2 * tl.program_id(2) >= tl.num_programs(2)).to(tl.int32)
    else:
        back = REVERSE
    sign = 1 - 2 * back
    i_u = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[:, None]
    i_b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[None, :]
    m_u, m_b = i_u < D, i_b < B
    m = m_u & m_b
    first_unit = 0
    if HEADS:
        first_unit = tl.program_id(2) * D
        weight_ptr += tl.program_id(2).to(tl.int64) * R * D * D
        i_u += first_unit
    o_state, o_rest, o_saved, o_x = i_b * H + i_u, i_b * (K - 1) * H + i_u, i_b * S * H + i_u, i_b * X * H + i_u
    stride_slot = tl.cast(B, tl.int64) * H
    my_units = tl.minimum(D - tl.program_id(0) * UNITS, UNITS)
    i_drawn = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]  # rows, as random masks are made
    i_quad = tl.program_id(0) * (UNITS // 4) + tl.arange(0, UNITS // 4)[None, :]
    if HEADS:
        i_quad += tl.program_id(2) * (D // 4)
    if REVERSE == 2:  # each direction draws its own, from unit 0 on
        i_quad -= back * (H // 8)
        key_ptr += 3 * back

    weights = ()
    if RESIDENT:
        for p in tl.static_range(len(PRODUCTS)):
            for g in tl.static_range(len(TILES[p].numbers)):
                start_k = g * TILES[p].split * BLOCK_K
                loaded = gate_rows(weight_ptr, constant(PRODUCTS[p]), start_k, D, UNITS, BLOCK_K, TILES[p].split)
                weights = weights + (loaded,)
    constants = ()
    for k in tl.static_range(C):
        constants = constants + (tl.load(vectors_ptr + k * H + i_u, mask=m_u, other=0.0),)

    start = tl.cast(back * T + sign * first_position, tl.int64)
    state = read_states(h_ptr, rest_ptr, start, o_state, o_rest, stride_slot, H, m, K)
    in_time = num_positions > 0  # false once a barrier was given up
    for step in range(0, num_positions):
        t = tl.cast(back * (T - 1) + sign * (first_position + step), tl.int64)
        before, after = t + back, t + 1 - back
        t_saved = t if KEEP else t % 2
        step_saved_ptr = saved_ptr + t_saved * stride_slot * S
        step_sums_ptr = sums_ptr + (t % 2) * N * tl.num_programs(0) * 2 * B
        reset = False
        if HAS_RESET:
            reset = tl.load(reset_ptr + t * B + i_b, mask=m_b, other=0) != 0
            state = zeroed(state, reset)
        x = ()  # asked for now, since it comes from afar
        for k in tl.static_range(X):
            x = x + (tl.load(gates_x_ptr + t * stride_slot * X + k * H + o_x, mask=m, other=0.0),)
        values = state + constants
        for s in tl.static_range(len(TASKS)):
            out = ()
            if TASKS[s].kind == PRODUCT:
                acc = no_product(UNITS * TASKS[s].rows, BLOCK_B, TILES[TASKS[s].index].split)
                i_k = as_rows(positions(TILES[TASKS[s].index].split, BLOCK_K))
                if RESIDENT:
                    for g in tl.static_range(constant(TILES[TASKS[s].index].groups)):
                        start_k = g * TILES[TASKS[s].index].split * BLOCK_K
                        m_k = (i_k < D - start_k) & m_b
                        if TASKS[s].source < 0:
                            o_h = start_k + (first_unit + i_b * H + i_k)
                            h_before_ptr = h_ptr + before * stride_slot
                            source = state_block(h_before_ptr, dropped_ptr, o_h, m_k, reset, HAS_RESET, HAS_DROPPED)
                        else:
                            source_ptr = step_saved_ptr + TASKS[s].source * H + start_k
                            o_source = first_unit + i_b * S * H + i_k
                            source = tl.load(source_ptr + o_source, mask=m_k, other=0.0, cache_modifier=".cg")
                            if HAS_DROPPED and TASKS[s].drops:
                                o_h = start_k + (first_unit + i_b * H + i_k)
                                kept_units = tl.load(dropped_ptr + o_h, mask=m_k, other=0.0)
                                source = (source * kept_units).to(source.dtype)
                        acc = tl.dot(weights[TILES[TASKS[s].index].numbers[g]], source, acc, input_precision=PRECISION)
                else:
                    for g in range(0, TILES[TASKS[s].index].groups):
                        start_k = g * BLOCK_K
                        m_k = (i_k < D - start_k) & m_b
                        o_h = start_k + (first_unit + i_b * H + i_k)
                        h_before_ptr = h_ptr + before * stride_slot
                        source = state_block(h_before_ptr, dropped_ptr, o_h, m_k, reset, HAS_RESET, HAS_DROPPED)
                        tile = gate_rows(weight_ptr, constant(TASKS[s]), start_k, D, UNITS, BLOCK_K, 1)
                        acc = tl.dot(tile, source, acc, input_precision=PRECISION)
                acc = sum_of_blocks(acc, UNITS * TASKS[s].rows, BLOCK_B, TILES[TASKS[s].index].split)
                parts = split_rows(acc, UNITS, TASKS[s].rows, BLOCK_B)
                for k in tl.static_range(len(TASKS[s].out)):
                    part = parts[k]
                    if TASKS[s].vector >= 0:
                        part += tl.load(vectors_ptr + (TASKS[s].vector + k) * H + i_u, mask=m_u, other=0.0)
                    if len(TASKS[s].x) > 0:
                        part += x[TASKS[s].x[k]].to(tl.float32)
                    out = out + (part,)

            if TASKS[s].kind == MOMENTS:
                norm_ptr = step_sums_ptr + TASKS[s].index * tl.num_programs(0) * 2 * B
                mean, squares = moments(chosen(values, constant(TASKS[s].reads)), len(TASKS[s].reads) * my_units, m_u)
                store_pair(norm_ptr, mean, squares, i_b, B, m_b)

            if TASKS[s].kind == NORM:
                if PROGRAMS == 1:
                    mean, squares = moments(chosen(values, constant(TASKS[s].reads)), len(TASKS[s].reads) * H, m_u)
                else:
                    norm_ptr = step_sums_ptr + TASKS[s].index * tl.num_programs(0) * 2 * B
                    mean, squares = merged_moments(norm_ptr, i_b, B, H, m_b, len(TASKS[s].reads), UNITS, PROGRAMS)
                rstd = 1.0 / tl.sqrt(squares / (len(TASKS[s].reads) * H) + EPS)
                if KEEP:
                    o_rstd = (t * N + TASKS[s].index) * B + i_b
                    tl.store(rstd_ptr + o_rstd, rstd, mask=m_b & (tl.program_id(0) == 0))
                for k in tl.static_range(len(TASKS[s].reads)):
                    z = (values[TASKS[s].reads[k]] - mean) * rstd
                    if KEEP:
                        tl.store(step_saved_ptr + TASKS[s].saved[k] * H + o_saved, z, mask=m)
                    value = z * tl.load(vectors_ptr + (TASKS[s].vector + k) * H + i_u, mask=m_u, other=0.0)
                    if TASKS[s].shift >= 0:
                        value += tl.load(vectors_ptr + (TASKS[s].shift + k) * H + i_u, mask=m_u, other=0.0)
                    out = out + (value,)

            if TASKS[s].kind == GATES:
                gates = ()
                for k in tl.static_range(constant(TASKS[s].gates)):
                    if k < len(TASKS[s].x):
                        gate = x[TASKS[s].x[k]].to(tl.float32)
                        if k < len(TASKS[s].reads) - TASKS[s].split:
                            gate += values[TASKS[s].reads[k]]
                    else:
                        gate = values[TASKS[s].reads[k - TASKS[s].split]]
                    gates = gates + (gate,)
                carried = chosen(values, constant(TASKS[s].carried))
                if TASKS[s].candidate:
                    carried = carried + (
                        candidate_mask(key_ptr, t, i_drawn, i_quad, candidate_threshold, candidate_scale),
                    )
                if TASKS[s].index == 0:
                    out, saved = MATHS_0(gates, carried)
                else:
                    out, saved = MATHS_1(gates, carried)
                if KEEP:
                    for k in tl.static_range(len(TASKS[s].saved)):
                        tl.store(step_saved_ptr + TASKS[s].saved[k] * H + o_saved, saved[k], mask=m)

            if TASKS[s].kind == WAIT:
                if BARRIER:
                    target = (step * (WAITS + 1) + TASKS[s].index + 1) * tl.num_programs(0)
                    tile_barrier_ptr = barrier_ptr + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
                    in_time = wait_for_all(tile_barrier_ptr, target, in_time)
                else:
                    tl.debug_barrier()
            for k in tl.static_range(len(out)):
                if KEPT[TASKS[s].out[k]] >= 0:
                    tl.store(step_saved_ptr + KEPT[TASKS[s].out[k]] * H + o_saved, out[k], mask=m)
            values = values + out

        if COMPLETE:
            new = chosen(values, NEW)
            if ZONE:
                mixed = ()
                for k in tl.static_range(K):
                    rate = zoneout_0 if k == 0 else zoneout_1
                    part = zoneout_part(key_ptr, t, k, i_drawn, i_quad, rate, ZONE == 1)
                    mixed = mixed + (between(state[k], new[k], part),)
                new = mixed
            # As the next step's product and backward will read it.
            kept = (new[0].to(h_ptr.dtype.element_ty).to(tl.float32),)
            for k in tl.static_range(1, K):
                kept = kept + (new[k],)
            if HAS_MASK:
                inside = tl.load(mask_ptr + t * B + i_b, mask=m_b, other=0) != 0
                held = ()
                for k in tl.static_range(K):
                    held = held + (tl.where(inside, kept[k], state[k]),)
                kept = held
            state = kept
            h_new = state[0]
            if BARRIER:  # one given up must not look like a result; the others read it, so it spreads
                h_new += tl.where(in_time, 0.0, float("nan"))
            tl.store(h_ptr + after * stride_slot + o_state, h_new, mask=m)
            for k in tl.static_range(K - 1):
                tl.store(rest_ptr + after * stride_slot * (K - 1) + k * H + o_rest, state[k + 1], mask=m)
        if BARRIER:
            target = (step + 1) * (WAITS + 1) * tl.num_programs(0)
            tile_barrier_ptr = barrier_ptr + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
            in_time = wait_for_all(tile_barrier_ptr, target, in_time)
        elif len(PRODUCTS) > 0:
            tl.debug_barrier()
    if BARRIER:  # what was given up after the last step shows, too
        last_ptr = h_ptr + tl.cast((1 - back) * T, tl.int64) * stride_slot
        tl.store(last_ptr + o_state, float("nan") + 0.0 * state[0], mask=m & (in_time == 0))
