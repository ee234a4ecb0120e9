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
import torch
from numba.cpython.unsafe.tuple import tuple_setitem
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_numba
from rnnlab_kernels.cells.compiled import FASTMATH, inline
from rnnlab_kernels.schedules.elementwise import Call, carried_states

DIFFERENTIABLE = True

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")


@cache
def _reader(count: int) -> Any:
    """Return the function that reads column i of `count` rows as a tuple."""
    if not count:
        return inline(lambda rows, i: ())
    zeros = (np.float32(0.0),) * count

    def read(rows, i):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, rows[k, i])
        return values

    return inline(read)


@cache
def _writer(count: int) -> Any:
    """Return the function that writes a tuple of `count` values to column i of as many rows."""
    if not count:
        return inline(lambda rows, values, i: None)

    def write(rows, values, i):
        for k in range(count):
            rows[k, i] = values[k]

    return inline(write)


@cache
def _carried_reader(positions: tuple[int, ...], num_constants: int) -> Any:
    """Return the function that reads the carried values at i: states by position, h apart from the rest; constants."""
    count = len(positions)
    if not count + num_constants:
        return inline(lambda h, rest, constants, i: ())
    zeros = (np.float32(0.0),) * (count + num_constants)

    def read(h, rest, constants, i):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, h[i] if positions[k] == 0 else rest[positions[k] - 1, i])
        for k in range(num_constants):
            values = tuple_setitem(values, count + k, constants[k, i])
        return values

    return inline(read)


@cache
def _forward_loop(cell: Cell, keep: bool) -> Callable[..., None]:
    positions = carried_states(cell)
    gates_fwd, read_gates = bind_numba(cell.gates_fwd), _reader(cell.num_gates)
    read_carried = _carried_reader(positions, len(cell.carried) - len(positions))
    num_rest = len(cell.states) - 1
    write_saved = _writer(len(cell.saved) if keep else 0)

    def loop(gates, constants, mask, h_before, rest_before, h, rest, saved, reverse):
        num_steps, batch, _, hidden = gates.shape
        for position in range(num_steps):
            t = num_steps - 1 - position if reverse else position
            for b in range(batch):
                gates_row, h_row, rest_row, saved_row = gates[t, b], h[t, b], rest[t, b], saved[t, b]
                h_carry, rest_carry = h_before[b], rest_before[b]
                if mask[t, b]:
                    for i in range(hidden):
                        state, kept = gates_fwd(
                            read_gates(gates_row, i), read_carried(h_carry, rest_carry, constants, i)
                        )
                        h_row[i] = state[0]
                        h_carry[i] = state[0]
                        for k in range(num_rest):
                            rest_row[k, i] = state[k + 1]
                            rest_carry[k, i] = state[k + 1]
                        write_saved(saved_row, kept, i)
                else:
                    h_row[:] = h_carry
                    rest_row[:] = rest_carry

    return compiled(loop)


@cache
def _backward_loop(cell: Cell) -> Callable[..., None]:
    positions, num_states = carried_states(cell), len(cell.states)
    dropped = tuple(k for k in range(num_states) if k not in positions)
    num_carried, num_dropped, num_constants = len(positions), len(dropped), len(cell.carried) - len(positions)
    gates_bwd = bind_numba(cell.gates_bwd)
    read_carried, read_state = _carried_reader(positions, num_constants), _carried_reader(tuple(range(num_states)), 0)
    read_dstate, read_saved = _reader(num_states), _reader(len(cell.saved))
    write_dgates = _writer(cell.num_gates)
    dropped = dropped or (0,)  # a compiled loop cannot index an empty tuple, even where it never does
    positions = positions or (0,)

    def loop(doutput, dstate, saved, h, rest, h_0, rest_0, constants, mask, dgates, dconstants, reverse):
        num_steps, batch, _, hidden = dgates.shape
        for position in range(num_steps - 1, -1, -1):
            t = num_steps - 1 - position if reverse else position
            before = t + 1 if reverse else t - 1
            h_before = h_0 if position == 0 else h[before]
            rest_before = rest_0 if position == 0 else rest[before]
            for b in range(batch):
                dgates_row, dstate_row, dconstants_row = dgates[t, b], dstate[b], dconstants[b]
                saved_row, h_row, rest_row = saved[t, b], h[t, b], rest[t, b]
                h_previous, rest_previous, doutput_row = h_before[b], rest_before[b], doutput[t, b]
                if mask[t, b]:
                    for i in range(hidden):
                        upstream = read_dstate(dstate_row, i)
                        upstream = tuple_setitem(upstream, 0, upstream[0] + doutput_row[i])
                        found, dcarried = gates_bwd(
                            upstream,
                            read_saved(saved_row, i),
                            read_carried(h_previous, rest_previous, constants, i),
                            read_state(h_row, rest_row, constants, i),
                        )
                        write_dgates(dgates_row, found, i)
                        for k in range(num_dropped):
                            dstate_row[dropped[k], i] = np.float32(0.0)
                        for k in range(num_carried):
                            dstate_row[positions[k], i] = dcarried[k]
                        for k in range(num_constants):
                            dconstants_row[k, i] += dcarried[num_carried + k]
                else:
                    dgates_row[:] = np.float32(0.0)

    return compiled(loop)


def _mask(call: Call, num_steps: int, batch: int) -> Any:
    return (torch.ones(num_steps, batch, dtype=torch.uint8) if call.mask is None else call.mask).numpy()


def forward(
    call: Call, gates_x: Tensor, h_0: Tensor, rest_0: Tensor, constants: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h (T, B, H), the other states (T, B, K-1, H) and what the cell keeps (T, B, S, H), empty unless kept."""
    (num_steps, batch, _), hidden, cell = gates_x.shape, h_0.shape[1], call.cell
    num_saved = len(cell.saved) if call.keep else 0
    h = gates_x.new_empty(num_steps, batch, hidden)
    rest = gates_x.new_empty(num_steps, *rest_0.shape)
    saved = gates_x.new_empty(num_steps, batch, num_saved, hidden)
    _forward_loop(cell, num_saved > 0)(
        gates_x.detach().contiguous().view(num_steps, batch, cell.num_gates, hidden).numpy(),
        constants.detach().numpy(),
        _mask(call, num_steps, batch),
        h_0.detach().clone().numpy(),  # the loop keeps the states before a step here
        rest_0.detach().clone().numpy(),
        h.numpy(),
        rest.numpy(),
        saved.numpy(),
        call.reverse,
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
    (num_steps, batch, hidden), num_gates = h.shape, call.cell.num_gates
    dgates = h.new_empty(num_steps, batch, num_gates * hidden)
    dconstants = h.new_zeros(batch, len(constants), hidden)
    arrays = (doutput, dstate, saved, h, rest, h_0, rest_0, constants)
    _backward_loop(call.cell)(
        *(array.detach().numpy() for array in arrays),
        _mask(call, num_steps, batch),
        dgates.view(num_steps, batch, num_gates, hidden).numpy(),
        dconstants.numpy(),
        call.reverse,
    )
    return dgates, dconstants
