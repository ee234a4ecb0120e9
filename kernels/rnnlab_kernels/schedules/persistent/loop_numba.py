"""Cells without a recurrent product on a CPU: one compiled loop over the sequence each way, by Numba. float32 only.

Units are the inner loop, which the compiler vectorises. The states that a step reads are kept in a tile of their own,
which stays in cache; a row outside its length only hands it on. A cell's loops are compiled at its first use
in a process. Shapes as in elementwise.py; gates are seen as (T, B, G, H).
"""

# mypy: disable-error-code="call-arg"
# The checker does not know that Numba passes the first argument of an intrinsic itself.

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_numba
from rnnlab_kernels.cells.compiled import FASTMATH, inline, load, load_written, store
from rnnlab_kernels.schedules.engines import Call
from rnnlab_kernels.schedules.persistent.elementwise import carried_states, cell_of

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")


@cache
def _reader(count: int, written: bool = False) -> Any:
    """Return the function that reads, from a row of `count` times H values, those of unit i as a tuple.

    `written`: the loop writes into that memory, too.
    """
    if not count:
        return inline(lambda row, hidden, i: ())
    zeros, element = (np.float32(0.0),) * count, load_written if written else load

    def read(row, hidden, i):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, element(row, k * hidden + i))
        return values

    return inline(read)


@cache
def _writer(count: int) -> Any:
    """Return the function that writes a tuple of `count` values to where `_reader` finds them."""
    if not count:
        return inline(lambda row, hidden, values, i: None)

    def write(row, hidden, values, i):
        for k in range(count):
            store(row, k * hidden + i, values[k])

    return inline(write)


@cache
def _carried_reader(positions: tuple[int, ...], num_constants: int, written: bool) -> Any:
    """Return the function that reads states by position, h (H,) apart from the rest (K-1, H), then constants."""
    count = len(positions)
    if not count + num_constants:
        return inline(lambda h, rest, constants, hidden, i: ())
    zeros, element = (np.float32(0.0),) * (count + num_constants), load_written if written else load

    def read(h, rest, constants, hidden, i):
        values = zeros
        for k in range(count):
            value = element(h, i) if positions[k] == 0 else element(rest, (positions[k] - 1) * hidden + i)
            values = tuple_setitem(values, k, value)
        for k in range(num_constants):
            values = tuple_setitem(values, count + k, load(constants, k * hidden + i))
        return values

    return inline(read)


@cache
def _forward_loop(cell: Cell) -> Callable[..., None]:
    positions, num_gates, num_rest, num_saved = (
        carried_states(cell),
        cell.num_gates,
        len(cell.states) - 1,
        len(cell.saved),
    )
    gates_fwd, read_gates = bind_numba(cell.gates_fwd), _reader(num_gates)
    read_carried = _carried_reader(positions, len(cell.carried) - len(positions), written=True)
    write_saved = _writer(num_saved)

    def loop(num_steps, batch, hidden, gates, constants, mask, h_before, rest_before, h, rest, saved, keep, reverse):
        size = 4 * hidden
        for position in range(num_steps):
            t = num_steps - 1 - position if reverse else position
            for b in range(batch):
                row = t * batch + b
                gates_row, h_row, rest_row = (
                    gates + row * num_gates * size,
                    h + row * size,
                    rest + row * num_rest * size,
                )
                saved_row = saved + (row if keep else b) * num_saved * size
                h_old, rest_old = h_before + b * size, rest_before + b * num_rest * size
                if mask is None or mask[t, b]:
                    for i in range(hidden):
                        carried = read_carried(h_old, rest_old, constants, hidden, i)
                        state, kept = gates_fwd(read_gates(gates_row, hidden, i), carried)
                        store(h_row, i, state[0])
                        store(h_old, i, state[0])
                        for k in range(num_rest):
                            store(rest_row, k * hidden + i, state[k + 1])
                            store(rest_old, k * hidden + i, state[k + 1])
                        write_saved(saved_row, hidden, kept, i)
                else:
                    for i in range(hidden):
                        store(h_row, i, load_written(h_old, i))
                    for i in range(num_rest * hidden):
                        store(rest_row, i, load_written(rest_old, i))

    return compiled(loop)


