"""The instructions that are not a cell's: over elements, and over rows with flags; norms.py and products.py have more.

Each is a C function of the address of its words, the tile's scratch and the number of its rows. A tile of R rows is
either rows (R, W), one after the other, or blocks (G, R, H) of a gate's columns each, which gate maths go through as
one vector each. float32 throughout, by address. A flag is a byte for each row. P marks an operand, of two words.
"""

# mypy: disable-error-code="call-arg"

import numpy as np

from rnnlab_kernels.cells.compiled import inline, load, load_written, store
from rnnlab_kernels.schedules.compiled.terms import LANES
from rnnlab_kernels.schedules.compiled.vectors import plus, read, spread, times, total, write
from rnnlab_kernels.schedules.compiled.words import apart, as_float, at, flag, listed

F = np.float32


def gather(words, scratch, rows):
    """P rows, P blocks, P vector that is added to each row or none, bytes between rows, G, H, bytes between blocks."""
    apart()
    source, out, added = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    source_row, blocks, columns, out_block = listed(words, 6), listed(words, 7), listed(words, 8), listed(words, 9)
    for g in range(blocks):
        for c in range(0, columns, LANES):
            own, there = 4 * (g * columns + c), columns - c
            more, into = read(added + own, there) if added else spread(F(0.0)), out + g * out_block + 4 * c
            for r in range(rows):
                write(into + 4 * r * columns, there, plus(read(source + r * source_row + own, there), more))


def scatter(words, scratch, rows):
    """P blocks, P rows, P sums to which all rows are added or none, bytes between blocks, G, H, bytes between rows."""
    apart()
    source, out, sums = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    source_block, blocks, columns, out_row = listed(words, 6), listed(words, 7), listed(words, 8), listed(words, 9)
    for g in range(blocks):
        for c in range(0, columns, LANES):
            own, there, first = 4 * (g * columns + c), columns - c, source + g * source_block + 4 * c
            summed = spread(F(0.0))
            for r in range(rows):
                value = read(first + 4 * r * columns, there)
                write(out + r * out_row + own, there, value)
                summed = plus(summed, value)
            if sums:
                write(sums + own, there, plus(read(sums + own, there), summed))


def copy(words, scratch, rows):
    """P source, P out, W."""
    apart()
    source, out = at(words, scratch, 0), at(words, scratch, 2)
    for n in range(rows * listed(words, 4)):
        store(out, n, load(source, n))


def zero(words, scratch, rows):
    """P out, number of elements."""
    apart()
    out = at(words, scratch, 0)
    for n in range(listed(words, 2)):
        store(out, n, F(0.0))


def add_vector(words, scratch, rows):
    """P what is added, P to what, number of elements."""
    apart()
    source, out = at(words, scratch, 0), at(words, scratch, 2)
    for n in range(listed(words, 4)):
        store(out, n, load_written(out, n) + load(source, n))


def add(words, scratch, rows):
    """P what is added, P to what, W."""
    apart()
    source, out = at(words, scratch, 0), at(words, scratch, 2)
    for n in range(rows * listed(words, 4)):
        store(out, n, load_written(out, n) + load(source, n))


def scale(words, scratch, rows):
    """P and P, P their product element by element, W."""
    apart()
    first, second, out = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    for n in range(rows * listed(words, 6)):
        store(out, n, load(first, n) * load(second, n))


def mix(words, scratch, rows):
    """P before, P new, P part of the new or none, P out, W, the bits of a part for all.

    As torch.lerp, from the nearer end: exactly `new` for 1 and `before` for 0.
    """
    apart()
    before, new, part, out = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4), at(words, scratch, 6)
    count, fixed = rows * listed(words, 8), as_float(listed(words, 9))
    if part:
        for n in range(count):
            store(out, n, _between(load(before, n), load(new, n), load(part, n)))
    else:
        for n in range(count):
            store(out, n, _between(load(before, n), load(new, n), fixed))


@inline
def _between(before, new, part):
    near, far = before + part * (new - before), new - (new - before) * (F(1.0) - part)
    return near if part < F(0.5) else far


