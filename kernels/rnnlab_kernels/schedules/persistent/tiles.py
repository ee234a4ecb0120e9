"""Which chains and sizes the kernels take, and with which tiles: pure functions, no tuning at run time.

| rule | a product and a gate update | several products or norms |
| --- | --- | --- |
| BLOCK_K, 16 bits | 128; odd H 32 | 128, with two products 64; odd H or R*H >= 4096 16 |
| BLOCK_K, fp32 | 16 | 16 |
| blocks along K at once | 1 | as many as keep 8 warps busy on tensor cores |
| registers | 255; TF32, heads 232 | 255, 3 gates or fewer 252; R*H >= 4096 240; fp32 252, odd H 128 |
| registers, backward | 248, 252 or 244; fp32 252, 4 gates 168; heads 216 | 255; R*H >= 4096 or fp32 240, odd H 128 |
| UNITS*R, where programs wait | any | 64, with one product 128, in fp32 256 |
| no plan | 16 bits, BLOCK_B*H*R > 65536 and programs that wait | heads |

R rows of weights for each unit: gates of the widest product rounded up to a power of two; H is odd where 16 does not
divide it. fp32 products are no tensor core's, odd sizes are read element by element: larger blocks would spill
registers. Limits on registers are those at which no planned variant does (`python -m rnnlab_kernels.aot`): a program
has all of a multiprocessor, which the compiler has to be told, since it would stop at 80 and spill; where it may take
all it may start more loads at once than it has room for. A chain without a product takes one element a thread.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.launch import MIN_TILE
from rnnlab_kernels.schedules.additions import Additions
from rnnlab_kernels.schedules.persistent.wiring import (
    MAX_GATES,
    Tiles,
    Wiring,
    is_one_product,
    product_tiles,
    refusal,
    wire,
)


class Tiling(NamedTuple):
    """A launch of the kernels.

    Attributes:
        grid: programs along the units of a head, along rows, and along heads.
        options: compile-time options of both kernels; SPLITS, how many blocks of the narrowest product are multiplied
            side by side; RESIDENT, whether weights stay on the chip.
        registers: the most a thread may take, forward and backward; None leaves it to the compiler.
        parts: backward, programs leave parts of dh for each other instead of reading all gate gradients.
    """

    grid: tuple[int, int, int]
    options: dict[str, Any]
    registers: tuple[int, int] | None = None
    parts: bool = False

    def options_of(self, backwards: bool) -> dict[str, Any]:
        """Return the compiler's options for one of the kernels."""
        compiler = {key: value for key, value in self.options.items() if not key.isupper()}
        return compiler if self.registers is None else {**compiler, "maxnreg": self.registers[backwards]}

    @property
    def is_step(self) -> bool:
        """Whether a launch covers one step and reads the weights anew."""
        return not self.options["RESIDENT"]

    def product_tiles(self, wiring: Wiring, backwards: bool) -> tuple[Tiles, ...]:
        """Return how products go through K."""
        units, num_k, splits = (self.options[key] for key in ("UNITS", "NUM_K", "SPLITS"))
        return product_tiles(wiring, units, num_k, splits, backwards, not self.is_step, self.parts)


def heads_of(weights: Iterable[Tensor]) -> int:
    """Return how many heads weights have, of all directions: those of products are (N, R*D, D), or (R*H, H) of one."""
    return max([1, *[len(weight) for weight in weights if weight.dim() == 3]])


def obstacle_of(chain: Chain, additions: Additions, hidden: int = 0, heads: int = 1, step: bool = False) -> str:
    """Return why the kernels cannot run a chain, whatever the chip, or an empty string.

    Args:
        chain, additions: of the call.
        hidden: units of a head.
        heads: of all directions.
        step: one launch a step.
    """
    noise = additions.noise
    if step and not is_one_product(chain):
        return f"a step of {chain.name} is not one product and one gate update, but may have more than one product"
    if reason := refusal(chain):
        return reason
    if step and additions.clip is not None:
        return "clipping between steps takes the pointwise schedule"
    if heads > 1 and not is_one_product(chain):
        return f"heads and directions side by side take one product, and {chain.name} is another chain"
    if noise is not None and any(noise.zoneout) and len(chain.states) > 2:
        return f"zoneout of {len(chain.states)} states takes the pointwise schedule"
    if heads > 1 and hidden % 4 and noise is not None and noise.training and (noise.candidate or any(noise.zoneout)):
        return "masks are drawn for four units at once: heads must have a multiple of that"
    return ""


