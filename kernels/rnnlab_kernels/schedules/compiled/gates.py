"""A cell's gate maths as an instruction over the elements of a tile, each way.

Every value is a vector of as many elements as the tile has, so that there is one loop without a rest for each row. The
words of an instruction are H, then operands in this order:

| direction | operands |
| --- | --- |
| forward | input parts; recurrent parts; carried values; new states; saved values |
| backward | gradients of states; saved, carried values; states; gradients of pre-activations, of carried values |
| total | gradients of states; saved, carried values; states; whole gradients of states |

Where gates have both parts those of merged ones are added here. Gradients of pre-activations are those of the gates,
then of the recurrent parts of split ones.
"""

# mypy: disable-error-code="call-arg"

from functools import cache
from typing import Any

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from rnnlab_kernels.cells import Cell, bind_numba
from rnnlab_kernels.cells.compiled import inline, load, store
from rnnlab_kernels.schedules.compiled.words import apart, at, listed


@cache
def _reader(first: int, count: int) -> Any:
    """Return the function that reads element n of `count` vectors, from the `first` on, as a tuple."""
    if not count:
        return inline(lambda words, scratch, n: ())
    zeros = (np.float32(0.0),) * count

    def read(words, scratch, n):
        values = zeros
        for k in range(count):
            values = tuple_setitem(values, k, load(at(words, scratch, 1 + 2 * (first + k)), n))
        return values

    return inline(read)


@cache
def _writer(first: int, count: int) -> Any:
    """Return the function that writes a tuple of `count` values to element n of vectors."""
    if not count:
        return inline(lambda words, scratch, values, n: None)

    def write(words, scratch, values, n):
        for k in range(count):
            store(at(words, scratch, 1 + 2 * (first + k)), n, values[k])

    return inline(write)


def _both_reader(num_gates: int, num_merged: int, split: int) -> Any:
    """Return the function that reads input parts and recurrent parts, and adds those of merged gates."""
    zeros = (np.float32(0.0),) * (num_gates + split)

    def read(words, scratch, n):
        values = zeros
        for k in range(num_merged):
            total = load(at(words, scratch, 1 + 2 * (k)), n) + load(at(words, scratch, 1 + 2 * (num_gates + k)), n)
            values = tuple_setitem(values, k, total)
        for k in range(num_merged, num_gates):
            values = tuple_setitem(values, k, load(at(words, scratch, 1 + 2 * (k)), n))
            values = tuple_setitem(values, k + split, load(at(words, scratch, 1 + 2 * (num_gates + k)), n))
        return values

    return inline(read)


def forward_of(cell: Cell, both: bool) -> Any:
    """Return a cell's forward function. `both`: gates have an input part and a recurrent part."""
    num_gates, num_carried, num_states = cell.num_gates, len(cell.carried), len(cell.states)
    read_gates = _both_reader(num_gates, cell.num_merged, cell.split) if both else _reader(0, num_gates)
    first = 2 * num_gates if both else num_gates
    gates_fwd, read_carried = bind_numba(cell.gates_fwd), _reader(first, num_carried)
    write_states = _writer(first + num_carried, num_states)
    write_saved = _writer(first + num_carried + num_states, len(cell.saved))

    def forward(words, scratch, rows):
        apart()
        for n in range(rows * listed(words, 0)):
            states, saved = gates_fwd(read_gates(words, scratch, n), read_carried(words, scratch, n))
            write_states(words, scratch, states, n)
            write_saved(words, scratch, saved, n)

    return forward


def backward_of(cell: Cell) -> Any:
    """Return a cell's backward function."""
    num_states, num_saved, num_carried = len(cell.states), len(cell.saved), len(cell.carried)
    gates_bwd, num_gates = bind_numba(cell.gates_bwd), cell.num_gates + cell.split
    read_upstream, read_saved = _reader(0, num_states), _reader(num_states, num_saved)
    read_carried = _reader(num_states + num_saved, num_carried)
    read_states = _reader(num_states + num_saved + num_carried, num_states)
    first = 2 * num_states + num_saved + num_carried
    write_gates, write_carried = _writer(first, num_gates), _writer(first + num_gates, num_carried)

    def backward(words, scratch, rows):
        apart()
        for n in range(rows * listed(words, 0)):
            dgates, dcarried = gates_bwd(
                read_upstream(words, scratch, n),
                read_saved(words, scratch, n),
                read_carried(words, scratch, n),
                read_states(words, scratch, n),
            )
            write_gates(words, scratch, dgates, n)
            write_carried(words, scratch, dcarried, n)

    return backward


def total_of(cell: Cell) -> Any:
    """Return a cell's function from the gradients of states to the whole ones."""
    num_states, num_saved, num_carried = len(cell.states), len(cell.saved), len(cell.carried)
    gates_total = bind_numba(cell.gates_total)
    read_upstream, read_saved = _reader(0, num_states), _reader(num_states, num_saved)
    read_carried = _reader(num_states + num_saved, num_carried)
    first = num_states + num_saved + num_carried
    read_states, write_totals = _reader(first, num_states), _writer(first + num_states, num_states)

    def total(words, scratch, rows):
        apart()
        for n in range(rows * listed(words, 0)):
            totals = gates_total(
                read_upstream(words, scratch, n),
                read_saved(words, scratch, n),
                read_carried(words, scratch, n),
                read_states(words, scratch, n),
            )
            write_totals(words, scratch, totals, n)

    return total