@cache
def _backward_loop(cell: Cell) -> Callable[..., None]:
    positions, num_states, num_gates, num_saved = (
        carried_states(cell),
        len(cell.states),
        cell.num_gates,
        len(cell.saved),
    )
    dropped = tuple(k for k in range(num_states) if k not in positions)
    num_rest, num_carried, num_dropped = num_states - 1, len(positions), len(dropped)
    num_constants = len(cell.carried) - num_carried
    gates_bwd, read_saved, write_dgates = bind_numba(cell.gates_bwd), _reader(num_saved), _writer(num_gates)
    read_carried = _carried_reader(positions, num_constants, written=False)
    read_state, read_dstate = (
        _carried_reader(tuple(range(num_states)), 0, written=False),
        _reader(num_states, written=True),
    )
    dropped, positions = dropped or (0,), positions or (0,)  # an empty tuple cannot be indexed, even where none is

    def loop(
        num_steps,
        batch,
        hidden,
        doutput,
        dstate,
        h,
        rest,
        saved,
        h_0,
        rest_0,
        constants,
        mask,
        dgates,
        dconstants,
        reverse,
    ):
        size = 4 * hidden
        for position in range(num_steps - 1, -1, -1):
            t = num_steps - 1 - position if reverse else position
            before = t + 1 if reverse else t - 1
            for b in range(batch):
                row, row_before = t * batch + b, before * batch + b
                dgates_row = dgates + row * num_gates * size
                h_before = h_0 + b * size if position == 0 else h + row_before * size
                rest_before = rest_0 + b * num_rest * size if position == 0 else rest + row_before * num_rest * size
                doutput_row, h_row, rest_row = doutput + row * size, h + row * size, rest + row * num_rest * size
                saved_row, dstate_row = saved + row * num_saved * size, dstate + b * num_states * size
                dconstants_row = dconstants + b * num_constants * size
                if mask is None or mask[t, b]:
                    for i in range(hidden):
                        upstream = read_dstate(dstate_row, hidden, i)
                        upstream = tuple_setitem(upstream, 0, upstream[0] + load(doutput_row, i))
                        found, dcarried = gates_bwd(
                            upstream,
                            read_saved(saved_row, hidden, i),
                            read_carried(h_before, rest_before, constants, hidden, i),
                            read_state(h_row, rest_row, constants, hidden, i),
                        )
                        write_dgates(dgates_row, hidden, found, i)
                        for k in range(num_dropped):
                            store(dstate_row, dropped[k] * hidden + i, np.float32(0.0))
                        for k in range(num_carried):
                            store(dstate_row, positions[k] * hidden + i, dcarried[k])
                        for k in range(num_constants):
                            total = load_written(dconstants_row, k * hidden + i) + dcarried[num_carried + k]
                            store(dconstants_row, k * hidden + i, total)
                else:
                    for i in range(num_gates * hidden):
                        store(dgates_row, i, np.float32(0.0))

    return compiled(loop)


def forward(
    call: Call, gates_x: Tensor, h_0: Tensor, rest_0: Tensor, constants: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h (T, B, H), the other states (T, B, K-1, H) and what the cell keeps, (T, B, S, H) or (1, B, S, H)."""
    num_steps, (batch, hidden), cell = len(gates_x), h_0.shape, cell_of(call)
    gates_x = gates_x.contiguous()
    h = gates_x.new_empty(num_steps, batch, hidden)
    rest = gates_x.new_empty(num_steps, *rest_0.shape)
    saved = gates_x.new_empty(num_steps if call.keep else 1, batch, len(cell.saved), hidden)
    before = (h_0.clone(), rest_0.clone())  # the loop keeps the states before a step here
    _forward_loop(cell)(
        *(num_steps, batch, hidden, gates_x.data_ptr(), constants.data_ptr()),
        None if call.mask is None else call.mask.numpy(),
        *(tensor.data_ptr() for tensor in (*before, h, rest, saved)),
        call.keep,
        bool(call.reverse),
    )
    return h, rest, saved


def backward(
    call: Call,
    doutput: Tensor,
    dstate: Tensor,
    h: Tensor,
    rest: Tensor,
    saved: Tensor,
    h_0: Tensor,
    rest_0: Tensor,
    constants: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return dgates (T, B, G*H) and the gradients of the constants (B, C, H); leave those of state_0 in `dstate`."""
    num_steps, batch, hidden = h.shape
    dgates = h.new_empty(num_steps, batch, cell_of(call).num_gates * hidden)
    dconstants = h.new_zeros(batch, len(constants), hidden)
    inputs = (doutput, dstate, h, rest, saved, h_0, rest_0, constants)
    _backward_loop(cell_of(call))(
        *(num_steps, batch, hidden),
        *(tensor.data_ptr() for tensor in inputs),
        None if call.mask is None else call.mask.numpy(),
        dgates.data_ptr(),
        dconstants.data_ptr(),
        bool(call.reverse),
    )
    return dgates, dconstants
