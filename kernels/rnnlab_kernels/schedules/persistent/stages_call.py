"""What one call of stages.py is, which chains it takes, and with which tiles."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import bind_triton
from rnnlab_kernels.cells.chain import EPS, Chain
from rnnlab_kernels.launch import MIN_TILE, SequencePlan, chip_of
from rnnlab_kernels.schedules.additions import Noise, Walk
from rnnlab_kernels.schedules.noise.counter import as_int32, key_words
from rnnlab_kernels.schedules.persistent.sequence_call import dropped_units, rates_inside, zone_of
from rnnlab_kernels.schedules.persistent.stages_wiring import (
    Stage,
    Wiring,
    backward_steps,
    forward_steps,
    num_waits,
    product_tiles,
    refusal,
    wire,
)


class Call(NamedTuple):
    """One call: all that is not differentiated. `mask` and `reset` are (T, B) bytes or None."""

    chain: Chain
    names: tuple[str, ...]  # of the weights
    plan: SequencePlan
    reverse: bool
    mask: Tensor | None
    reset: Tensor | None
    noise: Noise | None
    keep: bool

    @property
    def wiring(self) -> Wiring:
        noise = self.noise
        drops_candidate = noise is not None and noise.training and noise.candidate > 0
        return wire(self.chain, self.names, drops_candidate, self.zone > 0)

    @property
    def zone(self) -> int:
        """0 without zoneout, 1 where it is drawn, 2 in expectation."""
        return zone_of(self.noise)

    def dropped(self, h_0: Tensor) -> Tensor | None:
        """Return the mask (B, H) of what a step multiplies of the state before, scaled, or None."""
        return None if self.noise is None else dropped_units(self.noise, (self.noise.seed,), self.chain, h_0)

    def random(self) -> dict[str, Any]:
        """Return the arguments of both kernels from which they make masks."""
        noise = self.noise or Noise(0)
        words = [as_int32(word) for word in key_words(int(noise.seed))]
        return {
            "key_0": words[0],
            "key_1": words[1],
            "first_step": noise.first,
            **rates_inside(noise),
        }

    def constexprs(self, backwards: bool, itemsize: int) -> dict[str, Any]:
        """Return the compile-time arguments of a kernel but for those of the launch."""
        wiring, slices, options = self.wiring, self.plan.grid[0], self.plan.options
        splits = num_splits(options, itemsize)
        maths = [bind_triton(cell.gates_bwd if backwards else cell.gates_fwd) for cell in wiring.cells]
        own = {"D": wiring.num_grads} if backwards else {"X": wiring.num_x, "EPS": EPS, "KEEP": self.keep}
        return {
            # Apart and not in a tuple, of which Triton's cache would know names alone and not what they compute.
            "MATHS_0": maths[0],
            "MATHS_1": maths[-1],
            "PRODUCTS": wiring.products,
            "TILES": product_tiles(wiring, options["UNITS"], options["NUM_K"], splits, backwards),
            "NEW": wiring.new,
            "KEPT": wiring.kept,
            "S": wiring.num_saved,
            "N": wiring.num_norms,
            "WAITS": num_waits(self.steps(backwards)),
            "HAS_MASK": self.mask is not None,
            "HAS_RESET": self.reset is not None,
            "HAS_DROPPED": self.noise is not None and self.noise.training and self.noise.recurrent > 0,
            "ZONE": self.zone,
            "REVERSE": self.reverse,
            "PROGRAMS": 1 << (slices - 1).bit_length(),
            **own,
            **{key: value for key, value in options.items() if key != "NUM_K"},
        }

    def steps(self, backwards: bool) -> tuple[Stage, ...]:
        """Return what a program does in each step."""
        return (backward_steps if backwards else forward_steps)(self.wiring, self.plan.grid[0] == 1)


def supports(chain: Chain) -> tuple[bool, str]:
    """Return whether the kernels run a chain, and the reason in a few words."""
    reason = refusal(chain)
    return reason is None, reason or "several products or norms in a step, all as wide as the state"


def obstacle_of(chain: Chain, walk: Walk) -> str:
    """Return why the kernels cannot run a chain, whatever its sizes, or an empty string."""
    possible, reason = supports(chain)
    if not possible:
        return reason
    drops = walk.noise is not None and walk.noise.training and walk.noise.recurrent > 0
    if drops and any(getattr(stage, "gated", None) for stage in chain.stages):
        return "dropout of a state that enters a product times gates takes the pointwise schedule"
    return "" if walk.clip is None else "clipping between steps takes the pointwise schedule"


def num_splits(options: Mapping[str, Any], itemsize: int) -> int:
    """Return by how many the blocks of the narrowest product are multiplied side by side: tensor cores' warps."""
    return 8 if itemsize == 2 or options["PRECISION"] == "tf32" else 1


