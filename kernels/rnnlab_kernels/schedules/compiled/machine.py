"""The machine: a step as a list of instructions, run for each step over a tile of rows, and for tile after tile.

A program (program.py) is memory of int64: a head, places, instructions. Rows never meet inside a recurrence, so that a
thread takes a tile of rows through all of time alone; whoever is free takes the next tile.

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
| SCRATCH, TILE_BYTES | scratch, and how much of it each tile has |

A place is where a value stands: kind, base, bytes from slot to slot, bytes from row to row. Its slot is, by kind, the
step, the state before it, the state after it, the parity of its position, the other parity, or none; scratch counts
from a tile's own, memory from the tile's first row. A tile's scratch begins with the addresses of all places.

An instruction is the address of a C function, how many words it has in all, and the function's own (rows.py, gates.py,
products.py). It gets their address, the tile's scratch and the number of its rows.
"""

from rnnlab_kernels.schedules.compiled.words import call, compiled, set_word, take, word

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
    SCRATCH,
    TILE_BYTES,
    HEAD,
) = range(26)
AT_STEP, AT_BEFORE, AT_AFTER, AT_PARITY, AT_OTHER, AT_TILE, AT_ALL = range(7)
PLACE = 4  # words
MAX_PLACES = 128


@compiled
def locate(program, tile, position, t):
    """Write the addresses of all places at a step to the start of the tile's scratch."""
    reverse, slots, first_row = word(program, REVERSE), word(program, SLOTS), tile * word(program, ROWS)
    scratch = word(program, SCRATCH) + tile * word(program, TILE_BYTES)
    i = word(program, FIRST_PLACE)
    for n in range(word(program, PLACES)):
        kind, base, slot, row = word(program, i), word(program, i + 1), word(program, i + 2), word(program, i + 3)
        if kind == AT_STEP:
            address = base + t * slot + first_row * row
        elif kind == AT_BEFORE:
            address = base + (t + 1 if reverse else t) % slots * slot + first_row * row
        elif kind == AT_AFTER:
            address = base + (t if reverse else t + 1) % slots * slot + first_row * row
        elif kind == AT_PARITY:
            address = scratch + base + position % 2 * slot
        elif kind == AT_OTHER:
            address = scratch + base + (1 - position % 2) * slot
        elif kind == AT_TILE:
            address = scratch + base
        else:
            address = base + first_row * row
        set_word(scratch, n, address)
        i += PLACE


@compiled
def run_instructions(program, i, length, scratch, rows):
    """Run the instructions in `length` words from word i on."""
    end = i + length
    while i < end:
        call(word(program, i), program + 8 * (i + 2), scratch, rows)
        i += word(program, i + 1)


def prepare(program):
    """Do what comes before all tiles, with the scratch of the first."""
    locate(program, 0, 0, 0)
    run_instructions(program, word(program, PREPARE), word(program, PREPARE_LENGTH), word(program, SCRATCH), 0)


def run(program):
    """Take tiles until there are no more."""
    num_steps, batch = word(program, STEPS), word(program, BATCH)
    reverse, backwards = word(program, REVERSE), word(program, BACKWARDS)
    num_tiles, active = word(program, TILES), 0
    if word(program, ACTIVE) >= 0:
        active = word(program, word(program, FIRST_PLACE) + PLACE * word(program, ACTIVE) + 1)
    tile = take(program)
    while tile < num_tiles:
        rows = min(word(program, ROWS), batch - tile * word(program, ROWS))
        scratch = word(program, SCRATCH) + tile * word(program, TILE_BYTES)
        position = num_steps - 1 if backwards else 0
        locate(program, tile, position, num_steps - 1 - position if reverse else position)
        run_instructions(program, word(program, START), word(program, START_LENGTH), scratch, rows)
        for step in range(num_steps):
            position = num_steps - 1 - step if backwards else step
            t = num_steps - 1 - position if reverse else position
            locate(program, tile, position, t)
            inside = word(active, t * num_tiles + tile) if active else -1
            if inside >= 0:
                run_instructions(program, word(program, SPLIT), word(program, SPLIT_LENGTH), scratch, rows)
            if inside:
                count = rows if inside < 0 else min(inside, rows)
                run_instructions(program, word(program, STEP), word(program, STEP_LENGTH), scratch, count)
            if inside >= 0:
                run_instructions(program, word(program, HOLD), word(program, HOLD_LENGTH), scratch, rows)
        run_instructions(program, word(program, END), word(program, END_LENGTH), scratch, rows)
        tile = take(program)
