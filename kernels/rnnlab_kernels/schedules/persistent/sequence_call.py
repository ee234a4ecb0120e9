"""What one call of sequence.py is, which chains it takes, and with which tiles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.launch import SequencePlan, chip_of, plan_sequence, plan_step
from rnnlab_kernels.schedules.additions import Noise, Walk, draw_masks
from rnnlab_kernels.schedules.noise.counter import as_int32, keep_threshold, key_words

MAX_GATES = 4  # of one product


def zone_of(noise: Noise | None) -> int:
    """Return 0 without zoneout, 1 where it is drawn, 2 in expectation."""
    if noise is None or not any(noise.zoneout):
        return 0
    return 1 if noise.training else 2


def dropped_units(noise: Noise, seeds: Sequence[Any], chain: Chain, h_0: Tensor) -> Tensor | None:
    """Return the mask (B, H) of what a step multiplies of the state before, scaled, or None; a seed a direction."""
    if not noise.training or not noise.recurrent:
        return None
    parts = []
    for seed, part in zip(seeds, h_0.chunk(len(seeds), -1), strict=True):
        only = Walk(noise=noise._replace(seed=seed, candidate=0.0, zoneout=()))
        parts.append(draw_masks(only, chain, (part,) * chain.num_states, 1).sources["h_prev"])
    return torch.cat(parts, -1)


def rates_inside(noise: Noise | None) -> dict[str, Any]:
    """Return the rates of the masks that kernels make, as they take them."""
    noise = noise or Noise(0)
    rates = [*noise.zoneout, 0.0, 0.0][:2]
    return {
        "candidate_threshold": keep_threshold(noise.candidate),
        "candidate_scale": 1.0 if noise.candidate == 1 else 1 / (1 - noise.candidate),
        **{f"zoneout_{k}": float(keep_threshold(p)) if noise.training else 1 - p for k, p in enumerate(rates)},
    }


class Call(NamedTuple):
    """One call: all that is not differentiated.

    `mask` is (T, B) bytes or None, `reset` (T+2, B) with zeros at either end; `seeds` has one for each direction.
    `replays` allows graphs; under torch.compile whoever wants one captures it.
    """

    chain: Chain
    names: tuple[str, ...]  # of the weights
    plan: SequencePlan
    reverse: int
    mask: Tensor | None
    reset: Tensor | None
    noise: Noise | None
    seeds: tuple[Any, ...]
    keep: bool
    replays: bool = True

    @property
    def gates(self) -> Gates:
        return gates_of(self.chain)

    @property
    def drops_candidate(self) -> bool:
        noise = self.noise
        return noise is not None and noise.training and noise.candidate > 0 and self.gates.cell.dropped is not None

    @property
    def cell(self) -> Cell:
        """The gate maths: the variant that takes a mask, when candidates are dropped."""
        cell = self.gates.cell
        return cell.dropped if self.drops_candidate and cell.dropped is not None else cell

    @property
    def zone(self) -> int:
        """0 without zoneout, 1 where it is drawn, 2 in expectation."""
        return zone_of(self.noise)

    def dropped(self, h_0: Tensor) -> Tensor | None:
        """Return the mask (B, H) of what a step multiplies of the state before, scaled, or None."""
        return None if self.noise is None else dropped_units(self.noise, self.seeds, self.chain, h_0)

    @property
    def draws(self) -> bool:
        """Whether masks are drawn inside the kernels."""
        return self.drops_candidate or self.zone == 1

    def keys(self, device: torch.device, start: int = 0) -> Tensor:
        """Return what the counter of those masks starts from: key, and index of step `start`, by direction."""
        first = start if self.noise is None else start + self.noise.first
        words = [word for seed in self.seeds for word in (*key_words(int(seed)), first)]
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():  # which takes no copies from the host
            return torch.stack([torch.full((), as_int32(word), dtype=torch.int32, device=device) for word in words])
        return torch.tensor([as_int32(word) for word in words], dtype=torch.int32).to(device, non_blocking=True)

    def constexprs(self) -> dict[str, Any]:
        """Return the compile-time arguments that both kernels take."""
        cell = self.cell
        states = [name for name in cell.carried if name in cell.states]
        return {
            "CARRIED": tuple(cell.states.index(name) for name in states),
            "G": cell.num_gates,
            "SPLIT": cell.split,
            "K": len(cell.states),
            "C": len(cell.carried) - len(states) - self.drops_candidate,
            "S": len(cell.saved),
            "HAS_MASK": self.mask is not None,
            "HAS_RESET": self.reset is not None,
            "HAS_DROPPED": self.noise is not None and self.noise.training and self.noise.recurrent > 0,
            "HAS_CANDIDATE": self.drops_candidate,
            "ZONE": self.zone,
            "HEADS": self.plan.grid[2] > 1,
            "REVERSE": self.reverse,
        }


def supports(chain: Chain) -> tuple[bool, str]:
    """Return whether a chain is one product with h and one gate update, and the reason in a few words."""
    stages = chain.stages
    if len(stages) != 2 or not isinstance(stages[0], Product) or not isinstance(stages[1], Gates):
        return False, f"a step of {chain.name} is more than one product and one gate update"
    product, gates = stages[0], stages[1]
    states = tuple(f"{name}_prev" for name in gates.cell.carried if name in gates.cell.states)
    constants = gates.carried[len(states) :]
    if gates.cell.num_gates > MAX_GATES:
        return False, f"{chain.name} has {gates.cell.num_gates} gates, a tile has rows for {MAX_GATES}"
    whole = product.sources == ("h_prev",) and gates.recurrent == product.out and gates.first == 0
    whole = whole and gates.out == chain.states == gates.cell.states and chain.output == chain.states[0] == "h"
    if not whole or gates.carried[: len(states)] != states or not set(constants) <= {*chain.constants}:
        return False, f"the product and the gate update of {chain.name} are wired in another way"
    return True, "one product and one gate update"


def gates_of(chain: Chain) -> Gates:
    """Return the gate update of a chain that `supports` takes."""
    return next(stage for stage in chain.stages if isinstance(stage, Gates))


def obstacle_of(chain: Chain, walk: Walk, hidden: int, heads: int) -> str:
    """Return why the kernels cannot run a chain, whatever its sizes, or an empty string."""
    possible, reason = supports(chain)
    if not possible:
        return reason
    if walk.clip is not None:
        return "clipping between steps takes the pointwise schedule"
    noise = walk.noise
    if noise is not None and any(noise.zoneout) and len(chain.states) > 2:
        return f"zoneout of {len(chain.states)} states takes the pointwise schedule"
    if heads > 1 and hidden % 4 and noise is not None and noise.training and (noise.candidate or any(noise.zoneout)):
        return "masks are drawn for four units at once: heads must have a multiple of that"
    return ""


def plan_for(
    chain: Chain,
    walk: Walk,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    device: torch.device,
    heads: int = 1,
    whole: bool = True,
) -> tuple[SequencePlan | None, str]:
    """Return the tiles for a chain, None where the schedule cannot run it, and the reason in a few words.

    Args:
        chain, walk, batch, dtype, device: of the call.
        hidden: units of a head.
        heads: of all directions.
        whole: the whole sequence in one launch; else one launch a step.
    """
    if obstacle := obstacle_of(chain, walk, hidden, heads):
        return None, obstacle
    sm_count, smem_bytes, tf32 = chip_of(dtype, device)
    sizes = gates_of(chain).cell.num_gates, batch, hidden, dtype.itemsize
    if whole:
        return plan_sequence(*sizes, sm_count, smem_bytes, tf32, heads)
    return plan_step(*sizes, tf32, heads)