def plan_stages(
    chain: Chain, batch: int, hidden: int, itemsize: int, sm_count: int, smem_bytes: int, tf32: bool = False
) -> tuple[SequencePlan | None, str]:
    """Return the tiles of the kernels for these sizes, None where they do not fit, and the reason in words.

    As `launch.plan_sequence` does: slices of all weights of a step stay on the chip, on as few programs along units as
    they fit, and all programs of a grid that waits are on the chip at once, one a multiprocessor. `tf32` says how fp32
    values are multiplied.
    """
    possible, reason = supports(chain)
    if not possible:
        return None, reason
    wiring = wire(chain, ())
    products = wiring.products
    if batch * hidden * max(wiring.num_grads, wiring.num_saved) >= 1 << 31:
        return None, "offsets within a step are 32 bits wide"
    rows, most = sum(stage.rows for stage in products), max(stage.rows for stage in products)
    # fp32 products are no tensor core's, odd sizes are read element by element: larger blocks would spill registers.
    # So they would in slices of four gates of so many units.
    widest = MIN_TILE if itemsize == 4 or hidden % 16 or most * hidden >= 4096 else 64 if len(products) > 1 else 128
    block_k = min(widest, max(MIN_TILE, 1 << max(hidden - 1, 0).bit_length()))
    options: dict[str, Any] = {
        "NUM_K": -(-hidden // block_k),
        "BLOCK_K": block_k,
        "PRECISION": "tf32" if tf32 else "ieee",
        "num_warps": 8,
        "num_stages": 1,
        "maxnreg": 240 if itemsize == 4 or most * hidden >= 4096 else 255,
        "enable_fp_fusion": True,
    }
    if itemsize == 4 and hidden % 16 and not tf32:  # many single elements: more warps of fewer registers
        options |= {"num_warps": 16, "maxnreg": 128}
    # More rows of weights, in programs that wait, and registers spill: so the compiler says (stages_variants.py).
    most_rows = 256 if itemsize == 4 else 128 if len(products) == 1 else 64
    for block_b in (16, 32, 64, 128):
        num_tiles = -(-batch // block_b)
        for units in (128, 64, 32, MIN_TILE):
            num_slices = -(-hidden // units)
            options |= {"UNITS": units, "BLOCK_B": block_b}
            too_wide = units > MIN_TILE and units >= 2 * hidden or units > 32 and hidden % 16
            too_wide = too_wide or num_slices > 1 and units > MIN_TILE and units * max(rows, 4) > most_rows
            too_wide = too_wide or units * most * block_b > 1 << 14
            if too_wide or _shared_bytes(wiring, options, itemsize) > smem_bytes:
                continue
            if num_slices == 1 or num_slices * num_tiles <= sm_count:
                plan = SequencePlan((num_slices, num_tiles, 1), most, options)
                return plan, f"weights on the chip, {num_slices} programs a batch tile of {block_b} rows"
            break  # more programs would not help; larger tiles of rows might
    return None, f"the recurrent weights of {hidden} units do not fit on {sm_count} multiprocessors with {batch} rows"


def _shared_bytes(wiring: Wiring, options: Mapping[str, Any], itemsize: int) -> int:
    """Return the shared memory a program needs: all weights, and what is multiplied or on its way to another layout."""
    units, block_b, block_k = options["UNITS"], options["BLOCK_B"], options["BLOCK_K"]
    needed = 0
    for backwards in (False, True):
        held, passing = 0, 0
        splits = num_splits(options, itemsize)
        all_tiles = product_tiles(wiring, units, options["NUM_K"], splits, backwards)
        for stage, tiles in zip(wiring.products, all_tiles, strict=True):
            rows = units if backwards else units * stage.rows
            held += len(tiles.numbers) * tiles.split * rows * block_k * itemsize
            passing = max(passing, tiles.split * block_b * max(block_k * itemsize, 4 * rows))
        needed = max(needed, held + passing)
    return needed + (1 << 11)


def plan_for(
    chain: Chain, walk: Walk, batch: int, hidden: int, dtype: torch.dtype, device: torch.device
) -> tuple[SequencePlan | None, str]:
    """Return the tiles for a chain on a device, None where the schedule cannot run it, and the reason in a few words.

    Without a GPU plans are for an H200.
    """
    if obstacle := obstacle_of(chain, walk):
        return None, obstacle
    return plan_stages(chain, batch, hidden, dtype.itemsize, *chip_of(dtype, device))
