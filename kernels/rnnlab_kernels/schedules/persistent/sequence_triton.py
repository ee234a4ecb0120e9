"""Kernels of sequence.py: time inside the launch, recurrent weights on the chip.

A program owns UNITS units of BLOCK_B rows of one head. It loads its slice of R once, keeps the states of its units in
registers and, forward, reads h_{t-1} of all units of the head for each step; backward it holds the transposed slice and
reads the gate gradients of step t+1. Where several programs share a batch tile, what they write at one step the others
read at the next: then they wait for each other at a barrier after every step, or the launch covers a single step. A
launch of a single step need not keep the slice: without RESIDENT it is read block by block as the product goes (the
schedule of step.py).

Inside, units are rows and batch elements columns, so that the gates, which are many, are the M dimension of the product
and the batch, which may be small, is N. Forward, rows of R are interleaved, GATE_ROWS for each unit (a power of two),
so that one product makes all gates; `split_rows` takes them apart. Units are padded to blocks of BLOCK_K along K.
Storage is fp32, fp16 or bf16; products accumulate in fp32 and registers are fp32. B, H and T are run-time values;
offsets over time are 64 bits wide, those within a step 32.

H is the width of a state, D that of a head: R is (H/D, G*D, D), and what a head reads of h is its own part. REVERSE 2
has the second half of the heads walk from the end: two directions of a layer in one launch.

Both kernels stand in one file, past 400 lines: each line of the second is the gradient of one of the first.
"""

# mypy: disable-error-code="assignment,misc,var-annotated"
# The checker does not know that a Triton kernel unrolls static loops, so that a growing tuple has one type at a time.

import triton
import triton.language as tl

from rnnlab_kernels.schedules.persistent.sequence_device import (
    between,
    candidate_mask,
    carried_values,
    gate_columns,
    gate_rows,
    key_words,
    own_rows,
    read_states,
    split_rows,
    state_block,
    wait_for_all,
    zeroed,
    zoneout_part,
)

