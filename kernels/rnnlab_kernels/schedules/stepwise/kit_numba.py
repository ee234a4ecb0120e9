"""The recurrence on a CPU with the gate maths of a step, and each norm, in one compiled loop, by Numba.

torch runs a step's gate maths as ten to twenty operators, each of which costs about two microseconds before it computes
anything. Here it is one pass over the (B, H) tile, vectorised by the compiler; products, time, memory and autograd are
those of run.py. float32 only. A cell's loops are compiled at its first use in a process, in about two seconds
each.

Loops take addresses of contiguous memory: a tensor as an array would cost a microsecond on its way into a loop that
runs for five, and for any overlap between arrays that it cannot rule out the compiler falls back to scalar code.

B batch, H units, G gates, S saved values. Saved per step: (S, B, H).
"""

# mypy: disable-error-code="call-arg"
# The checker does not know that Numba passes the first argument of an intrinsic itself.

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count, repeat
from typing import Any

import numba
import numpy as np
import torch
from numba.cpython.unsafe.tuple import tuple_setitem
from torch import Tensor

from rnnlab_kernels.cells import Cell, bind_numba
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.cells.compiled import FASTMATH, inline, load, store
from rnnlab_kernels.launch import fused_supported
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.stepwise.norm_numba import norm_bwd, norm_fwd
from rnnlab_kernels.schedules.stepwise.run import Tensors, recurrence

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")


@cache
def _reader(first: int, count: int) -> Any:
    """Return the function that reads element n of `count` tiles, from the `first` address on, as a tuple."""
    if not count:
        return inline(lambda tiles, n: ())
    zeros = (np.float32(0.0),) * count

    def read(tiles, n):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, load(tiles[first + k], n))
        return values

    return inline(read)


@cache
def _writer(first: int, count: int) -> Any:
    """Return the function that writes a tuple of `count` values to element n of tiles."""
    if not count:
        return inline(lambda tiles, values, n: None)

    def write(tiles, values, n):
        for k in range(count):
            store(tiles[first + k], n, values[k])

    return inline(write)


@cache
def _gate_reader(cell: Cell, first: int, from_x: bool, from_h: bool) -> Any:
    """Return the function that reads unit h's pre-activations from the rows of a batch element, by their addresses.

    They are the merged sums, the input parts of split gates, the recurrent parts of split gates.
    """
    num_gates, num_merged, split = cell.num_gates, cell.num_merged, cell.split
    zeros = (np.float32(0.0),) * (num_gates + split)

    def read_x(x, recurrent, hidden, h):
        values = zeros
        for k in range(num_gates):
            values = tuple_setitem(values, k, load(x, (first + k) * hidden + h))
        return values

    def read_h(x, recurrent, hidden, h):
        values = zeros
        for k in range(num_gates):
            values = tuple_setitem(values, k, load(recurrent, k * hidden + h))
        return values

    def read_both(x, recurrent, hidden, h):
        values = zeros
        for k in range(num_merged):
            total = load(x, (first + k) * hidden + h) + load(recurrent, k * hidden + h)
            values = tuple_setitem(values, k, total)
        for k in range(num_merged, num_gates):
            values = tuple_setitem(values, k, load(x, (first + k) * hidden + h))
            values = tuple_setitem(values, k + split, load(recurrent, k * hidden + h))
        return values

    return inline(read_both if from_x and from_h else read_x if from_x else read_h)


@cache
def _gate_writer(cell: Cell, first: int, into_x: bool, into_h: bool) -> Any:
    """Return the function that writes unit h's gate gradients to where they are asked for."""
    num_gates, num_merged, split = cell.num_gates, cell.num_merged, cell.split

    def write(dx, dh, dgates, hidden, h):
        if into_x:
            for k in range(num_gates):
                store(dx, (first + k) * hidden + h, dgates[k])
        if into_h:
            for k in range(num_merged):
                store(dh, k * hidden + h, dgates[k])
            for k in range(num_merged, num_gates):
                store(dh, k * hidden + h, dgates[k + split])

    return inline(write)


@cache
def _forward_loop(cell: Cell, first: int, from_x: bool, from_h: bool) -> Callable[..., None]:
    gates_fwd, read_gates = bind_numba(cell.gates_fwd), _gate_reader(cell, first, from_x, from_h)
    num_gates, num_carried, num_states = cell.num_gates, len(cell.carried), len(cell.states)
    read_carried = _reader(0, num_carried)
    write_state = _writer(num_carried, num_states)
    write_saved = _writer(num_carried + num_states, len(cell.saved))

    # One tuple of tiles, since each argument costs its time: carried, out, saved.
    def loop(batch, hidden, x, width_x, recurrent, tiles):
        width_h = num_gates * hidden
        for b in range(batch):
            row_x, row_h = x + 4 * b * width_x, recurrent + 4 * b * width_h
            for h in range(hidden):
                n = b * hidden + h
                state, kept = gates_fwd(read_gates(row_x, row_h, hidden, h), read_carried(tiles, n))
                write_state(tiles, state, n)
                write_saved(tiles, kept, n)

    return compiled(loop)


