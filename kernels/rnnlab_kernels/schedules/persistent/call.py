"""One call as the kernels take it."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import bind_triton
from rnnlab_kernels.cells.chain import CHAINS_BY_KEY, EPS, Chain
from rnnlab_kernels.schedules.additions import Additions, Noise, draw_masks
from rnnlab_kernels.schedules.engines import BOTH, Call
from rnnlab_kernels.schedules.layout import as_bytes
from rnnlab_kernels.schedules.noise.counter import as_int32, keep_threshold, key_words
from rnnlab_kernels.schedules.persistent.tasks import backward_tasks, forward_tasks, num_waits
from rnnlab_kernels.schedules.persistent.tiles import Tiling
from rnnlab_kernels.schedules.persistent.wiring import Stage, Wiring, is_one_product, wire

_wired = lru_cache(maxsize=None)(lambda key, *rest: wire(CHAINS_BY_KEY[key], *rest))


class Launch(NamedTuple):
    """One call; `launch_of` makes it.

    Attributes:
        chain: of the step.
        names: of the weights.
        tiling: of the launches.
        wiring: of the chain.
        mask, reset: (T, B) bytes or None.
        noise, clip, counter: as in `Additions`; the seed of the noise is not used.
        seeds: one for each direction.
        reverse, keep, replays: as in `engines.Call`.
    """

    chain: Chain
    names: tuple[str, ...]
    tiling: Tiling
    wiring: Wiring
    reverse: int
    mask: Tensor | None
    reset: Tensor | None
    noise: Noise | None
    seeds: tuple[Any, ...]
    keep: bool
    clip: float | None = None
    counter: Any = None
    replays: bool = True

    @property
    def drops_candidate(self) -> bool:
        return any(stage.candidate for stage in self.wiring.stages)

    @property
    def zone(self) -> int:
        """0 without zoneout, 1 where it is drawn, 2 in expectation."""
        return _zone_of(self.noise)

    @property
    def draws(self) -> bool:
        """Whether masks are drawn inside the kernels."""
        return self.drops_candidate or self.zone == 1

    @property
    def alone(self) -> bool:
        """Whether no program reads what others write: it has all units of its rows, or nothing is exchanged."""
        return self.tiling.grid[0] == 1 or not self.wiring.products

    @property
    def late(self) -> bool:
        """Whether backward makes the one product of a step at the start of the step before; what is clipped has it."""
        return self.clip is None and is_one_product(self.chain)

    def dropped(self, h_0: Tensor) -> Tensor | None:
        """Return the mask (B, H) of what a step multiplies of the state before, scaled, or None."""
        noise = self.noise
        if noise is None or not noise.training or not noise.recurrent or not self.wiring.products:
            return None
        parts = []
        for seed, part in zip(self.seeds, h_0.chunk(len(self.seeds), -1), strict=True):
            only = Additions(noise=noise._replace(seed=seed, candidate=0.0, zoneout=()))
            parts.append(draw_masks(only, self.chain, (part,) * self.chain.num_states, 1).sources["h_prev"])
        return torch.cat(parts, -1)

    def keys(self, device: torch.device, start: int = 0) -> Tensor:
        """Return what the counter of masks starts from: key, and index of step `start`, by direction.

        In memory, not among the arguments, which a captured graph would keep for ever.
        """
        first = start if self.noise is None else start + self.noise.first
        words = [as_int32(word) for seed in self.seeds for word in (*key_words(int(seed)), first)]
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():  # which takes no copies from the host
            return torch.stack([torch.full((), word, dtype=torch.int32, device=device) for word in words])
        return torch.tensor(words, dtype=torch.int32).to(device, non_blocking=True)

    def rates(self) -> dict[str, Any]:
        """Return the rates of the masks that kernels make, as they take them."""
        noise = self.noise or Noise(0)
        rates = [*noise.zoneout, 0.0, 0.0][:2]
        return {
            "candidate_threshold": keep_threshold(noise.candidate),
            "candidate_scale": 1.0 if noise.candidate == 1 else 1 / (1 - noise.candidate),
            **{f"zoneout_{k}": float(keep_threshold(p)) if noise.training else 1 - p for k, p in enumerate(rates)},
        }

    def tasks(self, backwards: bool) -> tuple[Stage, ...]:
        """Return what a program does in each step."""
        if backwards:
            return backward_tasks(self.wiring, self.alone, self.tiling.parts, self.late)
        return forward_tasks(self.wiring, self.alone)

    def constexprs(self, backwards: bool) -> dict[str, Any]:
        """Return the compile-time arguments and options of a kernel but for those of the launch."""
        wiring, tiling, noise = self.wiring, self.tiling, self.noise
        maths = [bind_triton(cell.gates_bwd if backwards else cell.gates_fwd) for cell in wiring.cells]
        if backwards:
            clip = 0 if self.clip is None else 1 if self.counter is None else 2
            one_way: dict[str, Any] = {"G": wiring.num_grads, "CLIP": clip, "LATE": self.late}
        else:
            one_way = {"X": wiring.num_x, "EPS": EPS, "KEEP": self.keep}
        return {
            # Apart and not in a tuple, of which Triton's cache would know names alone and not what they compute.
            "MATHS_0": maths[0],
            "MATHS_1": maths[-1],
            "PRODUCTS": wiring.products,
            "TILES": tiling.product_tiles(wiring, backwards),
            "NEW": wiring.new,
            "KEPT": wiring.kept,
            "R": sum(len(stage.out) for stage in wiring.products),
            "C": wiring.num_constants,
            "S": wiring.num_saved,
            "N": wiring.num_norms,
            "WAITS": num_waits(self.tasks(backwards)),
            "HAS_MASK": self.mask is not None,
            "HAS_RESET": self.reset is not None,
            "HAS_DROPPED": noise is not None and noise.training and noise.recurrent > 0 and bool(wiring.products),
            "ZONE": self.zone,
            "HEADS": tiling.grid[2] > 1,
            "REVERSE": self.reverse,
            "PROGRAMS": 1 << (tiling.grid[0] - 1).bit_length(),
            **one_way,
            **{key: tiling.options[key] for key in ("RESIDENT", "PRECISION", "UNITS", "BLOCK_B", "BLOCK_K")},
            **tiling.options_of(backwards),
        }


def _zone_of(noise: Noise | None) -> int:
    if noise is None or not any(noise.zoneout):
        return 0
    return 1 if noise.training else 2


def launch_of(call: Call) -> Launch:
    """Return a call, whose plan are its tiles, as the kernels take it."""
    chain, noise, additions = call.maths, call.additions.noise, call.additions
    assert isinstance(chain, Chain)
    drops_candidate = noise is not None and noise.training and noise.candidate > 0
    return Launch(
        chain,
        call.names,
        call.plan,
        _wired(chain.key, call.names, drops_candidate, _zone_of(noise) > 0),
        call.reverse,
        as_bytes(call.mask),
        as_bytes(additions.reset),
        noise,
        call.seeds or (0,) * (2 if call.reverse == BOTH else 1),
        call.keep,
        additions.clip,
        additions.counter,
        call.replays,
    )
