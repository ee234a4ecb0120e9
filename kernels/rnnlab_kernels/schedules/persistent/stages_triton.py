"""Kernels of stages.py: the whole sequence in one launch, for steps of several products, norms and gate updates.

A program owns UNITS units of BLOCK_B rows. It keeps its slices of all weights on the chip and the states of its units
in registers, and unrolls the stages of a step as `stages_wiring` counts them: every value is a tile or a few, one after
the other in a tuple. What a stage needs of other programs' units (the sums of a norm, what a product multiplies) goes
through global memory, with a wait at a grid barrier before it is read. A program that is ahead overwrites nothing that
another still has to read: such values have a place for each step or, for the sums of norms, for even and odd ones.

Where programs cannot wait for each other, in Triton's interpreter, a launch does a step only up to one of its waits. It
computes again what the launches before it did, from the same values to the same values; the last one, COMPLETE, does
the whole step and moves the states on.

As in sequence_triton.py units are rows and batch elements columns; forward, rows of the weights are interleaved.
Storage is fp32, fp16 or bf16; products accumulate in fp32 and registers are fp32. B, H and T are run-time values;
offsets over time are 64 bits wide, those within a step 32.

Both kernels stand in one file, past 400 lines: each stage of the second is the gradient of one of the first.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.schedules.persistent import stages_wiring
from rnnlab_kernels.schedules.persistent.sequence_device import (
    between,
    candidate_mask,
    read_states,
    split_rows,
    wait_for_all,
    zeroed,
    zoneout_part,
)
from rnnlab_kernels.schedules.persistent.stages_device import (
    added,
    as_columns,
    as_rows,
    chosen,
    constant,
    load_pairs,
    merged_moments,
    moments,
    no_product,
    norm_upstream,
    positions,
    products,
    store_pair,
    total,
    whole_product,
)

PRODUCT, NORM, GATES = (
    tl.constexpr(stages_wiring.PRODUCT),
    tl.constexpr(stages_wiring.NORM),
    tl.constexpr(stages_wiring.GATES),
)
PARTIAL, WAIT = tl.constexpr(stages_wiring.PARTIAL), tl.constexpr(stages_wiring.WAIT)
NOT_SPECIALIZED = [
    *("T", "B", "first_position", "num_positions", "key_0", "key_1", "first_step"),
    *("candidate_threshold", "candidate_scale", "zoneout_0", "zoneout_1"),
]


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def _stages_fwd_kernel(
    gates_x_ptr,
    weight_ptr,
    vectors_ptr,
    mask_ptr,
    reset_ptr,
    dropped_ptr,
    h_ptr,
    rest_ptr,
    saved_ptr,
    rstd_ptr,
    sums_ptr,
    barrier_ptr,
    T,
    B,
    H,
    first_position,
    num_positions,
    key_0,
    key_1,
    first_step,
    candidate_threshold,
    candidate_scale,
    zoneout_0,
    zoneout_1,
    MATHS_0: tl.constexpr,
    MATHS_1: tl.constexpr,
    STEPS: tl.constexpr,
    PRODUCTS: tl.constexpr,
    TILES: tl.constexpr,
    NEW: tl.constexpr,
    KEPT: tl.constexpr,
    X: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    WAITS: tl.constexpr,
    EPS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_RESET: tl.constexpr,
    HAS_DROPPED: tl.constexpr,
    ZONE: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP: tl.constexpr,
    COMPLETE: tl.constexpr,
    BARRIER: tl.constexpr,
    PROGRAMS: tl.constexpr,
    PRECISION: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    K: tl.constexpr = len(NEW)
    i_u = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[:, None]
    i_b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[None, :]
    m_u, m_b = i_u < H, i_b < B
    m = m_u & m_b
    o_state, o_rest, o_saved, o_x = i_b * H + i_u, i_b * (K - 1) * H + i_u, i_b * S * H + i_u, i_b * X * H + i_u
    stride_slot = tl.cast(B, tl.int64) * H
    my_units = tl.minimum(H - tl.program_id(0) * UNITS, UNITS)
    i_drawn = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]  # rows, as random masks are made
    i_quad = tl.program_id(0) * (UNITS // 4) + tl.arange(0, UNITS // 4)[None, :]

    weights = ()
    for p in tl.static_range(len(PRODUCTS)):
        rows = tl.arange(0, UNITS * PRODUCTS[p].rows)[:, None]
        i_unit, i_gate = tl.program_id(0) * UNITS + rows // PRODUCTS[p].rows, rows % PRODUCTS[p].rows
        for g in tl.static_range(len(TILES[p].numbers)):
            i_column = as_columns(positions(TILES[p].split, BLOCK_K)) + g * TILES[p].split * BLOCK_K
            m_weight = (i_gate < len(PRODUCTS[p].out)) & (i_unit < H) & (i_column < H)
            o_weight = ((PRODUCTS[p].weight + i_gate) * H + i_unit) * H + i_column
            weights = weights + (tl.load(weight_ptr + o_weight, mask=m_weight, other=0.0),)

    start = tl.cast(T - first_position if REVERSE else first_position, tl.int64)
    state = read_states(h_ptr, rest_ptr, start, o_state, o_rest, stride_slot, H, m, K)
    alive = num_positions > 0  # false once a barrier was given up
    for step in range(0, num_positions):
        position = first_position + step
        t = tl.cast(T - 1 - position if REVERSE else position, tl.int64)
        before = t + 1 if REVERSE else t
        after = t if REVERSE else t + 1
        t_saved = t if KEEP else t % 2
        step_saved_ptr = saved_ptr + t_saved * stride_slot * S
        step_sums_ptr = sums_ptr + (t % 2) * N * tl.num_programs(0) * 2 * B
        step_index = first_step + t.to(tl.int32)
        if HAS_RESET:
            anew = tl.load(reset_ptr + t * B + i_b, mask=m_b, other=0) != 0
            state = zeroed(state, anew)
        x = ()  # asked for now, since it comes from afar
        for k in tl.static_range(X):
            x = x + (tl.load(gates_x_ptr + t * stride_slot * X + k * H + o_x, mask=m, other=0.0),)
        values = state
        for s in tl.static_range(len(STEPS)):
            out = ()
            if STEPS[s].kind == PRODUCT:
                acc = no_product(UNITS * STEPS[s].rows, BLOCK_B, TILES[STEPS[s].index].split)
                i_k = as_rows(positions(TILES[STEPS[s].index].split, BLOCK_K))
                for g in tl.static_range(len(TILES[STEPS[s].index].numbers)):
                    start_k = g * TILES[STEPS[s].index].split * BLOCK_K
                    m_k = (i_k < H - start_k) & m_b
                    # Written by other programs before the last wait: past L1, which they do not share.
                    if STEPS[s].source < 0:
                        source_ptr = h_ptr + before * stride_slot + start_k
                        source = tl.load(source_ptr + (i_b * H + i_k), mask=m_k, other=0.0, cache_modifier=".cg")
                        if HAS_RESET:
                            source = tl.where(anew, 0.0, source).to(source.dtype)
                        if HAS_DROPPED:
                            source *= tl.load(dropped_ptr + start_k + (i_b * H + i_k), mask=m_k, other=0.0)
                    else:
                        source_ptr = step_saved_ptr + STEPS[s].source * H + start_k
                        source = tl.load(source_ptr + (i_b * S * H + i_k), mask=m_k, other=0.0, cache_modifier=".cg")
                    acc = tl.dot(weights[TILES[STEPS[s].index].numbers[g]], source, acc, input_precision=PRECISION)
                acc = whole_product(acc, UNITS * STEPS[s].rows, BLOCK_B, TILES[STEPS[s].index].split)
                parts = split_rows(acc, UNITS, STEPS[s].rows, BLOCK_B)
                for k in tl.static_range(len(STEPS[s].out)):
                    part = parts[k]
                    if STEPS[s].vector >= 0:
                        part += tl.load(vectors_ptr + (STEPS[s].vector + k) * H + i_u, mask=m_u, other=0.0)
                    if len(STEPS[s].x) > 0:
                        part += x[STEPS[s].x[k]].to(tl.float32)
                    out = out + (part,)

            if STEPS[s].kind == PARTIAL:
                norm_ptr = step_sums_ptr + STEPS[s].index * tl.num_programs(0) * 2 * B
                mean, squares = moments(chosen(values, constant(STEPS[s].reads)), len(STEPS[s].reads) * my_units, m_u)
                store_pair(norm_ptr, mean, squares, i_b, B, m_b)

            if STEPS[s].kind == NORM:
                if PROGRAMS == 1:
                    mean, squares = moments(chosen(values, constant(STEPS[s].reads)), len(STEPS[s].reads) * H, m_u)
                else:
                    norm_ptr = step_sums_ptr + STEPS[s].index * tl.num_programs(0) * 2 * B
                    mean, squares = merged_moments(norm_ptr, i_b, B, H, m_b, len(STEPS[s].reads), UNITS, PROGRAMS)
                rstd = 1.0 / tl.sqrt(squares / (len(STEPS[s].reads) * H) + EPS)
                if KEEP:
                    o_rstd = (t * N + STEPS[s].index) * B + i_b
                    tl.store(rstd_ptr + o_rstd, rstd, mask=m_b & (tl.program_id(0) == 0))
                for k in tl.static_range(len(STEPS[s].reads)):
                    z = (values[STEPS[s].reads[k]] - mean) * rstd
                    if KEEP:
                        tl.store(step_saved_ptr + STEPS[s].saved[k] * H + o_saved, z, mask=m)
                    value = z * tl.load(vectors_ptr + (STEPS[s].vector + k) * H + i_u, mask=m_u, other=0.0)
                    if STEPS[s].shift >= 0:
                        value += tl.load(vectors_ptr + (STEPS[s].shift + k) * H + i_u, mask=m_u, other=0.0)
                    out = out + (value,)

            if STEPS[s].kind == GATES:
                gates = ()
                for k in tl.static_range(len(STEPS[s].reads) + STEPS[s].split):
                    if k < len(STEPS[s].x):
                        gate = x[STEPS[s].x[k]].to(tl.float32)
                        if k < len(STEPS[s].reads) - STEPS[s].split:
                            gate += values[STEPS[s].reads[k]]
                    else:
                        gate = values[STEPS[s].reads[k - STEPS[s].split]]
                    gates = gates + (gate,)
                carried = chosen(values, constant(STEPS[s].carried))
                if STEPS[s].candidate:
                    carried = carried + (
                        candidate_mask(key_0, key_1, step_index, i_drawn, i_quad, candidate_threshold, candidate_scale),
                    )
                if STEPS[s].index == 0:
                    out, saved = MATHS_0(gates, carried)
                else:
                    out, saved = MATHS_1(gates, carried)
                if KEEP:
                    for k in tl.static_range(len(STEPS[s].saved)):
                        tl.store(step_saved_ptr + STEPS[s].saved[k] * H + o_saved, saved[k], mask=m)

            if STEPS[s].kind == WAIT:
                if BARRIER:
                    target = (step * (WAITS + 1) + STEPS[s].index + 1) * tl.num_programs(0)
                    alive = wait_for_all(barrier_ptr + tl.program_id(1), target, alive)
                else:
                    tl.debug_barrier()
            for k in tl.static_range(len(out)):
                if KEPT[STEPS[s].out[k]] >= 0:
                    tl.store(step_saved_ptr + KEPT[STEPS[s].out[k]] * H + o_saved, out[k], mask=m)
            values = values + out

        if COMPLETE:
            new = chosen(values, NEW)
            if ZONE:
                mixed = ()
                for k in tl.static_range(K):
                    rate = zoneout_0 if k == 0 else zoneout_1
                    part = zoneout_part(key_0, key_1, k, step_index, i_drawn, i_quad, rate, ZONE == 1)
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
                h_new += tl.where(alive, 0.0, float("nan"))
            tl.store(h_ptr + after * stride_slot + o_state, h_new, mask=m)
            for k in tl.static_range(K - 1):
                tl.store(rest_ptr + after * stride_slot * (K - 1) + k * H + o_rest, state[k + 1], mask=m)
        if BARRIER:
            target = (step + 1) * (WAITS + 1) * tl.num_programs(0)
            alive = wait_for_all(barrier_ptr + tl.program_id(1), target, alive)
        else:
            tl.debug_barrier()
    if BARRIER:  # what was given up after the last step shows, too
        last_ptr = h_ptr + tl.cast(0 if REVERSE else T, tl.int64) * stride_slot
        tl.store(last_ptr + o_state, float("nan") + 0.0 * state[0], mask=m & (alive == 0))


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def _stages_bwd_kernel(
    doutput_ptr,
    dstate_ptr,
    weight_ptr,
    vectors_ptr,
    mask_ptr,
    reset_ptr,
    dropped_ptr,
    h_ptr,
    rest_ptr,
    saved_ptr,
    rstd_ptr,
    grads_ptr,
    sums_ptr,
    barrier_ptr,
    T,
    B,
    H,
    first_position,
    num_positions,
    key_0,
    key_1,
    first_step,
    candidate_threshold,
    candidate_scale,
    zoneout_0,
    zoneout_1,
    MATHS_0: tl.constexpr,
    MATHS_1: tl.constexpr,
    STEPS: tl.constexpr,
    PRODUCTS: tl.constexpr,
    TILES: tl.constexpr,
    NEW: tl.constexpr,
    KEPT: tl.constexpr,
    D: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    WAITS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_RESET: tl.constexpr,
    HAS_DROPPED: tl.constexpr,
    ZONE: tl.constexpr,
    REVERSE: tl.constexpr,
    COMPLETE: tl.constexpr,
    BARRIER: tl.constexpr,
    PROGRAMS: tl.constexpr,
    PRECISION: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Walk from position `first_position` + `num_positions` - 1 down to `first_position`."""
    K: tl.constexpr = len(NEW)
    i_u = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[:, None]
    i_b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[None, :]
    m_u, m_b = i_u < H, i_b < B
    m = m_u & m_b
    o_state, o_rest, o_saved, o_grad = i_b * H + i_u, i_b * (K - 1) * H + i_u, i_b * S * H + i_u, i_b * D * H + i_u
    stride_slot = tl.cast(B, tl.int64) * H
    zero = tl.zeros((UNITS, BLOCK_B), tl.float32)
    i_drawn = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]  # rows, as random masks are made
    i_quad = tl.program_id(0) * (UNITS // 4) + tl.arange(0, UNITS // 4)[None, :]

    weights = ()  # transposed: rows are the units that were multiplied
    for p in tl.static_range(len(PRODUCTS)):
        for j in tl.static_range(len(TILES[p].numbers)):
            i_row = as_columns(positions(TILES[p].split, BLOCK_K)) + j % TILES[p].groups * TILES[p].split * BLOCK_K
            o_weight = ((PRODUCTS[p].weight + j // TILES[p].groups) * H + i_row) * H + i_u
            weights = weights + (tl.load(weight_ptr + o_weight, mask=(i_row < H) & m_u, other=0.0),)
    dstate = ()
    for k in tl.static_range(K):
        dstate = dstate + (tl.load(dstate_ptr + (i_b * K + k) * H + i_u, mask=m, other=0.0),)
    end = first_position + num_positions
    slot = tl.cast(T - end if REVERSE else end, tl.int64)
    state = read_states(h_ptr, rest_ptr, slot, o_state, o_rest, stride_slot, H, m, K)
    alive = num_positions > 0  # false once a barrier was given up
    for step in range(0, num_positions):
        position = end - 1 - step
        t = tl.cast(T - 1 - position if REVERSE else position, tl.int64)
        before = t + 1 if REVERSE else t
        step_saved_ptr = saved_ptr + t * stride_slot * S
        step_grads_ptr = grads_ptr + t * stride_slot * D
        step_sums_ptr = sums_ptr + (t % 2) * N * tl.num_programs(0) * 2 * B
        step_index = first_step + t.to(tl.int32)
        stored = read_states(h_ptr, rest_ptr, before, o_state, o_rest, stride_slot, H, m, K)
        values = stored
        if HAS_RESET:
            first = tl.load(reset_ptr + t * B + i_b, mask=m_b, other=0) != 0
            values = zeroed(stored, first)
        # Those of the step that some stage reads: from where they are kept, or the states after it.
        for v in tl.static_range(K, len(KEPT)):
            value = zero
            if KEPT[v] >= 0:
                value = tl.load(step_saved_ptr + KEPT[v] * H + o_saved, mask=m, other=0.0).to(tl.float32)
            for k in tl.static_range(K):
                if NEW[k] == v and KEPT[v] < 0:
                    value = state[k]
            values = values + (value,)

        upstream = (dstate[0] + tl.load(doutput_ptr + t * stride_slot + o_state, mask=m, other=0.0).to(tl.float32),)
        for k in tl.static_range(1, K):
            upstream = upstream + (dstate[k],)
        inside = m_b
        if HAS_MASK:  # outside its length a row only hands its state on: the gradient passes it untouched
            inside = tl.load(mask_ptr + t * B + i_b, mask=m_b, other=0) != 0
            upstream = zeroed(upstream, inside == 0)
        asked = upstream  # of the new values
        if ZONE:
            asked = ()
            for k in tl.static_range(K):
                rate = zoneout_0 if k == 0 else zoneout_1
                part = zoneout_part(key_0, key_1, k, step_index, i_drawn, i_quad, rate, ZONE == 1)
                asked = asked + (upstream[k] * part,)
        dvalues = ()
        for _ in tl.static_range(len(KEPT)):
            dvalues = dvalues + (zero,)
        for k in tl.static_range(K):
            dvalues = added(dvalues, NEW[k], asked[k])

        for s in tl.static_range(len(STEPS)):
            if STEPS[s].kind == GATES:
                saved = ()
                for k in tl.static_range(len(STEPS[s].saved)):
                    value_ptr = step_saved_ptr + STEPS[s].saved[k] * H
                    saved = saved + (tl.load(value_ptr + o_saved, mask=m, other=0.0).to(tl.float32),)
                carried = chosen(values, constant(STEPS[s].carried))
                if STEPS[s].candidate:
                    carried = carried + (
                        candidate_mask(key_0, key_1, step_index, i_drawn, i_quad, candidate_threshold, candidate_scale),
                    )
                new, dnew = chosen(values, constant(STEPS[s].out)), chosen(dvalues, constant(STEPS[s].out))
                if STEPS[s].index == 0:
                    dgates, dcarried = MATHS_0(dnew, saved, carried, new)
                else:
                    dgates, dcarried = MATHS_1(dnew, saved, carried, new)
                if HAS_MASK:
                    dgates, dcarried = zeroed(dgates, inside == 0), zeroed(dcarried, inside == 0)
                for k in tl.static_range(len(STEPS[s].grads)):
                    dgate = dgates[k]
                    if BARRIER and k == 0:  # one given up must not look like a result
                        dgate += tl.where(alive, 0.0, float("nan"))
                    tl.store(step_grads_ptr + STEPS[s].grads[k] * H + o_grad, dgate, mask=m)
                    if k < len(STEPS[s].reads) - STEPS[s].split:
                        dvalues = added(dvalues, STEPS[s].reads[k], dgate)
                    if k >= len(STEPS[s].reads):
                        dvalues = added(dvalues, STEPS[s].reads[k - STEPS[s].split], dgate)
                for k in tl.static_range(len(STEPS[s].carried)):
                    dvalues = added(dvalues, STEPS[s].carried[k], dcarried[k])

            if STEPS[s].kind == PARTIAL:
                dys = chosen(dvalues, constant(STEPS[s].out))
                zs, us = norm_upstream(dys, step_saved_ptr, vectors_ptr, constant(STEPS[s]), o_saved, i_u, H, m)
                norm_ptr = step_sums_ptr + STEPS[s].index * tl.num_programs(0) * 2 * B
                store_pair(norm_ptr, total(us, m_u), total(products(us, zs), m_u), i_b, B, m_b)

            if STEPS[s].kind == NORM:
                dys = chosen(dvalues, constant(STEPS[s].out))
                for k in tl.static_range(len(STEPS[s].keeps)):
                    tl.store(step_grads_ptr + STEPS[s].keeps[k] * H + o_grad, dys[k], mask=m)
                zs, us = norm_upstream(dys, step_saved_ptr, vectors_ptr, constant(STEPS[s]), o_saved, i_u, H, m)
                if PROGRAMS == 1:
                    sum_u, sum_uz = total(us, m_u), total(products(us, zs), m_u)
                else:
                    norm_ptr = step_sums_ptr + STEPS[s].index * tl.num_programs(0) * 2 * B
                    all_u, all_uz = load_pairs(norm_ptr, i_b, B, m_b, PROGRAMS)
                    sum_u = tl.sum(all_u, axis=0, keep_dims=True)
                    sum_uz = tl.sum(all_uz, axis=0, keep_dims=True)
                scale = 1.0 / (len(STEPS[s].reads) * H)
                rstd = tl.load(rstd_ptr + (t * N + STEPS[s].index) * B + i_b, mask=m_b, other=0.0)
                for k in tl.static_range(len(STEPS[s].reads)):
                    dsource = rstd * (us[k] - sum_u * scale - zs[k] * (sum_uz * scale))
                    if len(STEPS[s].grads) > 0:
                        tl.store(step_grads_ptr + STEPS[s].grads[k] * H + o_grad, dsource, mask=m)
                    dvalues = added(dvalues, STEPS[s].reads[k], dsource)

            if STEPS[s].kind == PRODUCT:
                acc = no_product(UNITS, BLOCK_B, TILES[STEPS[s].index].split)
                i_k = as_rows(positions(TILES[STEPS[s].index].split, BLOCK_K))
                for j in tl.static_range(len(TILES[STEPS[s].index].numbers)):
                    start_k = j % TILES[STEPS[s].index].groups * TILES[STEPS[s].index].split * BLOCK_K
                    gate_ptr = step_grads_ptr + STEPS[s].grads[j // TILES[STEPS[s].index].groups] * H + start_k
                    m_k = (i_k < H - start_k) & m_b
                    dgate = tl.load(gate_ptr + (i_b * D * H + i_k), mask=m_k, other=0.0, cache_modifier=".cg")
                    acc = tl.dot(weights[TILES[STEPS[s].index].numbers[j]], dgate, acc, input_precision=PRECISION)
                acc = whole_product(acc, UNITS, BLOCK_B, TILES[STEPS[s].index].split)
                if HAS_DROPPED and STEPS[s].source < 0:
                    acc *= tl.load(dropped_ptr + o_state, mask=m, other=0.0).to(tl.float32)
                dvalues = added(dvalues, STEPS[s].reads[0], acc)

            if STEPS[s].kind == WAIT:
                if BARRIER:
                    target = (step * WAITS + STEPS[s].index + 1) * tl.num_programs(0)
                    alive = wait_for_all(barrier_ptr + tl.program_id(1), target, alive)
                else:
                    tl.debug_barrier()

        if COMPLETE:
            direct = ()
            for k in tl.static_range(K):
                part = dvalues[k]
                if ZONE:
                    part += upstream[k] - asked[k]
                if HAS_MASK:
                    part = tl.where(inside, part, dstate[k])
                direct = direct + (part,)
            if HAS_RESET:
                direct = zeroed(direct, first)
            dstate, state = direct, stored
    for k in tl.static_range(K):
        value = dstate[k]
        if BARRIER:
            value = tl.where(alive, value, float("nan"))
        tl.store(dstate_ptr + (i_b * K + k) * H + i_u, value, mask=m)