def unmix(words, scratch, rows):
    """P upstream, P part or none, P gradient of the new, P of what was before, W, the bits of a part for all."""
    apart()
    upstream, part = at(words, scratch, 0), at(words, scratch, 2)
    new, held = at(words, scratch, 4), at(words, scratch, 6)
    count, fixed = rows * listed(words, 8), as_float(listed(words, 9))
    if part:
        for n in range(count):
            grad = load(upstream, n)
            taken = grad * load(part, n)
            store(new, n, taken)
            store(held, n, grad - taken)
    else:
        for n in range(count):
            grad = load(upstream, n)
            taken = grad * fixed
            store(new, n, taken)
            store(held, n, grad - taken)


def choose(words, scratch, rows):
    """P flags, P rows where the flag is set, P where it is not, zeros for none, P out, W, bytes between rows of out."""
    apart()
    flags, first, second = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    out, columns, out_row = at(words, scratch, 6), listed(words, 8), listed(words, 9)
    for r in range(rows):
        into, step = out + r * out_row, 4 * r * columns
        source = first if flag(flags, r) else second
        if source + step != into:
            for c in range(0, columns, LANES):
                value = read(source + step + 4 * c, columns - c) if source else spread(F(0.0))
                write(into + 4 * c, columns - c, value)


def take_rows(words, scratch, rows):
    """P flags, P rows of memory, P their numbers, P out, W, bytes between the former; zeros where no flag is set."""
    apart()
    flags, source, numbers = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    out, columns, source_row = at(words, scratch, 6), listed(words, 8), listed(words, 9)
    for r in range(rows):
        own = source + listed(numbers, r) * source_row
        for c in range(0, columns, LANES):
            there = columns - c
            write(out + 4 * (r * columns + c), there, read(own + 4 * c, there) if flag(flags, r) else spread(F(0.0)))


def put_rows(words, scratch, rows):
    """P flags or none, P rows or none for zeros, P their numbers, P memory, W, bytes between rows of memory: all rows
    without flags, those whose flag is not set with them."""
    apart()
    flags, source, numbers = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    out, columns, out_row = at(words, scratch, 6), listed(words, 8), listed(words, 9)
    for r in range(rows):
        if not flags or not flag(flags, r):
            into = out + listed(numbers, r) * out_row
            for c in range(0, columns, LANES):
                there = columns - c
                value = read(source + 4 * (r * columns + c), there) if source else spread(F(0.0))
                write(into + 4 * c, there, value)


def add_rows(words, scratch, rows):
    """P flags or none, P rows that are added where the flag is set, P their numbers or none, P to what, bytes between
    the former, W."""
    apart()
    flags, source, numbers = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    out, source_row, columns = at(words, scratch, 6), listed(words, 8), listed(words, 9)
    for r in range(rows):
        if not flags or flag(flags, r):
            own = source + (listed(numbers, r) if numbers else r) * source_row
            for c in range(0, columns, LANES):
                into, there = out + 4 * (r * columns + c), columns - c
                write(into, there, plus(read(into, there), read(own + 4 * c, there)))


def clip(words, scratch, rows):
    """P flags or none, P rows that are clamped where the flag is set, W, the bits of the limit. NaN stays."""
    apart()
    flags, x = at(words, scratch, 0), at(words, scratch, 2)
    columns, limit = listed(words, 4), as_float(listed(words, 5))
    for r in range(rows):
        row = x + 4 * r * columns
        if not flags or flag(flags, r):
            for c in range(columns):
                value = load_written(row, c)
                value = limit if value > limit else value
                value = -limit if value < -limit else value
                store(row, c, value)


def squares(words, scratch, rows):
    """P rows, P sums of their squares, one a row, W."""
    apart()
    source, out, columns = at(words, scratch, 0), at(words, scratch, 2), listed(words, 4)
    for r in range(rows):
        row, summed = source + 4 * r * columns, spread(F(0.0))
        for c in range(0, columns, LANES):
            value = read(row + 4 * c, columns - c)
            summed = plus(summed, times(value, value))
        store(out, r, total(summed))
