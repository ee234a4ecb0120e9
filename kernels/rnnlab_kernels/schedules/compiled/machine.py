"""The machine: a step as a list of instructions, run for each step over a tile of rows, and for tile after tile.

Rows never meet inside a recurrence, so that a thread takes a tile of rows through all of time alone; whoever is free
takes the next tile. Programs are as terms.py says.
"""

from rnnlab_kernels.schedules.compiled.terms import (
    ACTIVE,
    AHEAD,
    AT_AFTER,
    AT_BEFORE,
    AT_OTHER,
    AT_PACKED,
    AT_PARITY,
    AT_STEP,
    AT_TILE,
    BACKWARDS,
    BATCH,
    END,
    END_LENGTH,
    FIRST_PLACE,
    HOLD,
    HOLD_LENGTH,
    PLACE,
    PLACES,
    PREPARE,
    PREPARE_LENGTH,
    REVERSE,
    ROWS,
    SCRATCH,
    SLOTS,
    SPLIT,
    SPLIT_LENGTH,
    START,
    START_LENGTH,
    STEP,
    STEP_LENGTH,
    STEPS,
    TILE_BYTES,
    TILES,
)
from rnnlab_kernels.schedules.compiled.words import call, compiled, set_word, take, word


@compiled
def locate(program, tile, position, t):
    """Write the addresses of all places at a step to the start of the tile's scratch."""
    reverse, slots, first_row = word(program, REVERSE), word(program, SLOTS), tile * word(program, ROWS)
    scratch = word(program, SCRATCH) + tile * word(program, TILE_BYTES)
    i, ahead = word(program, FIRST_PLACE), 0
    if word(program, AHEAD) >= 0:
        ahead = word(word(program, i + PLACE * word(program, AHEAD) + 1), t * word(program, TILES) + tile)
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
        elif kind == AT_PACKED:
            address = base + ahead * row
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
