"""What may be added to a recurrence without touching the cell: resets, random masks, clipped gradients.

All schedules take the same `Additions` and give the same results for them: masks come from a counter (noise/), so that
the plain loop, the hand-written backward pass and a window of a longer sequence see the same ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.schedules.noise.masks import keep_mask

# Streams of the counter: what a mask is for.
RECURRENT, CANDIDATE, ZONEOUT = 0, 64, 128

# Takes a gradient (B, W), the limit and the rows (B, 1) that it is for; None for all rows.
Counter = Callable[[Tensor, float, Tensor | None], None]


class Noise(NamedTuple):
    """Random masks of one pass over time.

    Attributes:
        seed: of the counter, drawn once a forward pass.
        recurrent: probability of dropping a unit of a previous state on its way into every product, times gates or as
            it is, one mask for all steps (Gal & Ghahramani, 2016). What enters element by element is not dropped.
        candidate: probability of dropping a unit of the candidate, anew at each step (Semeniuta et al., 2016).
        zoneout: for each state of the chain, the probability that a unit keeps its previous value (Krueger et al.,
            2017).
        training: False takes expectations: no dropout, and zoneout as a weighted mean.
        first: time index of the first step, for a window of a longer sequence.
    """

    seed: int | Tensor
    recurrent: float = 0.0
    candidate: float = 0.0
    zoneout: tuple[float, ...] = ()
    training: bool = True
    first: int = 0


def noise_config(noise: Noise | None) -> list[Any]:
    """Return all of it but the seed as an operator takes it, empty for none: see `noise_of`."""
    if noise is None:
        return []
    # In digits: torch.compile may take numbers for inputs that vary, but not their digits.
    rates = [float(p).hex() for p in (noise.recurrent, noise.candidate, *noise.zoneout)]
    return [rates, noise.training, noise.first]


def noise_of(config: Sequence[Any], seed: int | Tensor) -> Noise | None:
    """Return what `noise_config` was made of, with a seed."""
    if not config:
        return None
    rates, training, first = config
    recurrent, candidate, *zoneout = map(float.fromhex, rates)
    return Noise(seed, recurrent, candidate, tuple(zoneout), training, first)


class Additions(NamedTuple):
    """Additions to a pass over time.

    Attributes:
        reset: (T, B, 1) boolean or None: where True, the row's states are zero before the step.
        noise: dropout and zoneout, or None.
        clip: the gradient that the states hand back over each step is clamped to +-clip, element by element; a step
            that holds a row's states hands it back as it is. None clamps none.
        counter: called as counter(gradient, clip, valid) before each clamping, or None.
        recorder: called by the backward pass with what recording.py says of its gradients, or None.
    """

    reset: Tensor | None = None
    noise: Noise | None = None
    clip: float | None = None
    counter: Counter | None = None
    recorder: Any = None


PLAIN = Additions()


class Masks(NamedTuple):
    """The masks of a pass over time, drawn.

    Attributes:
        sources: for each previous state that enters a product, as it is or times gates, the dropout mask (B, W) of what
            is multiplied, scaled by 1/(1-p).
        candidate: (T, B, H), scaled, or None.
        update: for each state what part of the new value is taken: (T, B, W) of 0 and 1, a number, or None for all.
    """

    sources: Mapping[str, Tensor]
    candidate: Tensor | None
    update: tuple[Tensor | float | None, ...]

    def update_at(self, t: int) -> tuple[Tensor | float | None, ...]:
        """Return the parts of the new states that are taken at step t; empty if all are taken whole."""
        return tuple(part[t] if isinstance(part, Tensor) else part for part in self.update)


NO_MASKS = Masks({}, None, ())


def draw_masks(additions: Additions, chain: Chain, state_0: tuple[Tensor, ...], num_steps: int) -> Masks:
    """Return the masks of `num_steps` steps; the same arguments give the same masks.

    Args:
        additions: what was asked for.
        chain: whose states and products they are for.
        state_0: initial states (B, W) for width, device and dtype.
        num_steps: T.
    """
    noise = additions.noise
    if noise is None:
        return NO_MASKS
    batch = state_0[0].shape[0]
    sources: dict[str, Tensor] = {}
    if noise.training and noise.recurrent:
        entering = {name for stage in chain.stages if isinstance(stage, Product) for name in stage.sources}
        for k, (state, value) in enumerate(zip(chain.states, state_0, strict=True)):
            if f"{state}_prev" in entering:
                shape = (1, *value.shape)
                mask = keep_mask(noise.seed, RECURRENT + k, 0, shape, noise.recurrent, value.device, value.dtype)
                sources[f"{state}_prev"] = _scaled(mask[0], noise.recurrent)
        gated = [stage for stage in chain.stages if isinstance(stage, Product) and stage.gated in sources]
        sources |= {stage.sources[0]: sources[str(stage.gated)] for stage in gated}
    candidate = None
    like = state_0[-1]  # as wide as the gates: only h may be narrower, through a projection
    if noise.training and noise.candidate:
        shape = (num_steps, batch, like.shape[-1])
        mask = keep_mask(noise.seed, CANDIDATE, noise.first, shape, noise.candidate, like.device, like.dtype)
        candidate = _scaled(mask, noise.candidate)
    update: list[Tensor | float | None] = []
    for k, (p, value) in enumerate(zip(noise.zoneout, state_0, strict=False)):
        if not p:
            update.append(None)
        elif not noise.training:
            update.append(1.0 - p)
        else:
            shape = (num_steps, *value.shape)
            # A unit is updated with probability 1 - p.
            update.append(keep_mask(noise.seed, ZONEOUT + k, noise.first, shape, p, value.device, value.dtype))
    return Masks(sources, candidate, tuple(update) if any(part is not None for part in update) else ())


def _scaled(mask: Tensor, p: float) -> Tensor:
    return mask if p == 1 else mask * (1 / (1 - p))


def has_candidate(chain: Chain) -> bool:
    """Return whether some gate update of the chain has a candidate that can be dropped."""
    return any(isinstance(stage, Gates) and stage.cell.dropped is not None for stage in chain.stages)


def take_part(previous: Tensor, new: Tensor, part: Tensor | float) -> Tensor:
    """Return previous + part * (new - previous), exactly `new` for 1 and `previous` for 0."""
    return torch.lerp(previous, new, part) if isinstance(part, float) else torch.lerp(previous, new, part.to(new.dtype))


class _ClipGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, valid: Tensor | None, limit: float, count: Any) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None, float, Any], output: Tensor) -> None:
        _, valid, ctx.limit, ctx.count = inputs
        ctx.save_for_backward(valid)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return tangent.view_as(tangent)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (valid,) = ctx.saved_tensors
        return clamped(grad, ctx.limit, ctx.count, valid), None, None, None


def clamped(grad: Tensor, limit: float, count: Counter | None, valid: Tensor | None) -> Tensor:
    """Return a gradient (B, W) clamped to +-limit in the rows that are `valid` (B, 1), None for all; counted before."""
    if count is not None:
        count(grad, limit, valid)
    bounded = grad.clamp(-limit, limit)
    return bounded if valid is None else torch.where(valid, bounded, grad)


def clip_gradient(value: Tensor, limit: float, count: Counter | None = None, valid: Tensor | None = None) -> Tensor:
    """Return `value`; its gradient is clamped as by `clamped`."""
    return _ClipGradient.apply(value, valid, limit, count)
