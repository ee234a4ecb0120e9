"""Products of a few rows with packed weights, by a kernel that keeps a tile of the result in registers.

A library's product is made for one large call; here it is one of thousands of small ones, always with the same weights.
Those are packed once: blocks of columns, a gate's each, in panels of WIDTH columns whose K rows follow each other, so
that a panel comes from memory in order and stays in the nearest cache while all rows go through it. The last panel of a
block may be half as wide; columns beyond the block are zeros and are not written.

    out[g][r][c] = start + sum over k of source[r][k] * weight[g][k][c]

`start` is a vector of columns, the same for all rows, or what stands in `out`.
"""

# mypy: disable-error-code="call-arg"

from functools import cache
from typing import Any

import numba
from numba.core import types
from numba.extending import intrinsic

from rnnlab_kernels.cells.compiled import load, load_written, store
from rnnlab_kernels.schedules.compiled.terms import IS_WIDE, LANES
from rnnlab_kernels.schedules.compiled.vectors import (
    FLOAT,
    VECTOR,
    WORD,
    ZEROS,
    all_lanes,
    declared,
    first_lanes,
    read_lanes,
    write_lanes,
)
from rnnlab_kernels.schedules.compiled.words import apart, at, compiled, listed

# A tile of the result is of two vectors' columns and as many rows as registers hold: 32 of 16 lanes, or 16 of 8.
MOST = 8 if IS_WIDE else 4  # rows of a tile


@cache
def _tile(rows: int, vectors: int) -> Any:
    """Return the function that computes `rows` rows of a panel of `vectors` vectors.

    Its arguments: source, bytes between its rows and from k to k; panel and bytes from k to k; K; start and bytes
    between its rows; out and bytes between its rows; how many columns of the last vector there are.
    """

    @intrinsic
    def tile(
        typing_context,
        source,
        source_row,
        source_step,
        panel,
        panel_step,
        depth,
        start,
        start_row,
        out,
        out_row,
        columns,
    ):
        def generate(context, builder, signature, arguments):
            source, source_row, source_step, panel, panel_step, depth = arguments[:6]
            start, start_row, out, out_row, columns = arguments[6:]
            flags = first_lanes(builder, columns) if vectors == 1 else None
            pointer = VECTOR.as_pointer()
            fma = declared(builder, f"llvm.fma.v{LANES}f32", VECTOR, VECTOR, VECTOR, VECTOR)

            def read(row: Any, v: int) -> Any:
                place = builder.add(row, WORD(4 * LANES * v))
                if flags is None:
                    return builder.load(builder.inttoptr(place, pointer), align=4)
                return read_lanes(builder, place, flags)

            sources = [builder.add(source, builder.mul(source_row, WORD(r))) for r in range(rows)]
            before = builder.block
            body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
            builder.branch(body)
            builder.position_at_end(body)
            k = builder.phi(WORD)
            k.add_incoming(WORD(0), before)
            found = []
            for _ in range(rows * vectors):
                found.append(builder.phi(VECTOR))
                found[-1].add_incoming(ZEROS, before)
            line, step = builder.add(panel, builder.mul(k, panel_step)), builder.mul(k, source_step)
            weights = [read(line, v) for v in range(vectors)]
            new = []
            for r in range(rows):
                place = builder.inttoptr(builder.add(sources[r], step), FLOAT.as_pointer())
                factor = all_lanes(builder, builder.load(place, align=4), VECTOR)
                for v in range(vectors):
                    new.append(builder.call(fma, [factor, weights[v], found[r * vectors + v]]))
            following = builder.add(k, WORD(1))
            builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
            end = builder.block
            k.add_incoming(following, end)
            for phi, value in zip(found, new, strict=True):
                phi.add_incoming(value, end)
            builder.position_at_end(after)
            for r in range(rows):
                row = builder.add(out, builder.mul(out_row, WORD(r)))
                first = builder.add(start, builder.mul(start_row, WORD(r)))
                for v in range(vectors):
                    # Added last: over many calls rounding grows with their number, not with that of products.
                    value, place = (
                        builder.fadd(new[r * vectors + v], read(first, v)),
                        builder.add(row, WORD(4 * LANES * v)),
                    )
                    if flags is None:
                        builder.store(value, builder.inttoptr(place, pointer), align=4)
                    else:
                        write_lanes(builder, value, place, flags)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), generate

    return tile


tile_2, tile_4x2, tile_2x2, tile_1x2 = (_tile(rows, 2) for rows in (MOST, 4, 2, 1))
tile_1, tile_4x1, tile_2x1, tile_1x1 = (_tile(rows, 1) for rows in (MOST, 4, 2, 1))


@compiled
def panel_of_two(rows, source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row):
    """Compute all rows of a panel of two vectors."""
    apart()
    r = 0
    while rows - r >= MOST:
        tile_2(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, 0)
        r, source = r + MOST, source + MOST * source_row
        start, out = start + MOST * start_row, out + MOST * out_row
    if rows - r >= 4:
        tile_4x2(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, 0)
        r, source, start, out = r + 4, source + 4 * source_row, start + 4 * start_row, out + 4 * out_row
    if rows - r >= 2:
        tile_2x2(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, 0)
        r, source, start, out = r + 2, source + 2 * source_row, start + 2 * start_row, out + 2 * out_row
    if rows - r >= 1:
        tile_1x2(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, 0)


