"""Layer norm as instructions, as those of rows.py, each way.

norm      y = gain * z + shift        z = (x - mean) * rstd      rstd = 1 / sqrt(variance + EPS), of each row
backward  dx = rstd * (u - mean(u) - z * mean(u * z))            u = gain * dy
          dgain += sum over rows of dy * z                       dshift += sum over rows of dy
"""

# mypy: disable-error-code="call-arg"

import numpy as np

from rnnlab_kernels.cells.chain import EPS
from rnnlab_kernels.cells.compiled import inline, load, store
from rnnlab_kernels.schedules.compiled.terms import LANES, STATISTICS
from rnnlab_kernels.schedules.compiled.vectors import first, minus, plus, read, spread, times, total, write
from rnnlab_kernels.schedules.compiled.words import apart, at, listed

F = np.float32
_EPS = F(EPS)


@inline
def _moments(row, blocks, columns, step):
    """Return mean and 1/standard deviation of a row in blocks; two sums at a time, so that none waits for itself."""
    scale = F(1.0) / F(blocks * columns)
    even, odd = spread(F(0.0)), spread(F(0.0))
    for g in range(blocks):
        for c in range(0, columns, 2 * LANES):
            even = plus(even, read(row + g * step + 4 * c, columns - c))
            odd = plus(odd, read(row + g * step + 4 * (c + LANES), columns - c - LANES))
    mean = total(plus(even, odd)) * scale
    means, even, odd = spread(mean), spread(F(0.0)), spread(F(0.0))
    for g in range(blocks):
        for c in range(0, columns, 2 * LANES):
            x, y = read(row + g * step + 4 * c, columns - c), columns - c - LANES
            near = first(minus(x, means), columns - c)
            far = first(minus(read(row + g * step + 4 * (c + LANES), y), means), y)
            even, odd = plus(even, times(near, near)), plus(odd, times(far, far))
    return mean, F(1.0) / np.sqrt(total(plus(even, odd)) * scale + _EPS)


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
        row, into = source + 4 * r * columns, out + 4 * r * columns
        mean, rstd = _moments(row, blocks, columns, source_block)
        means, rstds = spread(mean), spread(rstd)
        for g in range(blocks):
            for c in range(0, columns, LANES):
                step, own, there = 4 * c, 4 * (g * columns + c), columns - c
                z = times(minus(read(row + g * source_block + step, there), means), rstds)
                y = times(z, read(gain + own, there))
                if shift:
                    y = plus(y, read(shift + own, there))
                write(into + g * out_block + step, there, y)


def norm_back(words, scratch, rows):
    """P dy, P source, P gain, P dx, P and P to what the gradients of gain and shift are added, P room for STATISTICS of
    each row; bytes between blocks of dy, of source, G, H, bytes between blocks of dx."""
    apart()
    upstream, source, gain = at(words, scratch, 0), at(words, scratch, 2), at(words, scratch, 4)
    out, dgain, dshift, found = (
        at(words, scratch, 6),
        at(words, scratch, 8),
        at(words, scratch, 10),
        at(words, scratch, 12),
    )
    upstream_block, source_block = listed(words, 14), listed(words, 15)
    blocks, columns, out_block = listed(words, 16), listed(words, 17), listed(words, 18)
    part = F(1.0) / F(blocks * columns)
    for r in range(rows):
        row, dy = source + 4 * r * columns, upstream + 4 * r * columns
        mean, rstd = _moments(row, blocks, columns, source_block)
        means, sums, products = spread(mean), spread(F(0.0)), spread(F(0.0))
        for g in range(blocks):
            for c in range(0, columns, LANES):
                there = columns - c
                u = times(read(dy + g * upstream_block + 4 * c, there), read(gain + 4 * (g * columns + c), there))
                x = minus(read(row + g * source_block + 4 * c, there), means)
                sums, products = plus(sums, u), plus(products, times(u, x))
        store(found, STATISTICS * r, mean)
        store(found, STATISTICS * r + 1, rstd)
        store(found, STATISTICS * r + 2, total(sums) * part)
        store(found, STATISTICS * r + 3, total(products) * rstd * part)
    for g in range(blocks):
        for c in range(0, columns, LANES):
            own, there = 4 * (g * columns + c), columns - c
            gains, scaled, added = read(gain + own, there), read(dgain + own, there), read(dshift + own, there)
            row, dy = source + g * source_block + 4 * c, upstream + g * upstream_block + 4 * c
            into = out + g * out_block + 4 * c
            for r in range(rows):
                step, k = 4 * r * columns, STATISTICS * r
                grad, rstd = read(dy + step, there), spread(load(found, k + 1))
                z = times(minus(read(row + step, there), spread(load(found, k))), rstd)
                scaled, added = plus(scaled, times(grad, z)), plus(added, grad)
                rest = plus(spread(load(found, k + 2)), times(z, spread(load(found, k + 3))))
                write(into + step, there, times(rstd, minus(times(grad, gains), rest)))
            write(dgain + own, there, scaled)
            write(dshift + own, there, added)