@cache
def _backward_loop(cell: Cell, first: int, into_x: bool, into_h: bool) -> Callable[..., None]:
    assert cell.gates_bwd is not None
    gates_bwd, write_gates = bind_numba(cell.gates_bwd), _gate_writer(cell, first, into_x, into_h)
    num_gates, num_carried, num_states, num_saved = cell.num_gates, len(cell.carried), len(cell.states), len(cell.saved)
    read_dstate, read_carried = _reader(0, num_states), _reader(num_states, num_carried)
    read_state = _reader(num_states + num_carried, num_states)
    read_saved = _reader(2 * num_states + num_carried, num_saved)
    write_carried = _writer(2 * num_states + num_carried + num_saved, num_carried)

    # Tiles: dstate, carried, state, saved, dcarried.
    def loop(batch, hidden, dx, width_x, dh, tiles):
        width_h = num_gates * hidden
        for b in range(batch):
            row_x, row_h = dx + 4 * b * width_x, dh + 4 * b * width_h
            for h in range(hidden):
                n = b * hidden + h
                dgates, dprevious = gates_bwd(
                    read_dstate(tiles, n), read_saved(tiles, n), read_carried(tiles, n), read_state(tiles, n)
                )
                write_gates(row_x, row_h, dgates, hidden, h)
                write_carried(tiles, dprevious, n)

    return compiled(loop)


class FusedStep:
    """Gate maths by one compiled loop; see `recurrence.Step`."""

    differentiable = True
    norm_fwd, norm_bwd = staticmethod(norm_fwd), staticmethod(norm_bwd)

    def __init__(self, cell: Cell, first: int) -> None:
        self.cell, self.first = cell, first

    def fwd(self, gates_x: Tensor | None, gates_h: Tensor | None, carried: Tensors, out: Tensors) -> Tensors:
        batch, hidden = out[0].shape
        saved = out[0].new_empty(len(self.cell.saved), batch, hidden)
        # Names keep the tensors alive as long as their addresses are in use.
        first = None if gates_x is None else gates_x.contiguous()
        second = None if gates_h is None else gates_h.contiguous()
        tiles = list(map(Tensor.contiguous, (*carried, *out)))
        _forward_loop(self.cell, self.first, gates_x is not None, gates_h is not None)(
            batch,
            hidden,
            0 if first is None else first.data_ptr(),
            0 if first is None else first.shape[1],
            0 if second is None else second.data_ptr(),
            (*map(Tensor.data_ptr, tiles), *map(Tensor.data_ptr, saved.unbind(0))),
        )
        return (saved,)

    @staticmethod
    def keeps(cell: Cell, batch: int, hidden: int, dtype: torch.dtype) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [((len(cell.saved), batch, hidden), dtype)]

    @staticmethod
    def norm_keeps(batch: int, width: int) -> list[tuple[int, ...]]:
        return [(batch, width)]

    def views(self, buffer: Tensor, hidden: int) -> Sequence[tuple[int, int]]:
        """Return the addresses and widths of the steps of a contiguous buffer, which the caller keeps."""
        num_steps, batch, width = buffer.shape
        start, size = buffer.data_ptr(), batch * width * buffer.element_size()
        return list(zip(count(start, size), repeat(width, num_steps), strict=False))

    def bwd(self, dstate: Tensors, saved: Tensors, carried: Tensors, state: Tensors, dx: Any, dh: Any) -> Tensors:
        batch, hidden = state[0].shape
        parts = state[0].new_empty(len(carried), batch, hidden).unbind(0)
        # In one layout: upstream gradients and states come transposed or expanded.
        inputs = list(map(Tensor.contiguous, (*dstate, *carried, *state)))
        _backward_loop(self.cell, self.first, dx is not None, dh is not None)(
            batch,
            hidden,
            *(dx or (0, 0)),
            dh[0] if dh else 0,
            (*map(Tensor.data_ptr, (*inputs, *saved[0].unbind(0), *parts)),),
        )
        return parts


def fused(
    cell: Cell | Chain,
    x: Tensor,
    state_0: Tensors,
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, Tensors]:
    """Run one layer in one direction with compiled gate loops. Arguments and results as in `kit_torch.eager`.

    Raises:
        RuntimeError: tensors other than float32 on a CPU, `launch.fused_supported` says so in words.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        raise RuntimeError(f"the fused schedule cannot run this: {fused_supported(x.device, x.dtype)[1]}")
    return recurrence("fused", cell, x, state_0, weights, mask, reverse=reverse, additions=additions)