def plan_sequence(
    cell: Cell | Chain,
    batch: int,
    hidden: int,
    itemsize: int,
    sm_count: int,
    smem_bytes: int,
    tf32: bool = False,
    heads: int = 1,
) -> tuple[Tiling | None, str]:
    """Return the tiles for all of time in one launch, None where they do not fit, and the reason in words.

    Args:
        cell: of a call.
        batch: B.
        hidden: units of a head.
        itemsize: bytes of a stored value.
        sm_count, smem_bytes: multiprocessors of the chip, and the shared memory that one program may use.
        tf32: how fp32 values are multiplied.
        heads: of all directions.

    As few programs along units as the slices of the weights allow, since each of them reads what the others made. The
    programs of a batch tile wait for each other: all have to be on the chip at once, one a multiprocessor.
    """
    chain = cell if isinstance(cell, Chain) else as_chain(cell)
    if reason := refusal(chain):
        return None, reason
    wiring = wire(chain, ())
    if too_large := _beyond_offsets(wiring, batch, hidden, heads):
        return None, too_large
    if heads > 1 and (hidden % 16 or itemsize == 4):
        return None, "heads and directions side by side would spill registers in fp32, or with odd numbers of units"
    if not wiring.products:
        return _alone(batch, hidden), "no product: no program waits for another"
    one, most = is_one_product(chain), max(stage.rows for stage in wiring.products)
    options, registers = (_one_product if one else _stages)(wiring, hidden, itemsize, tf32, heads)
    for block_b in (16, 32, 64, 128):
        num_tiles = -(-batch // block_b)
        for units in (128, 64, 32, MIN_TILE):
            num_slices = -(-hidden // units)
            options |= {"UNITS": units, "BLOCK_B": block_b}
            needed = _shared_bytes(wiring, options, itemsize)
            if _too_wide(wiring, options, hidden, itemsize) or needed > smem_bytes:
                continue
            if one and num_slices > 1 and block_b * hidden * most > 1 << 16 and itemsize == 2:
                return None, f"{batch} rows take tiles of {block_b}, which at {hidden} units would spill registers"
            if num_slices == 1 or num_slices * num_tiles * heads <= sm_count:
                # All gate gradients for each program are more to read than parts of dh, where gates and rows are many.
                parts = one and num_slices > 1 and itemsize == 2 and hidden >= 768 and batch >= 32 and most > 1
                plan = Tiling((num_slices, num_tiles, heads), options, registers, parts)
                return plan, f"weights on the chip, {num_slices} programs a batch tile of {block_b} rows"
            break  # more programs would not help; larger tiles of rows might
    return None, f"the recurrent weights of {hidden} units do not fit on {sm_count} multiprocessors with {batch} rows"


def _one_product(
    wiring: Wiring, hidden: int, itemsize: int, tf32: bool, heads: int
) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return options but for units and rows, and registers, of a product and a gate update."""
    widest = MIN_TILE if itemsize == 4 else 32 if hidden % 16 else 128
    block_k = min(widest, max(MIN_TILE, _power_of_two(hidden)))
    if heads > 1:
        registers = 232, 216
    elif itemsize == 4:
        registers = 232 if tf32 else 255, 252 if tf32 or len(wiring.products[0].out) < MAX_GATES else 168
    elif hidden % 16:
        registers = 255, 244
    else:
        registers = 255, 248 if len(wiring.products[0].out) == MAX_GATES and hidden < 1024 else 252
    return _options(hidden, block_k, 1, tf32) | {"num_warps": 8, "num_stages": 1}, registers


def _stages(
    wiring: Wiring, hidden: int, itemsize: int, tf32: bool, heads: int
) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the same of several products or norms."""
    most = max(stage.rows for stage in wiring.products)
    narrow = itemsize == 4 or hidden % 16 or most * hidden >= 4096
    widest = MIN_TILE if narrow else 64 if len(wiring.products) > 1 else 128
    block_k = min(widest, max(MIN_TILE, _power_of_two(hidden)))
    if itemsize == 4:
        registers = 252, 240
    else:
        most_gates = max(len(stage.out) for stage in wiring.products)
        registers = (240, 240) if most * hidden >= 4096 else (252 if most_gates < MAX_GATES else 255, 255)
    options = _options(hidden, block_k, 8 if itemsize == 2 or tf32 else 1, tf32) | {"num_warps": 8, "num_stages": 1}
    if itemsize == 4 and hidden % 16 and not tf32:  # many single elements: more warps of fewer registers
        options, registers = options | {"num_warps": 16}, (128, 128)
    return options, registers


def _too_wide(wiring: Wiring, options: Mapping[str, Any], hidden: int, itemsize: int) -> bool:
    """Return whether tiles of so many units and rows are padding for the most part, or would spill registers."""
    units, products = options["UNITS"], wiring.products
    most = max(stage.rows for stage in products)
    several = len(products) + wiring.num_norms > 1
    if units > MIN_TILE and (units >= 2 * hidden or (units > (32 if several else MIN_TILE) and hidden % 16)):
        return True
    most_rows = 256 if itemsize == 4 else 128 if len(products) == 1 else 64
    rows = max(sum(stage.rows for stage in products), 4)
    if several and units < hidden and units > MIN_TILE and units * rows > most_rows:
        return True
    return units * most * options["BLOCK_B"] > 1 << 14


def _shared_bytes(wiring: Wiring, options: Mapping[str, Any], itemsize: int) -> int:
    """Return the shared memory a program needs: all weights, and what is multiplied or on its way to another layout."""
    units, block_b, block_k = options["UNITS"], options["BLOCK_B"], options["BLOCK_K"]
    if len(wiring.products) + wiring.num_norms == 1:
        rows = units * wiring.products[0].rows
        return rows * (options["NUM_K"] * block_k * itemsize + 4 * block_b) + (1 << 13)
    needed = 0
    for backwards in (False, True):
        held, passing = 0, 0
        all_tiles = product_tiles(wiring, units, options["NUM_K"], options["SPLITS"], backwards)
        for stage, tiles in zip(wiring.products, all_tiles, strict=True):
            rows = units if backwards else units * stage.rows
            held += len(tiles.numbers) * tiles.split * rows * block_k * itemsize
            passing = max(passing, tiles.split * block_b * max(block_k * itemsize, 4 * rows))
        needed = max(needed, held + passing)
    return needed + (1 << 11)


def _alone(batch: int, hidden: int) -> Tiling:
    """Return the tiles of a chain without a product: one element a thread, since time is what takes long."""
    units = min(128, max(MIN_TILE, _power_of_two(hidden)))
    options = _options(hidden, MIN_TILE, 1, False) | {"UNITS": units, "BLOCK_B": 128 // units, "num_warps": 4}
    return Tiling((-(-hidden // units), -(-batch // options["BLOCK_B"]), 1), options)


def plan_step(
    cell: Cell | Chain, batch: int, hidden: int, itemsize: int, tf32: bool = False, heads: int = 1
) -> tuple[Tiling | None, str]:
    """Return the tiles for launches of one step, and the reason in words. Any number of units; arguments as before.

    64 rows of gates a program, the least of which tensor cores take whole blocks, so that many programs share a step.
    """
    chain = cell if isinstance(cell, Chain) else as_chain(cell)
    wiring = wire(chain, ())
    if too_large := _beyond_offsets(wiring, batch, hidden, heads):
        return None, too_large
    units = max(MIN_TILE, 64 // wiring.products[0].rows)
    block_b = min(64 if itemsize == 2 else 32, max(MIN_TILE, _power_of_two(batch)))
    block_k = 64 if itemsize == 2 and hidden % 16 == 0 else MIN_TILE
    grid = -(-hidden // units), -(-batch // block_b), heads
    options = _options(hidden, block_k, 1, tf32) | {"UNITS": units, "BLOCK_B": block_b, "RESIDENT": False}
    # Odd sizes spill registers where the compiler may choose how many it takes.
    registers = (255, 244) if itemsize == 2 and hidden % 16 else None
    plan = Tiling(grid, options | {"num_warps": 8 if block_b > MIN_TILE else 4, "num_stages": 2}, registers)
    return plan, f"product and gates in one launch a step, {grid[0] * grid[1] * heads} programs"


def _options(hidden: int, block_k: int, splits: int, tf32: bool) -> dict[str, Any]:
    sizes: dict[str, Any] = {"NUM_K": -(-hidden // block_k), "BLOCK_K": block_k, "SPLITS": splits, "RESIDENT": True}
    # FP fusion is spelled out because its default changes between Triton versions.
    return sizes | {"PRECISION": "tf32" if tf32 else "ieee", "enable_fp_fusion": True}


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def _beyond_offsets(wiring: Wiring, batch: int, hidden: int, heads: int) -> str:
    """Return why the kernels cannot address tensors of these sizes, or an empty string."""
    rows = sum(len(stage.out) for stage in wiring.products)
    blocks = max(wiring.num_grads, wiring.num_saved, wiring.num_x)
    if max(batch * heads * hidden * blocks, hidden * hidden * rows) >= 1 << 31:
        return "offsets within a step are 32 bits wide"
    return ""


def plan_for(
    chain: Chain,
    additions: Additions,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    chip: tuple[int, int, bool],
    heads: int = 1,
    step: bool = False,
) -> tuple[Tiling | None, str]:
    """Return the tiles for a call, None where the kernels cannot run it, and the reason in a few words.

    Args:
        chain, additions, batch, dtype: of the call.
        hidden: units of a head.
        chip: multiprocessors, shared memory, TF32; `launch.chip_of` returns those of a device.
        heads: of all directions.
        step: one launch a step; else the whole sequence in one.
    """
    if obstacle := obstacle_of(chain, additions, hidden, heads, step):
        return None, obstacle
    sm_count, smem_bytes, tf32 = chip
    if step:
        return plan_step(chain, batch, hidden, dtype.itemsize, tf32, heads)
    return plan_sequence(chain, batch, hidden, dtype.itemsize, sm_count, smem_bytes, tf32, heads)
