"""The backward kernel: each task is the gradient of one of kernel_forward.py, in the reverse order.

It writes gradients of pre-activations alone, out of which run.py makes those of weights and of the input. A program has
the transposed slices of the weights and the gradients of its units' states, and reads, after a wait, the pre-activation
gradients of all units that a product went to. With `parts` it multiplies its own by its rows of the weights, as they
are, and leaves a part of the gradient for each unit of the head, (2, programs, B, H) in fp32; each program then sums
those of its units in the order of programs.

With LATE, for a chain of one product, that product comes late, at the start of the step before: a launch of one step
then has all that it reads from the launch before it, and fewer values are in registers meanwhile. Gradients and
resets have a slot of zeros at either end; the product of the first step is made outside.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.schedules.persistent.device import (
    GATES,
    HAND_BACK,
    MOMENTS,
    NORM,
    NOT_SPECIALIZED,
    PARTS,
    PRODUCT,
    WAIT,
    added,
    candidate_mask,
    chosen,
    constant,
    gate_columns,
    load_pairs,
    norm_upstream,
    product_gradient,
    products,
    read_states,
    store_pair,
    sum_of_parts,
    total,
    unit_rows,
    wait_for_all,
    zeroed,
    zoneout_part,
)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def _backward_kernel(
    doutput_ptr,
    dstate_ptr,
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
    grads_ptr,
    dconstants_ptr,
    unclipped_ptr,
    sums_ptr,
    parts_ptr,
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
    clip,
    MATHS_0: tl.constexpr,
    MATHS_1: tl.constexpr,
    TASKS: tl.constexpr,
    PRODUCTS: tl.constexpr,
    TILES: tl.constexpr,
    NEW: tl.constexpr,
    KEPT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
    WAITS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_RESET: tl.constexpr,
    HAS_DROPPED: tl.constexpr,
    ZONE: tl.constexpr,
    CLIP: tl.constexpr,
    HEADS: tl.constexpr,
    REVERSE: tl.constexpr,
    LATE: tl.constexpr,
    COMPLETE: tl.constexpr,
    BARRIER: tl.constexpr,
    RESIDENT: tl.constexpr,
    PROGRAMS: tl.constexpr,
    PRECISION: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Go from position `first_position` + `num_positions` - 1 down to `first_position`."""
    K: tl.constexpr = len(NEW)
    if not HEADS:
        D = H
    if REVERSE == 2:
        back = (2 * tl.program_id(2) >= tl.num_programs(2)).to(tl.int32)
    else:
        back = REVERSE
    sign = 1 - 2 * back
    i_unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[:, None]
    i_b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[None, :]
    m_u, m_b = i_unit < D, i_b < B
    m = m_u & m_b
    i_u, first_unit = i_unit, 0
    if HEADS:
        first_unit = tl.program_id(2) * D
        weight_ptr += tl.program_id(2).to(tl.int64) * R * D * D
        i_u += first_unit
    o_state, o_rest, o_saved, o_grad = i_b * H + i_u, i_b * (K - 1) * H + i_u, i_b * S * H + i_u, i_b * G * H + i_u
    stride_slot = tl.cast(B, tl.int64) * H
    zero = tl.zeros((UNITS, BLOCK_B), tl.float32)
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
            for j in tl.static_range(len(TILES[p].numbers)):
                gate = PRODUCTS[p].weight + j // TILES[p].groups
                start_k = j % TILES[p].groups * TILES[p].split * BLOCK_K
                if TILES[p].parts:
                    loaded = unit_rows(weight_ptr, gate, start_k, D, UNITS, BLOCK_K)
                else:
                    loaded = gate_columns(weight_ptr, gate, start_k, i_unit, D, BLOCK_K, TILES[p].split)
                weights = weights + (loaded,)
    constants, dconstants, dstate = (), (), ()
    for k in tl.static_range(C):
        constants = constants + (tl.load(vectors_ptr + k * H + i_u, mask=m_u, other=0.0),)
        dconstants = dconstants + (tl.load(dconstants_ptr + (i_b * C + k) * H + i_u, mask=m, other=0.0),)
    for k in tl.static_range(K):
        dstate = dstate + (tl.load(dstate_ptr + (i_b * K + k) * H + i_u, mask=m, other=0.0),)
    end = first_position + num_positions
    slot = tl.cast(back * T + sign * end, tl.int64)
    state = read_states(h_ptr, rest_ptr, slot, o_state, o_rest, stride_slot, H, m, K)
    in_time, direct, totals = num_positions > 0, dstate, dconstants  # false once a barrier was given up
    for step in range(0, num_positions):
        position = end - 1 - step
        t = tl.cast(back * (T - 1) + sign * position, tl.int64)
        step_saved_ptr = saved_ptr + t * stride_slot * S
        step_grads_ptr = grads_ptr + t * stride_slot * G
        step_sums_ptr = sums_ptr + (t % 2) * N * tl.num_programs(0) * 2 * B
        step_parts_ptr = parts_ptr + (t % 2) * tl.num_programs(0) * stride_slot
        if LATE:
            following = t + sign
            if TILES[0].parts:
                last_parts_ptr = parts_ptr + (following % 2) * tl.num_programs(0) * stride_slot
                acc = sum_of_parts(last_parts_ptr, o_state, stride_slot, m & (position < T - 1))
            else:
                acc = product_gradient(
                    weight_ptr,
                    weights,
                    grads_ptr + following * stride_slot * G,
                    constant(PRODUCTS[0]),
                    constant(TILES[0]),
                    i_unit,
                    first_unit + i_b * G * H,
                    m_b,
                    D,
                    H,
                    RESIDENT,
                    PRECISION,
                    UNITS,
                    BLOCK_B,
                    BLOCK_K,
                )
            if HAS_RESET:
                acc = tl.where(tl.load(reset_ptr + following * B + i_b, mask=m_b, other=0) != 0, 0.0, acc)
            if HAS_DROPPED:
                acc *= tl.load(dropped_ptr + o_state, mask=m, other=0.0).to(tl.float32)
            dstate = added(dstate, 0, acc)
        stored = read_states(h_ptr, rest_ptr, t + back, o_state, o_rest, stride_slot, H, m, K)
        values = stored
        if HAS_RESET:
            reset = tl.load(reset_ptr + t * B + i_b, mask=m_b, other=0) != 0
            values = zeroed(stored, reset)
        values = values + constants
        # Those of the step that some stage reads: from where they are kept, or the states after it.
        for v in tl.static_range(K + C, len(KEPT)):
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
        dnew = upstream  # of the values before zoneout
        if ZONE:
            dnew = ()
            for k in tl.static_range(K):
                rate = zoneout_0 if k == 0 else zoneout_1
                part = zoneout_part(key_ptr, t, k, i_drawn, i_quad, rate, ZONE == 1)
                dnew = dnew + (upstream[k] * part,)
        dvalues = ()
        for _ in tl.static_range(len(KEPT)):
            dvalues = dvalues + (zero,)
        for k in tl.static_range(K):
            dvalues = added(dvalues, NEW[k], dnew[k])

        for s in tl.static_range(len(TASKS)):
            if TASKS[s].kind == GATES:
                saved = ()
                for k in tl.static_range(len(TASKS[s].saved)):
                    value_ptr = step_saved_ptr + TASKS[s].saved[k] * H
                    saved = saved + (tl.load(value_ptr + o_saved, mask=m, other=0.0).to(tl.float32),)
                carried = chosen(values, constant(TASKS[s].carried))
                if TASKS[s].candidate:
                    carried = carried + (
                        candidate_mask(key_ptr, t, i_drawn, i_quad, candidate_threshold, candidate_scale),
                    )
                new, douts = chosen(values, constant(TASKS[s].out)), chosen(dvalues, constant(TASKS[s].out))
                if TASKS[s].index == 0:
                    dgates, dcarried = MATHS_0(douts, saved, carried, new)
                else:
                    dgates, dcarried = MATHS_1(douts, saved, carried, new)
                if HAS_MASK:
                    dgates, dcarried = zeroed(dgates, inside == 0), zeroed(dcarried, inside == 0)
                for k in tl.static_range(len(TASKS[s].grads)):
                    dgate = dgates[k]
                    if BARRIER and k == 0:  # one given up must not look like a result
                        dgate += tl.where(in_time, 0.0, float("nan"))
                    tl.store(step_grads_ptr + TASKS[s].grads[k] * H + o_grad, dgate, mask=m)
                    if k < len(TASKS[s].reads) - TASKS[s].split:
                        dvalues = added(dvalues, TASKS[s].reads[k], dgate)
                    if len(TASKS[s].reads) > 0:
                        if k >= len(TASKS[s].reads):
                            dvalues = added(dvalues, TASKS[s].reads[k - TASKS[s].split], dgate)
                for k in tl.static_range(len(TASKS[s].carried)):
                    dvalues = added(dvalues, TASKS[s].carried[k], dcarried[k])

            if TASKS[s].kind == MOMENTS:
                dys = chosen(dvalues, constant(TASKS[s].out))
                zs, us = norm_upstream(dys, step_saved_ptr, vectors_ptr, constant(TASKS[s]), o_saved, i_u, H, m)
                norm_ptr = step_sums_ptr + TASKS[s].index * tl.num_programs(0) * 2 * B
                store_pair(norm_ptr, total(us, m_u), total(products(us, zs), m_u), i_b, B, m_b)

            if TASKS[s].kind == NORM:
                dys = chosen(dvalues, constant(TASKS[s].out))
                for k in tl.static_range(len(TASKS[s].keeps)):
                    tl.store(step_grads_ptr + TASKS[s].keeps[k] * H + o_grad, dys[k], mask=m)
                zs, us = norm_upstream(dys, step_saved_ptr, vectors_ptr, constant(TASKS[s]), o_saved, i_u, H, m)
                if PROGRAMS == 1:
                    sum_u, sum_uz = total(us, m_u), total(products(us, zs), m_u)
                else:
                    norm_ptr = step_sums_ptr + TASKS[s].index * tl.num_programs(0) * 2 * B
                    all_u, all_uz = load_pairs(norm_ptr, i_b, B, m_b, PROGRAMS)
                    sum_u = tl.sum(all_u, axis=0, keep_dims=True)
                    sum_uz = tl.sum(all_uz, axis=0, keep_dims=True)
                scale = 1.0 / (len(TASKS[s].reads) * H)
                rstd = tl.load(rstd_ptr + (t * N + TASKS[s].index) * B + i_b, mask=m_b, other=0.0)
                for k in tl.static_range(len(TASKS[s].reads)):
                    dsource = rstd * (us[k] - sum_u * scale - zs[k] * (sum_uz * scale))
                    if BARRIER and k == 0:  # given up since the gate update, perhaps, and nothing may follow
                        dsource += tl.where(in_time, 0.0, float("nan"))
                    if len(TASKS[s].grads) > 0:
                        tl.store(step_grads_ptr + TASKS[s].grads[k] * H + o_grad, dsource, mask=m)
                    dvalues = added(dvalues, TASKS[s].reads[k], dsource)

            if TASKS[s].kind == PARTS:
                program_parts_ptr = step_parts_ptr + tl.program_id(0) * stride_slot
                i_k = tl.arange(0, BLOCK_K)[:, None]
                for k in tl.static_range(constant(TILES[TASKS[s].index].groups)):
                    part = tl.zeros((BLOCK_K, BLOCK_B), tl.float32)
                    for j in tl.static_range(len(TASKS[s].out)):
                        dgate = dvalues[TASKS[s].out[j]].to(weight_ptr.dtype.element_ty)
                        tile = weights[TILES[TASKS[s].index].numbers[j * TILES[TASKS[s].index].groups + k]]
                        part = tl.dot(tile, dgate, part, input_precision=PRECISION)
                    m_k = (i_k < D - k * BLOCK_K) & m_b
                    tl.store(program_parts_ptr + k * BLOCK_K + (first_unit + i_b * H + i_k), part, mask=m_k)

            if TASKS[s].kind == PRODUCT:
                if TILES[TASKS[s].index].parts:
                    acc = sum_of_parts(step_parts_ptr, o_state, stride_slot, m)
                else:
                    acc = product_gradient(
                        weight_ptr,
                        weights,
                        step_grads_ptr,
                        constant(TASKS[s]),
                        constant(TILES[TASKS[s].index]),
                        i_unit,
                        first_unit + i_b * G * H,
                        m_b,
                        D,
                        H,
                        RESIDENT,
                        PRECISION,
                        UNITS,
                        BLOCK_B,
                        BLOCK_K,
                    )
                if HAS_DROPPED and TASKS[s].drops:
                    acc *= tl.load(dropped_ptr + o_state, mask=m, other=0.0).to(tl.float32)
                if TASKS[s].last:
                    if HAS_RESET:
                        acc = tl.where(reset, 0.0, acc)
                    direct = added(direct, 0, acc)
                else:
                    dvalues = added(dvalues, TASKS[s].reads[0], acc)

            if TASKS[s].kind == HAND_BACK:
                direct = ()
                for k in tl.static_range(K):
                    part = dvalues[k]
                    if ZONE:
                        part += upstream[k] - dnew[k]
                    if HAS_MASK:
                        part = tl.where(inside, part, dstate[k])
                    direct = direct + (part,)
                if HAS_RESET:
                    direct = zeroed(direct, reset)
                totals = ()
                for k in tl.static_range(C):
                    totals = totals + (dconstants[k] + dvalues[K + k],)

            if TASKS[s].kind == WAIT:
                if BARRIER:
                    target = (step * WAITS + TASKS[s].index + 1) * tl.num_programs(0)
                    tile_barrier_ptr = barrier_ptr + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
                    in_time = wait_for_all(tile_barrier_ptr, target, in_time)
                else:
                    tl.debug_barrier()

        if COMPLETE:
            if CLIP:
                clipped = ()
                for k in tl.static_range(K):
                    if CLIP == 2:  # what comes in is counted outside
                        unclipped = tl.where(inside, direct[k], 0.0)
                        tl.store(unclipped_ptr + (t * B * K + k) * H + i_b * K * H + i_u, unclipped, mask=m)
                    part = tl.where(direct[k] > clip, clip, direct[k])  # NaN stays
                    part = tl.where(part < -clip, -clip, part)
                    clipped = clipped + (tl.where(inside, part, direct[k]),)
                direct = clipped
            dconstants, dstate, state = totals, direct, stored
    for k in tl.static_range(K):
        value = dstate[k]
        if BARRIER:
            value = tl.where(in_time, value, float("nan"))
        tl.store(dstate_ptr + (i_b * K + k) * H + i_u, value, mask=m)
    for k in tl.static_range(C):
        tl.store(dconstants_ptr + (i_b * C + k) * H + i_u, dconstants[k], mask=m)
        if BARRIER:  # apart: to choose what is stored would spill
            lost = float("nan") + 0.0 * dconstants[k]
            tl.store(dconstants_ptr + (i_b * C + k) * H + i_u, lost, mask=m & (in_time == 0))
