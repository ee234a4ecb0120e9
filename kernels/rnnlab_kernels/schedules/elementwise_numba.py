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
    """Return the function that reads the `count` values of unit i of row b from an array (B, count, H) as a tuple."""
    if not count:
        return inline(lambda array, b, i: ())
    zeros = (np.float32(0.0),) * count

    def read(array, b, i):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, array[b, k, i])
        return values

    return inline(read)


@cache
def _writer(count: int) -> Any:
    """Return the function that writes a tuple of `count` values to where `_reader` finds them."""
    if not count:
        return inline(lambda array, values, b, i: None)

    def write(array, values, b, i):
        for k in range(count):
            array[b, k, i] = values[k]

    return inline(write)


@cache
def _carried_reader(positions: tuple[int, ...], num_constants: int) -> Any:
    """Return the function that reads states by position, h (B, H) apart from the rest (B, K-1, H), then constants."""
    count = len(positions)
    if not count + num_constants:
        return inline(lambda h, rest, constants, b, i: ())
    zeros = (np.float32(0.0),) * (count + num_constants)

    def read(h, rest, constants, b, i):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, h[b, i] if positions[k] == 0 else rest[b, positions[k] - 1, i])
        for k in range(num_constants):
            values = tuple_setitem(values, count + k, constants[k, i])
        return values

    return inline(read)


@cache
def _forward_loop(cell: Cell) -> Callable[..., None]:
    positions, num_rest = carried_states(cell), len(cell.states) - 1
    gates_fwd, read_gates = bind_numba(cell.gates_fwd), _reader(cell.num_gates)
    read_carried = _carried_reader(positions, len(cell.carried) - len(positions))
    write_saved = _writer(len(cell.saved))

    # Elements are read in place: a view of each row would cost more than the gate maths of a short one.
    def loop(gates, constants, mask, h_before, rest_before, h, rest, saved, reverse):
        num_steps, batch, _, hidden = gates.shape
        for position in range(num_steps):
            t = num_steps - 1 - position if reverse else position
            gates_t, h_t, rest_t, saved_t = gates[t], h[t], rest[t], saved[min(t, len(saved) - 1)]
            for b in range(batch):
                if mask[t, b]:
                    for i in range(hidden):
                        carried = read_carried(h_before, rest_before, constants, b, i)
                        state, kept = gates_fwd(read_gates(gates_t, b, i), carried)
                        h_t[b, i] = state[0]
                        h_before[b, i] = state[0]
                        for k in range(num_rest):
                            rest_t[b, k, i] = state[k + 1]
                            rest_before[b, k, i] = state[k + 1]
                        write_saved(saved_t, kept, b, i)
                else:
                    for i in range(hidden):
                        h_t[b, i] = h_before[b, i]
                        for k in range(num_rest):
                            rest_t[b, k, i] = rest_before[b, k, i]

    return compiled(loop)


@cache
def _backward_loop(cell: Cell) -> Callable[..., None]:
    positions, num_states, num_gates = carried_states(cell), len(cell.states), cell.num_gates
    dropped = tuple(k for k in range(num_states) if k not in positions)
    num_carried, num_dropped, num_constants = len(positions), len(dropped), len(cell.carried) - len(positions)
    gates_bwd = bind_numba(cell.gates_bwd)
    read_carried, read_state = _carried_reader(positions, num_constants), _carried_reader(tuple(range(num_states)), 0)
    read_dstate, read_saved, write_dgates = _reader(num_states), _reader(len(cell.saved)), _writer(num_gates)
    dropped, positions = dropped or (0,), positions or (0,)  # an empty tuple cannot be indexed, even where none is

    def loop(doutput, dstate, saved, h, rest, h_0, rest_0, constants, mask, dgates, dconstants, reverse):
        num_steps, batch, _, hidden = dgates.shape
        for position in range(num_steps - 1, -1, -1):
            t = num_steps - 1 - position if reverse else position
            before = t + 1 if reverse else t - 1
            h_before = h_0 if position == 0 else h[before]
            rest_before = rest_0 if position == 0 else rest[before]
            doutput_t, dgates_t, saved_t, h_t, rest_t = doutput[t], dgates[t], saved[t], h[t], rest[t]
            for b in range(batch):
                if mask[t, b]:
                    for i in range(hidden):
                        upstream = read_dstate(dstate, b, i)
                        upstream = tuple_setitem(upstream, 0, upstream[0] + doutput_t[b, i])
                        found, dcarried = gates_bwd(
                            upstream,
                            read_saved(saved_t, b, i),
                            read_carried(h_before, rest_before, constants, b, i),
                            read_state(h_t, rest_t, constants, b, i),
                        )
                        write_dgates(dgates_t, found, b, i)
                        for k in range(num_dropped):
                            dstate[b, dropped[k], i] = np.float32(0.0)
                        for k in range(num_carried):
                            dstate[b, positions[k], i] = dcarried[k]
                        for k in range(num_constants):
                            dconstants[b, k, i] += dcarried[num_carried + k]
                else:
                    for k in range(num_gates):
                        for i in range(hidden):
                            dgates_t[b, k, i] = np.float32(0.0)

    return compiled(loop)


def _mask(call: Call, num_steps: int, batch: int) -> Any:
    return (torch.ones(num_steps, batch, dtype=torch.uint8) if call.mask is None else call.mask).numpy()


def forward(
    call: Call, gates_x: Tensor, h_0: Tensor, rest_0: Tensor, constants: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h (T, B, H), the other states (T, B, K-1, H) and what the cell keeps, (T, B, S, H) or (1, B, S, H)."""
    (num_steps, batch, _), hidden, cell = gates_x.shape, h_0.shape[1], call.cell
    h = gates_x.new_empty(num_steps, batch, hidden)
    rest = gates_x.new_empty(num_steps, *rest_0.shape)
    saved = gates_x.new_empty(num_steps if call.keep else 1, batch, len(cell.saved), hidden)
    _forward_loop(cell)(
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
