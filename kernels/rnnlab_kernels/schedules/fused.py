"""The eager schedule on a CPU with the gate maths of a step fused into one compiled loop, by Numba.

torch runs a step's gate maths as ten to twenty operators, each of which costs about two microseconds before it computes
anything. Here it is one pass over the (B, H) tile, vectorised by the compiler; products, time, memory and autograd are
those of eager.py. float32 only. A cell's loops are compiled at its first use in a process, in about two seconds each.

B batch, H units, G gates, S saved values. Saved per step: (S, B, H).
"""

# mypy: disable-error-code="call-arg"
# The checker does not know that Numba passes the first argument of an intrinsic itself.

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_numba
from rnnlab_kernels.cells.compiled import FASTMATH, inline
from rnnlab_kernels.schedules.eager import Tensors, recurrence
from rnnlab_kernels.schedules.layout import Weights

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
def _gate_reader(num_gates: int, num_merged: int) -> Any:
    """Return the function that reads the pre-activations at (b, h): merged sums, split input parts, recurrent parts."""
    split = num_gates - num_merged
    zeros = (np.float32(0.0),) * (num_gates + split)

    def read_merged(gates_x, gates_h, b, h):
        values = zeros
        for k in range(num_gates):
            values = tuple_setitem(values, k, gates_x[b, k, h])
        return values

    def read_split(gates_x, gates_h, b, h):
        values = zeros
        for k in range(num_merged):
            values = tuple_setitem(values, k, gates_x[b, k, h] + gates_h[b, k, h])
        for k in range(num_merged, num_gates):
            values = tuple_setitem(values, k, gates_x[b, k, h])
            values = tuple_setitem(values, k + split, gates_h[b, k, h])
        return values

    return inline(read_split if split else read_merged)


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
def _forward_loop(cell: Cell) -> Callable[..., None]:
    gates_fwd, read_gates = bind_numba(cell.gates_fwd), _gate_reader(cell.num_gates, cell.num_merged)
    read_carried = _reader(len(cell.carried))
    write_state, write_saved = _writer(len(cell.states)), _writer(len(cell.saved))

    def loop(gates_x, gates_h, carried, out, saved):
        for b in range(gates_x.shape[0]):
            for h in range(gates_x.shape[2]):
                state, kept = gates_fwd(read_gates(gates_x, gates_h, b, h), read_carried(carried, b, h))
                write_state(out, state, b, h)
                write_saved(saved, kept, b, h)

    return compiled(loop)


@cache
def _backward_loop(cell: Cell) -> Callable[..., None]:
    gates_bwd = bind_numba(cell.gates_bwd)
    num_gates, num_merged, split = cell.num_gates, cell.num_merged, cell.split
    read_state, read_saved = _reader(len(cell.states)), _reader(len(cell.saved))
    read_carried, write_carried = _reader(len(cell.carried)), _writer(len(cell.carried))

    def loop(dstate, saved, carried, state, dgates_h, dsplit_x, dcarried):
        for b in range(dgates_h.shape[0]):
            for h in range(dgates_h.shape[2]):
                dgates, dprevious = gates_bwd(
                    read_state(dstate, b, h),
                    read_saved(saved, b, h),
                    read_carried(carried, b, h),
                    read_state(state, b, h),
                )
                for k in range(num_merged):
                    dgates_h[b, k, h] = dgates[k]
                for k in range(num_merged, num_gates):
                    dsplit_x[b, k - num_merged, h] = dgates[k]
                    dgates_h[b, k, h] = dgates[k + split]
                write_carried(dcarried, dprevious, b, h)

    return compiled(loop)


class FusedStep:
    """Gate maths by one compiled loop: what `schedules.eager.recurrence` calls at each time index."""

    differentiable = True

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._forward, self._backward = _forward_loop(cell), _backward_loop(cell)

    def fwd(self, gates_x: Tensor, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        batch, hidden = out[0].shape
        shape = (batch, self.cell.num_gates, hidden)
        saved = gates_x.new_empty(len(self.cell.saved), batch, hidden)
        inputs = gates_x.numpy().reshape(shape)
        self._forward(
            inputs,
            inputs if gates_h is None else gates_h.numpy().reshape(shape),
            _arrays(carried),
            _arrays(out),
            saved.numpy(),
        )
        return (saved,)

    def views(self, buffer: Tensor, num_gates: int) -> Sequence[np.ndarray]:
        num_steps, batch, width = buffer.shape
        return list(buffer.numpy().reshape(num_steps, batch, num_gates, width // num_gates))

    def bwd(
        self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dgates_h: Any, dsplit_x: Any
    ) -> Tensors:
        # An upstream gradient may be expanded or transposed; compiled loops know contiguous arrays alone.
        dstate = tuple(grad.contiguous() for grad in dstate)
        dcarried = tuple(dstate[0].new_empty(state[0].shape) for _ in carried)
        self._backward(
            _arrays(dstate),
            saved[0].numpy(),
            _arrays(carried),
            _arrays(state),
            dgates_h,
            dgates_h if dsplit_x is None else dsplit_x,
            _arrays(dcarried),
        )
        return dcarried


def _arrays(tensors: Tensors) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def fused(
    cell: Cell, x: Tensor, state_0: Tensors, weights: Weights, mask: Tensor | None = None, *, reverse: bool = False
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction with compiled gate loops. Arguments and results as in `schedules.eager.eager`.

    float32 tensors on a CPU only; `launch.fused_supported` says so in words.
    """
    return recurrence(FusedStep(cell), x, state_0, weights, mask, reverse=reverse)
