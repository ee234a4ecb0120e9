"""The recurrence on a CPU with the gate maths of a step fused into one compiled loop, by Numba.

torch runs a step's gate maths as ten to twenty operators, each of which costs about two microseconds before it computes
anything. Here it is one pass over the (B, H) tile, vectorised by the compiler; products, norms, time, memory and
autograd are those of recurrence.py. float32 only. A cell's loops are compiled at its first use in a process, in about
two seconds each.

B batch, H units, G gates, S saved values. Saved per step: (S, B, H).
"""

# mypy: disable-error-code="call-arg"
# The checker does not know that Numba passes the first argument of an intrinsic itself.

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_numba
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.cells.compiled import FASTMATH, inline
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.recurrence import Tensors, recurrence
from rnnlab_kernels.schedules.walk import PLAIN, Walk

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")


@cache
def _reader(count: int) -> Any:
    """Return the function that reads element (b, h) of `count` arrays (B, H) as a tuple."""
    if not count:
        return inline(lambda arrays, b, h: ())
    zeros = (np.float32(0.0),) * count

    def read(arrays, b, h):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, arrays[k][b, h])
        return values

    return inline(read)


@cache
def _gate_reader(cell: Cell, first: int, from_x: bool, from_h: bool) -> Any:
    """Return the function that reads the pre-activations at (b, h): merged sums, split input parts, recurrent parts."""
    num_gates, num_merged, split = cell.num_gates, cell.num_merged, cell.split
    zeros = (np.float32(0.0),) * (num_gates + split)

    def read_x(gates_x, gates_h, b, h):
        values = zeros
        for k in range(num_gates):
            values = tuple_setitem(values, k, gates_x[b, first + k, h])
        return values

    def read_h(gates_x, gates_h, b, h):
        values = zeros
        for k in range(num_gates):
            values = tuple_setitem(values, k, gates_h[b, k, h])
        return values

    def read_both(gates_x, gates_h, b, h):
        values = zeros
        for k in range(num_merged):
            values = tuple_setitem(values, k, gates_x[b, first + k, h] + gates_h[b, k, h])
        for k in range(num_merged, num_gates):
            values = tuple_setitem(values, k, gates_x[b, first + k, h])
            values = tuple_setitem(values, k + split, gates_h[b, k, h])
        return values

    return inline(read_both if from_x and from_h else read_x if from_x else read_h)


@cache
def _gate_writer(cell: Cell, first: int, into_x: bool, into_h: bool) -> Any:
    """Return the function that writes the gate gradients at (b, h) to where they are asked for."""
    num_gates, num_merged, split = cell.num_gates, cell.num_merged, cell.split

    def write_x(dx, dh, dgates, b, h):
        for k in range(num_gates):
            dx[b, first + k, h] = dgates[k]

    def write_h(dx, dh, dgates, b, h):
        for k in range(num_merged):
            dh[b, k, h] = dgates[k]
        for k in range(num_merged, num_gates):
            dh[b, k, h] = dgates[k + split]

    def write_both(dx, dh, dgates, b, h):
        for k in range(num_gates):
            dx[b, first + k, h] = dgates[k]
        for k in range(num_merged):
            dh[b, k, h] = dgates[k]
        for k in range(num_merged, num_gates):
            dh[b, k, h] = dgates[k + split]

    return inline(write_both if into_x and into_h else write_x if into_x else write_h)


@cache
def _writer(count: int) -> Any:
    """Return the function that writes a tuple of `count` values to element (b, h) of arrays (B, H)."""
    if not count:
        return inline(lambda arrays, values, b, h: None)

    def write(arrays, values, b, h):
        for k in range(count):
            arrays[k][b, h] = values[k]

    return inline(write)


@cache
def _forward_loop(cell: Cell, first: int, from_x: bool, from_h: bool) -> Callable[..., None]:
    gates_fwd, read_gates = bind_numba(cell.gates_fwd), _gate_reader(cell, first, from_x, from_h)
    read_carried = _reader(len(cell.carried))
    write_state, write_saved = _writer(len(cell.states)), _writer(len(cell.saved))

    def loop(gates_x, gates_h, carried, out, saved):
        for b in range(saved.shape[1]):
            for h in range(saved.shape[2]):
                state, kept = gates_fwd(read_gates(gates_x, gates_h, b, h), read_carried(carried, b, h))
                write_state(out, state, b, h)
                write_saved(saved, kept, b, h)

    return compiled(loop)


@cache
def _backward_loop(cell: Cell, first: int, into_x: bool, into_h: bool) -> Callable[..., None]:
    assert cell.gates_bwd is not None
    gates_bwd, write_gates = bind_numba(cell.gates_bwd), _gate_writer(cell, first, into_x, into_h)
    read_state, read_saved = _reader(len(cell.states)), _reader(len(cell.saved))
    read_carried, write_carried = _reader(len(cell.carried)), _writer(len(cell.carried))

    def loop(dstate, saved, carried, state, dx, dh, dcarried):
        for b in range(saved.shape[1]):
            for h in range(saved.shape[2]):
                dgates, dprevious = gates_bwd(
                    read_state(dstate, b, h),
                    read_saved(saved, b, h),
                    read_carried(carried, b, h),
                    read_state(state, b, h),
                )
                write_gates(dx, dh, dgates, b, h)
                write_carried(dcarried, dprevious, b, h)

    return compiled(loop)


class FusedStep:
    """Gate maths by one compiled loop; see `recurrence.Step`."""

    differentiable = True

    def __init__(self, cell: Cell, first: int) -> None:
        self.cell, self.first = cell, first

    def fwd(self, gates_x: Tensor | None, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        batch, hidden = out[0].shape
        saved = out[0].new_empty(len(self.cell.saved), batch, hidden)
        inputs = None if gates_x is None else gates_x.numpy().reshape(batch, gates_x.shape[1] // hidden, hidden)
        recurrent = None if gates_h is None else gates_h.numpy().reshape(batch, gates_h.shape[1] // hidden, hidden)
        _forward_loop(self.cell, self.first, inputs is not None, recurrent is not None)(
            recurrent if inputs is None else inputs,
            inputs if recurrent is None else recurrent,
            _arrays(_contiguous(carried)),
            _arrays(out),
            saved.numpy(),
        )
        return (saved,)

    def views(self, buffer: Tensor, hidden: int) -> Sequence[np.ndarray]:
        num_steps, batch, width = buffer.shape
        return list(buffer.numpy().reshape(num_steps, batch, width // hidden, hidden))

    def bwd(self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dx: Any, dh: Any) -> Tensors:
        dstate = _contiguous(dstate)
        dcarried = tuple(dstate[0].new_empty(state[0].shape) for _ in carried)
        _backward_loop(self.cell, self.first, dx is not None, dh is not None)(
            _arrays(dstate),
            saved[0].numpy(),
            _arrays(_contiguous(carried)),
            _arrays(state),
            dh if dx is None else dx,
            dx if dh is None else dh,
            _arrays(dcarried),
        )
        return dcarried


def _contiguous(tensors: Tensors) -> Tensors:
    """Return what a compiled loop reads, in one layout: upstream gradients and states come transposed or expanded."""
    return tuple(tensor.contiguous() for tensor in tensors)


def _arrays(tensors: Tensors) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def fused(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    walk: Walk = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction with compiled gate loops. Arguments and results as in `schedules.eager.eager`.

    float32 tensors on a CPU only; `launch.fused_supported` says so in words.
    """
    return recurrence(FusedStep, cell, x, state_0, weights, mask, reverse=reverse, walk=walk)