NOT_SPECIALIZED = [
    *("T", "B", "first_position", "num_positions"),
    *("candidate_threshold", "candidate_scale", "zoneout_0", "zoneout_1"),
]


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def _sequence_fwd_kernel(
    gates_x_ptr,
    weight_ptr,
    bias_ptr,
    constants_ptr,
    mask_ptr,
    reset_ptr,
    dropped_ptr,
    key_ptr,
    h_ptr,
    rest_ptr,
    fresh_ptr,
    saved_ptr,
    barrier_ptr,
    T,
    B,
    H,
    D,
    first_position,
    num_positions,
    stride_saved_t,
    candidate_threshold,
    candidate_scale,
    zoneout_0,
    zoneout_1,
    GATES_FWD: tl.constexpr,
    CARRIED: tl.constexpr,
    G: tl.constexpr,
    SPLIT: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_RESET: tl.constexpr,
    HAS_DROPPED: tl.constexpr,
    HAS_CANDIDATE: tl.constexpr,
    ZONE: tl.constexpr,
    HEADS: tl.constexpr,
    REVERSE: tl.constexpr,
    BARRIER: tl.constexpr,
    RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr,
    KEEP_FRESH: tl.constexpr,
    GATE_ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    NUM_K: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    if not HEADS:
        D = H
    if REVERSE == 2:
        back = (2 * tl.program_id(2) >= tl.num_programs(2)).to(tl.int32)
    else:
        back = REVERSE
    sign = 1 - 2 * back
    i_u = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[:, None]
    i_b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[None, :]
    m_b = i_b < B
    m_u = i_u < D
    m = m_u & m_b
    i_block = tl.arange(0, BLOCK_K)[:, None]
    first_unit = 0
    if HEADS:
        first_unit = tl.program_id(2) * D
        weight_ptr += tl.program_id(2).to(tl.int64) * G * D * D
        i_u += first_unit
    o_state, o_rest, o_saved = i_b * H + i_u, i_b * (K - 1) * H + i_u, i_b * S * H + i_u
    stride_slot = tl.cast(B, tl.int64) * H
    o_block = first_unit + i_b * H + i_block

    weights = ()
    if RESIDENT:
        for k in tl.static_range(NUM_K):
            weights = weights + (gate_rows(weight_ptr, k, D, G, UNITS, GATE_ROWS, BLOCK_K),)
    constants, biases = (), ()
    for k in tl.static_range(C):
        constants = constants + (tl.load(constants_ptr + k * H + i_u + 0 * i_b, mask=m, other=0.0),)
    for k in tl.static_range(SPLIT):
        if HAS_BIAS:
            biases = biases + (tl.load(bias_ptr + k * H + i_u, mask=m_u, other=0.0).to(tl.float32),)

    i_drawn = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]  # rows, as random masks are made
    i_quad = tl.program_id(0) * (UNITS // 4) + tl.arange(0, UNITS // 4)[None, :]
    if HEADS:
        i_quad += tl.program_id(2) * (D // 4)
    if REVERSE == 2:  # each direction draws its own, from unit 0 on
        i_quad -= back * (H // 8)
        key_ptr += 3 * back
    start = tl.cast(back * T + sign * first_position, tl.int64)
    state = read_states(h_ptr, rest_ptr, start, o_state, o_rest, stride_slot, H, m, K)
    alive = num_positions > 0  # false once a barrier was given up
    for step in range(0, num_positions):
        t = tl.cast(back * (T - 1) + sign * (first_position + step), tl.int64)
        before, after = t + back, t + 1 - back
        anew = False
        if HAS_RESET:
            anew = tl.load(reset_ptr + (t + 1) * B + i_b, mask=m_b, other=0) != 0
            state = zeroed(state, anew)
        acc = tl.zeros((UNITS * GATE_ROWS, BLOCK_B), tl.float32)
        previous_ptr = h_ptr + before * stride_slot
        if RESIDENT:
            for k in tl.static_range(NUM_K):
                m_block = (i_block < D - k * BLOCK_K) & m_b
                h = state_block(previous_ptr, dropped_ptr, k * BLOCK_K + o_block, m_block, anew, HAS_RESET, HAS_DROPPED)
                acc = tl.dot(weights[k], h, acc, input_precision=PRECISION)
        else:
            for k in range(0, NUM_K):
                m_block = (i_block < D - k * BLOCK_K) & m_b
                h = state_block(previous_ptr, dropped_ptr, k * BLOCK_K + o_block, m_block, anew, HAS_RESET, HAS_DROPPED)
                part = gate_rows(weight_ptr, k, D, G, UNITS, GATE_ROWS, BLOCK_K)
                acc = tl.dot(part, h, acc, input_precision=PRECISION)
        recurrent = split_rows(acc, UNITS, GATE_ROWS, BLOCK_B)
        gates = ()
        for k in tl.static_range(G):
            gate_ptr = gates_x_ptr + t * stride_slot * G + k * H
            gate = tl.load(gate_ptr + i_b * G * H + i_u, mask=m, other=0.0).to(tl.float32)
            if k < G - SPLIT:
                gate += recurrent[k]
            gates = gates + (gate,)
        for k in tl.static_range(SPLIT):
            part = recurrent[G - SPLIT + k]
            if HAS_BIAS:
                part += biases[k]
            gates = gates + (part,)

        carried = carried_values(state, constants, CARRIED, C)
        key_0, key_1, step_index = key_words(key_ptr, t, HAS_CANDIDATE or ZONE == 1)
        if HAS_CANDIDATE:
            part = candidate_mask(key_0, key_1, step_index, i_drawn, i_quad, candidate_threshold, candidate_scale)
            carried = carried + (part,)

        new, saved = GATES_FWD(gates, carried)

        if ZONE:
            mixed = ()
            for k in tl.static_range(K):
                if KEEP_FRESH:
                    tl.store(fresh_ptr + (t * B * K + k) * H + i_b * K * H + i_u, new[k], mask=m)
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
        for k in tl.static_range(S):
            tl.store(saved_ptr + t * stride_saved_t + k * H + o_saved, saved[k], mask=m)
        if BARRIER:
            mine = barrier_ptr + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
            alive = wait_for_all(mine, (step + 1) * tl.num_programs(0), alive)
        else:
            tl.debug_barrier()
    if BARRIER:  # what was given up after the last step shows, too
        last_ptr = h_ptr + tl.cast((1 - back) * T, tl.int64) * stride_slot
        tl.store(last_ptr + o_state, float("nan") + 0.0 * state[0], mask=m & (alive == 0))


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def _sequence_bwd_kernel(
    doutput_ptr,
    dstate_ptr,
    weight_ptr,
    constants_ptr,
    mask_ptr,
    reset_ptr,
    dropped_ptr,
    key_ptr,
    h_ptr,
    rest_ptr,
    fresh_ptr,
    saved_ptr,
    dgates_ptr,
    dsplit_ptr,
    dconstants_ptr,
    parts_ptr,
    barrier_ptr,
    T,
    B,
    H,
    D,
    first_position,
    num_positions,
    stride_saved_t,
    candidate_threshold,
    candidate_scale,
    zoneout_0,
    zoneout_1,
    GATES_BWD: tl.constexpr,
    CARRIED: tl.constexpr,
    G: tl.constexpr,
    SPLIT: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_RESET: tl.constexpr,
    HAS_DROPPED: tl.constexpr,
    HAS_CANDIDATE: tl.constexpr,
    ZONE: tl.constexpr,
    HEADS: tl.constexpr,
    REVERSE: tl.constexpr,
    BARRIER: tl.constexpr,
    RESIDENT: tl.constexpr,
    PARTIAL: tl.constexpr,
    PRECISION: tl.constexpr,
    UNITS: tl.constexpr,
    NUM_K: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Walk from position `first_position` + `num_positions` - 1 down to `first_position`.

    Gate gradients have a slot of zeros at either end, (T+2, ...): nothing follows the last step. So have resets.

    With PARTIAL a program does not gather the gate gradients of all units for its own: it multiplies its own by its
    rows of R, as they are, and leaves a part of dh for each unit of the head in `parts`, (2, programs, B, H) in fp32.
    At the next step each sums the parts of its units in the order of programs.
    """
    if not HEADS:
        D = H
    if REVERSE == 2:
        back = (2 * tl.program_id(2) >= tl.num_programs(2)).to(tl.int32)
    else:
        back = REVERSE
    sign = 1 - 2 * back
    i_u = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[:, None]
    i_b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)[None, :]
    m_b = i_b < B
    m_u = i_u < D
    m = m_u & m_b
    i_block = tl.arange(0, BLOCK_K)[:, None]
    first_unit = 0
    if HEADS:
        first_unit = tl.program_id(2) * D
        weight_ptr += tl.program_id(2).to(tl.int64) * G * D * D
        i_u += first_unit
    o_state, o_rest, o_saved = i_b * H + i_u, i_b * (K - 1) * H + i_u, i_b * S * H + i_u
    stride_slot = tl.cast(B, tl.int64) * H
    o_dgate, o_dsplit = first_unit + i_b * G * H + i_block, first_unit + i_b * SPLIT * H + i_block
    o_weight = tl.arange(0, BLOCK_K)[None, :] * D + i_u - first_unit
    o_part = first_unit + i_b * H + i_block
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
        for j in tl.static_range(G * NUM_K):
            if PARTIAL:
                weights = weights + (own_rows(weight_ptr, j // NUM_K, j % NUM_K, D, UNITS, BLOCK_K),)
            else:
                weights = weights + (gate_columns(weight_ptr, o_weight, j // NUM_K, j % NUM_K, m_u, D, BLOCK_K),)
    constants, dconstants, dstate = (), (), ()
    for k in tl.static_range(C):
        constants = constants + (tl.load(constants_ptr + k * H + i_u + 0 * i_b, mask=m, other=0.0),)
        dconstants = dconstants + (tl.load(dconstants_ptr + (i_b * C + k) * H + i_u, mask=m, other=0.0),)
    for k in tl.static_range(K):
        dstate = dstate + (tl.load(dstate_ptr + (i_b * K + k) * H + i_u, mask=m, other=0.0),)
    end = first_position + num_positions
    state = read_states(
        h_ptr, rest_ptr, tl.cast(back * T + sign * end, tl.int64), o_state, o_rest, stride_slot, H, m, K
    )
    alive = num_positions > 0  # false once a barrier was given up
    for step in range(0, num_positions):
        position = end - 1 - step
        t = tl.cast(back * (T - 1) + sign * position, tl.int64)
        before, slot = t + back, t + 1
        following = slot + sign
        acc = zero
        if PARTIAL:
            part_ptr = parts_ptr + ((position + 1) % 2) * tl.num_programs(0) * stride_slot
            for k in range(0, tl.num_programs(0)):
                m_part = m & (position < T - 1)
                acc += tl.load(part_ptr + k * stride_slot + o_state, mask=m_part, other=0.0, cache_modifier=".cg")
        else:
            for j in tl.static_range(G):
                if j < G - SPLIT:
                    row_ptr, o_row = dgates_ptr + following * stride_slot * G + j * H, o_dgate
                else:
                    row_ptr, o_row = dsplit_ptr + following * stride_slot * SPLIT + (j - (G - SPLIT)) * H, o_dsplit
                if RESIDENT:
                    for k in tl.static_range(NUM_K):
                        m_block = (i_block < D - k * BLOCK_K) & m_b
                        # Written by other programs a step ago, as h is forward.
                        dgate = tl.load(row_ptr + k * BLOCK_K + o_row, mask=m_block, other=0.0, cache_modifier=".cg")
                        acc = tl.dot(weights[j * NUM_K + k], dgate, acc, input_precision=PRECISION)
                else:
                    for k in range(0, NUM_K):
                        m_block = (i_block < D - k * BLOCK_K) & m_b
                        dgate = tl.load(row_ptr + k * BLOCK_K + o_row, mask=m_block, other=0.0, cache_modifier=".cg")
                        part = gate_columns(weight_ptr, o_weight, j, k, m_u, D, BLOCK_K)
                        acc = tl.dot(part, dgate, acc, input_precision=PRECISION)
        if HAS_RESET:
            anew = tl.load(reset_ptr + following * B + i_b, mask=m_b, other=0) != 0
            acc = tl.where(anew, 0.0, acc)
        if HAS_DROPPED:
            acc *= tl.load(dropped_ptr + o_state, mask=m, other=0.0).to(tl.float32)
        doutput = tl.load(doutput_ptr + t * stride_slot + o_state, mask=m, other=0.0).to(tl.float32)
        if HAS_MASK:
            inside = tl.load(mask_ptr + t * B + i_b, mask=m_b, other=0) != 0
            doutput = tl.where(inside, doutput, 0.0)
        upstream = (dstate[0] + acc + doutput,)
        for k in tl.static_range(1, K):
            upstream = upstream + (dstate[k],)
        saved = ()
        for k in tl.static_range(S):
            value_ptr = saved_ptr + t * stride_saved_t + k * H
            saved = saved + (tl.load(value_ptr + o_saved, mask=m, other=0.0).to(tl.float32),)
        stored = read_states(h_ptr, rest_ptr, before, o_state, o_rest, stride_slot, H, m, K)
        previous = stored
        if HAS_RESET:
            first = tl.load(reset_ptr + slot * B + i_b, mask=m_b, other=0) != 0
            previous = zeroed(stored, first)

        carried = carried_values(previous, constants, CARRIED, C)
        key_0, key_1, step_index = key_words(key_ptr, t, HAS_CANDIDATE or ZONE == 1)
        if HAS_CANDIDATE:
            part = candidate_mask(key_0, key_1, step_index, i_drawn, i_quad, candidate_threshold, candidate_scale)
            carried = carried + (part,)
        asked = upstream  # of the new values
        if ZONE:
            asked, fresh = (), ()
            for k in tl.static_range(K):
                rate = zoneout_0 if k == 0 else zoneout_1
                part = zoneout_part(key_0, key_1, k, step_index, i_drawn, i_quad, rate, ZONE == 1)
                asked = asked + (upstream[k] * part,)
                value_ptr = fresh_ptr + (t * B * K + k) * H + i_b * K * H
                fresh = fresh + (tl.load(value_ptr + i_u, mask=m, other=0.0),)
            state = fresh

        dgates, dcarried = GATES_BWD(asked, saved, carried, state)

        direct, sums = (), ()
        for k in tl.static_range(K):
            part = zero
            for j in tl.static_range(len(CARRIED)):
                if CARRIED[j] == k:
                    part = dcarried[j]
            if ZONE:
                part += upstream[k] - asked[k]
            direct = direct + (part,)
        for k in tl.static_range(C):
            sums = sums + (dcarried[len(CARRIED) + k],)
        if HAS_MASK:  # outside its length a row only hands its state on: the gradient passes it untouched
            kept = ()
            for k in tl.static_range(K):
                kept = kept + (tl.where(inside, direct[k], upstream[k]),)
            direct, sums, dgates = kept, zeroed(sums, inside == 0), zeroed(dgates, inside == 0)
        if HAS_RESET:
            direct = zeroed(direct, first)
        for k in tl.static_range(G):
            gate_ptr = dgates_ptr + slot * stride_slot * G + k * H
            dgate = dgates[k]
            if BARRIER and k == 0:
                dgate += tl.where(alive, 0.0, float("nan"))
            tl.store(gate_ptr + i_b * G * H + i_u, dgate, mask=m)
        for k in tl.static_range(SPLIT):
            gate_ptr = dsplit_ptr + slot * stride_slot * SPLIT + k * H
            tl.store(gate_ptr + i_b * SPLIT * H + i_u, dgates[G + k], mask=m)
        if PARTIAL:
            part_ptr = parts_ptr + ((position % 2) * tl.num_programs(0) + tl.program_id(0)) * stride_slot
            for k in tl.static_range(NUM_K):
                part = tl.zeros((BLOCK_K, BLOCK_B), tl.float32)
                for j in tl.static_range(G):
                    # The recurrent part of a split gate has a gradient of its own.
                    dgate = dgates[j + SPLIT if j >= G - SPLIT else j].to(weight_ptr.dtype.element_ty)
                    part = tl.dot(weights[j * NUM_K + k], dgate, part, input_precision=PRECISION)
                if BARRIER:
                    part += tl.where(alive, 0.0, float("nan"))
                m_block = (i_block < D - k * BLOCK_K) & m_b
                tl.store(part_ptr + k * BLOCK_K + o_part, part, mask=m_block)
        totals = ()
        for k in tl.static_range(C):
            totals = totals + (dconstants[k] + sums[k],)
        dconstants, dstate, state = totals, direct, stored
        if BARRIER:
            mine = barrier_ptr + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
            alive = wait_for_all(mine, (step + 1) * tl.num_programs(0), alive)
        else:
            tl.debug_barrier()
    for k in tl.static_range(K):
        value = dstate[k]
        if BARRIER:
            value = tl.where(alive, value, float("nan"))
        tl.store(dstate_ptr + (i_b * K + k) * H + i_u, value, mask=m)
    for k in tl.static_range(C):
        tl.store(dconstants_ptr + (i_b * C + k) * H + i_u, dconstants[k], mask=m)
