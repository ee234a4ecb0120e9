"""The instructions that are not a cell's: over elements, over rows with flags, and layer norm.

Each is a C function of the address of its words, the tile's scratch and the number of its rows. A tile of R rows is
either rows (R, W), one after the other, or blocks (G, R, H) of a gate's columns each, which gate maths go through as
one vector each. float32 throughout, by address. A flag is a byte for each row. P marks an operand, of two words.

    norm      y = gain * z + shift        z = (x - mean) * rstd      rstd = 1 / sqrt(variance + EPS), of each row
    backward  dx = rstd * (u - mean(u) - z * mean(u * z))            u = gain * dy
              dgain += sum over rows of dy * z                       dshift += sum over rows of dy
"""

import numpy as np

from rnnlab_kernels.cells.chain import EPS
from rnnlab_kernels.cells.compiled import inline, load, load_written, store
from rnnlab_kernels.schedules.compiled.words import apart, as_float, at, flag, listed

F = np.float32
_EPS = F(EPS)


def gather(words, scratch, rows):
    """P rows, P blocks, P vector that is added to each row or none, bytes between rows, G, H, bytes between blocks."""
    apart()
    source, out, added = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    source_row, blocks, columns, out_block = listed(words, 6), listed(words, 7), listed(words, 8), listed(words, 9)
    for g in range(blocks):
        for r in range(rows):
            first, into = source + r * source_row + 4 * g * columns, out + g * out_block + 4 * r * columns
            if added:
                for c in range(columns):
                    store(into, c, load(first, c) + load(added, g * columns + c))
            else:
                for c in range(columns):
                    store(into, c, load(first, c))


def scatter(words, scratch, rows):
    """P blocks, P rows, P sums to which all rows are added or none, bytes between blocks, G, H, bytes between rows."""
    apart()
    source, out, total = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    source_block, blocks, columns, out_row = listed(words, 6), listed(words, 7), listed(words, 8), listed(words, 9)
    for r in range(rows):
        for g in range(blocks):
            first, into = source + g * source_block + 4 * r * columns, out + r * out_row + 4 * g * columns
            if total:
                sums = total + 4 * g * columns
                for c in range(columns):
                    value = load(first, c)
                    store(into, c, value)
                    store(sums, c, load_written(sums, c) + value)
            else:
                for c in range(columns):
                    store(into, c, load(first, c))


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
        if source:
            if source + step != into:
                for c in range(columns):
                    store(into, c, load(source + step, c))
        else:
            for c in range(columns):
                store(into, c, F(0.0))


def add_rows(words, scratch, rows):
    """P flags or none, P rows that are added where the flag is set, P to what, bytes between the former, W."""
    apart()
    flags, source, out = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    source_row, columns = listed(words, 6), listed(words, 7)
    for r in range(rows):
        first, into = source + r * source_row, out + 4 * r * columns
        if not flags or flag(flags, r):
            for c in range(columns):
                store(into, c, load_written(into, c) + load(first, c))


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


@inline
def _moments(row, blocks, columns, step):
    """Return mean and 1/standard deviation of a row in blocks."""
    scale = F(1.0) / F(blocks * columns)
    total = F(0.0)
    for g in range(blocks):
        for c in range(columns):
            total += load(row + g * step, c)
    mean = total * scale
    squares = F(0.0)
    for g in range(blocks):
        for c in range(columns):
            distance = load(row + g * step, c) - mean
            squares += distance * distance
    return mean, F(1.0) / np.sqrt(squares * scale + _EPS)


def norm(words, scratch, rows):
    """P source, P out, P gain, P shift or none, bytes between blocks of source, G, H, bytes between blocks of out."""
    apart()
    source, out, gain, shift = (
        at(words, scratch, 0),
        at(words, scratch, 2),
        at(words, scratch, 4),
        at(words, scratch, 6),
    )
    source_block, blocks, columns, out_block = listed(words, 8), listed(words, 9), listed(words, 10), listed(words, 11)
    for r in range(rows):
        mean, rstd = _moments(source + 4 * r * columns, blocks, columns, source_block)
        for g in range(blocks):
            first, into = source + g * source_block + 4 * r * columns, out + g * out_block + 4 * r * columns
            own, added = gain + 4 * g * columns, shift + 4 * g * columns
            if shift:
                for c in range(columns):
                    store(into, c, (load(first, c) - mean) * rstd * load(own, c) + load(added, c))
            else:
                for c in range(columns):
                    store(into, c, (load(first, c) - mean) * rstd * load(own, c))


def norm_back(words, scratch, rows):
    """P dy, P source, P gain, P dx, P and P to what the gradients of gain and shift are added; bytes between blocks of
    dy, of source, G, H, bytes between blocks of dx."""
    apart()
    upstream, source, gain = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    out, dgain, dshift = at(words, scratch, 6), at(words, scratch, 8), at(words, scratch, 10)
    upstream_block, source_block = listed(words, 12), listed(words, 13)
    blocks, columns, out_block = listed(words, 14), listed(words, 15), listed(words, 16)
    part = F(1.0) / F(blocks * columns)
    for r in range(rows):
        step = 4 * r * columns
        mean, rstd = _moments(source + step, blocks, columns, source_block)
        total, products = F(0.0), F(0.0)
        for g in range(blocks):
            dy, x, own = upstream + g * upstream_block + step, source + g * source_block + step, gain + 4 * g * columns
            for c in range(columns):
                u = load(dy, c) * load(own, c)
                total += u
                products += u * ((load(x, c) - mean) * rstd)
        total, products = total * part, products * part
        for g in range(blocks):
            dy, x, own = upstream + g * upstream_block + step, source + g * source_block + step, gain + 4 * g * columns
            into, scaled, added = out + g * out_block + step, dgain + 4 * g * columns, dshift + 4 * g * columns
            for c in range(columns):
                grad, z = load(dy, c), (load(x, c) - mean) * rstd
                store(into, c, rstd * (grad * load(own, c) - total - z * products))
                store(scaled, c, load_written(scaled, c) + grad * z)
                store(added, c, load_written(added, c) + grad)
