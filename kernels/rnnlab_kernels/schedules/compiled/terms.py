"""The terms of programs: their format, and what those who write one must know of compiled code. Needs no Numba.

A program (program.py) is memory of int64: a head, places, instructions.

| head | |
| --- | --- |
| NEXT, TILES, ROWS | the next tile to take, how many there are, rows of a tile |
| STEPS, BATCH, REVERSE, BACKWARDS | T, B, the direction along time, and whether it is gone back |
| SLOTS | of states: T+1, or 2 where only the last is kept |
| PLACES, FIRST_PLACE | how many places, and the word at which they begin |
| PREPARE, START | the instructions before all tiles, and before a tile's first step: first word, LENGTH in words |
| STEP, END | likewise of a step, and after the last |
| SPLIT, HOLD | before and after a step of a tile of which some rows are outside their length: over all its rows |
| ACTIVE | the place of a table (T, tiles): over how many rows a step goes, -1 where all are inside; -1 for no table |
| AHEAD | the place of a table (T, tiles): how many rows of earlier steps and tiles were gone over; -1 for no table |
| SCRATCH, TILE_BYTES | scratch, and how much of it each tile has |

A place is where a value stands: kind, base, bytes from slot to slot, bytes from row to row. Its slot is, by kind, the
step, the state before it, the state after it, the parity of its position, the other parity, or none; scratch counts
from a tile's own, memory from the tile's first row, or, where rows that are not gone over have no memory, from what is
ahead. A tile's scratch begins with the addresses of all places.

An instruction is the address of a C function, how many words it has in all, and the function's own (rows.py, gates.py,
products.py). It gets their address, the tile's scratch and the number of its rows.
"""

from llvmlite.binding import get_host_cpu_features

(
    NEXT,
    TILES,
    ROWS,
    STEPS,
    BATCH,
    REVERSE,
    BACKWARDS,
    SLOTS,
    PLACES,
    FIRST_PLACE,
    PREPARE,
    PREPARE_LENGTH,
    START,
    START_LENGTH,
    STEP,
    STEP_LENGTH,
    END,
    END_LENGTH,
    SPLIT,
    SPLIT_LENGTH,
    HOLD,
    HOLD_LENGTH,
    ACTIVE,
    AHEAD,
    SCRATCH,
    TILE_BYTES,
    HEAD,
) = range(27)
AT_STEP, AT_BEFORE, AT_AFTER, AT_PARITY, AT_OTHER, AT_TILE, AT_ALL, AT_PACKED = range(8)
PLACE = 4  # words
MAX_PLACES = 128

IS_WIDE = bool(get_host_cpu_features().get("avx512f"))
LANES = 16 if IS_WIDE else 8  # float32 of a vector
STATISTICS = 4  # of a row, between the loops of a norm's backward pass


def packed_size(depth: int, blocks: int, columns: int) -> int:
    """Return how many elements packed weights take (products.py)."""
    return depth * blocks * (-(-columns // LANES) * LANES)