@compiled
def panel_of_one(
    rows, source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, columns
):
    """Compute all rows of a panel of one vector, of which `columns` are there."""
    apart()
    r = 0
    while rows - r >= MOST:
        tile_1(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, columns)
        r, source = r + MOST, source + MOST * source_row
        start, out = start + MOST * start_row, out + MOST * out_row
    if rows - r >= 4:
        tile_4x1(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, columns)
        r, source, start, out = r + 4, source + 4 * source_row, start + 4 * start_row, out + 4 * out_row
    if rows - r >= 2:
        tile_2x1(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, columns)
        r, source, start, out = r + 2, source + 2 * source_row, start + 2 * start_row, out + 2 * out_row
    if rows - r >= 1:
        tile_1x1(source, source_row, source_step, panel, panel_step, depth, start, start_row, out, out_row, columns)


def multiply(words, scratch, rows):
    """An instruction as those of rows.py: P source, P out, P weights, P start (G, whole vectors) or none for what is in
    `out`, bytes between rows of source, K, G, H, bytes between rows of out, between its blocks."""
    source, out, packed, start = (
        at(words, scratch, 0),
        at(words, scratch, 2),
        at(words, scratch, 4),
        at(words, scratch, 6),
    )
    source_row, depth, blocks, columns = listed(words, 8), listed(words, 9), listed(words, 10), listed(words, 11)
    out_row, out_block = listed(words, 12), listed(words, 13)
    for _ in range(blocks):
        c = 0
        while c < columns:
            first, first_row = (start + 4 * c, 0) if start else (out + 4 * c, out_row)
            if columns - c >= 2 * LANES:
                line, into = 8 * LANES, out + 4 * c
                panel_of_two(rows, source, source_row, 4, packed, line, depth, first, first_row, into, out_row)
                packed, c = packed + line * depth, c + 2 * LANES
            else:
                line, into, there = 4 * LANES, out + 4 * c, min(columns - c, LANES)
                panel_of_one(rows, source, source_row, 4, packed, line, depth, first, first_row, into, out_row, there)
                packed, c = packed + line * depth, c + LANES
        if start:
            start += 4 * ((columns + LANES - 1) // LANES * LANES)
        out += out_block


def outer(words, scratch, rows):
    """Add what rows give to the gradient of a weight, and to that of a bias: P blocks (G, R, H), P rows (R, N), P sums
    (G*H, N) of the blocks transposed times the rows, P sums (G*H,) of the blocks' rows or none, bytes between blocks,
    G, H, bytes between rows, N, the bits of 1."""
    source, panel = at(words, scratch, 0), at(words, scratch, 2)
    total, bias_total = at(words, scratch, 4), at(words, scratch, 6)
    source_block, blocks, columns = listed(words, 8), listed(words, 9), listed(words, 10)
    row, width, one = listed(words, 11), listed(words, 12), words + 8 * 13
    for _ in range(blocks):
        add_product(columns, source, 4, 4 * columns, panel, row, width, rows, total)
        if bias_total:
            add_product(1, one, 0, 0, source, 4 * columns, columns, rows, bias_total)
            bias_total += 4 * columns
        source, total = source + source_block, total + 4 * columns * width


@compiled
def add_product(rows, source, source_row, source_step, panel, panel_step, columns, depth, out):
    """Add a product with weights that are not packed to contiguous rows (R, columns)."""
    c = 0
    while c < columns:
        first, into, out_row = panel + 4 * c, out + 4 * c, 4 * columns
        if columns - c >= 2 * LANES:
            panel_of_two(rows, source, source_row, source_step, first, panel_step, depth, into, out_row, into, out_row)
            c += 2 * LANES
        else:
            there = min(columns - c, LANES)
            panel_of_one(
                rows, source, source_row, source_step, first, panel_step, depth, into, out_row, into, out_row, there
            )
            c += LANES


def pack(words, scratch, rows):
    """Write weights in panels: P weights, P out, elements from column to column of a block, from k to k, K, G, H."""
    apart()
    weight, out = at(words, scratch, 0), at(words, scratch, 2)
    column_step, depth_step = listed(words, 4), listed(words, 5)
    depth, blocks, columns = listed(words, 6), listed(words, 7), listed(words, 8)
    for g in range(blocks):
        c = 0
        while c < columns:
            wide = 2 * LANES if columns - c >= 2 * LANES else LANES
            there = min(wide, columns - c)
            first = (g * columns + c) * column_step
            for k in range(depth):
                for lane in range(there):
                    store(out, k * wide + lane, load(weight, first + lane * column_step + k * depth_step))
                for lane in range(there, wide):
                    store(out, k * wide + lane, numba.float32(0.0))
            out += 4 * wide * depth
            c += wide


def pad(words, scratch, rows):
    """Add a vector to blocks of whole vectors: P (G*H,), P (G, whole), G, H, whole."""
    apart()
    source, out, blocks = at(words, scratch, 0), at(words, scratch, 2), listed(words, 4)
    columns, wide = listed(words, 5), listed(words, 6)
    for g in range(blocks):
        for c in range(columns):
            total = load_written(out, g * wide + c) + load(source, g * columns + c)
            store(out, g * wide + c, total)
