"""`schedules.sequence`, which `step` and `both_ways` are too, and `schedules.stages` as engines of `rnnlab::run`.

Tensors of both: x, weights, initial states, those of mask and reset that there are, and a seed for each direction.
Tiles are planned when a program runs, for the sizes and the device it then has: while it is traced these may be any.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels import ops
from rnnlab_kernels.cells.bind import find
from rnnlab_kernels.cells.chain import CHAINS_BY_KEY, Chain
from rnnlab_kernels.launch import SequencePlan
from rnnlab_kernels.schedules.additions import Noise, Walk, noise_config, noise_of
from rnnlab_kernels.schedules.persistent import sequence_call, sequence_walk, stages_call, stages_walk
from rnnlab_kernels.schedules.persistent.sequence_call import BOTH
from rnnlab_kernels.schedules.persistent.sequence_walk import as_bytes, padded

Tensors = Sequence[Tensor]
NO_PLAN = SequencePlan((0, 0, 0), 0, {})  # of a call that is only asked for shapes


class _WholeSequence:
    """What both engines share: their modules of plain functions are called alike."""

    keeps_results = False
    walks: Any  # module of walk_forward, walk_backward and kept_by

    def _call(self, config: Any, tensors: Tensors, keep: bool, fake: bool = False) -> tuple[Any, list[Tensor]]:
        """Return the call, and x, weights and initial states."""
        raise NotImplementedError

    def num_results(self, config: Any) -> int:
        return 1 + len(find(CHAINS_BY_KEY, config[0]).states)

    def forward(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        call, (x, *rest) = self._call(config, tensors, keep)
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            results, kept = self.walks.walk_forward(call, x, rest)
        return [_own(value) for value in (*results, *(kept if keep else ()))]

    def fake(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        call, (x, *rest) = self._call(config, tensors, keep, fake=True)
        state_0 = rest[len(call.names) :]
        found = [x.new_empty(*x.shape[:2], state_0[0].shape[1]), *(x.new_empty(value.shape) for value in state_0)]
        if keep:
            found += [x.new_empty(shape, dtype=dtype) for shape, dtype in self.walks.kept_by(call, x, state_0)]
        return found

    def backward(
        self, config: Any, tensors: Tensors, kept: Tensors, grads: list[Tensor | None], needed: list[bool]
    ) -> list[Tensor | None]:
        call, (x, *rest) = self._call(config, tensors, True)
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            found = self.walks.walk_backward(call, x, rest, kept, grads, needed[: 1 + len(rest)])
        fresh = [None if grad is None else _own(grad) for grad in found]
        return fresh + [None] * (len(tensors) - len(fresh))


class WholeSequence(_WholeSequence):
    """`schedules.sequence`: the whole sequence in one launch, or one launch a step."""

    walks = sequence_walk

    def _call(self, config: Any, tensors: Tensors, keep: bool, fake: bool = False) -> tuple[Any, list[Tensor]]:
        key, names, given, reverse, drawn_noise, whole = config
        chain = find(CHAINS_BY_KEY, key)
        inputs, flags, drawn = _parts(chain, names, given, tensors)
        # A seed is read, which waits for it, only where values are computed.
        seeds = tuple(map(int, drawn)) if drawn and not fake else (0,) * (2 if reverse == BOTH else 1)
        noise, plan = noise_of(drawn_noise, 0), NO_PLAN
        if not fake:
            x, (heads, _, units) = inputs[0], inputs[1 + names.index("hh")].shape
            walk = Walk(noise=noise)
            found, reason = sequence_call.plan_for(chain, walk, x.shape[1], units, x.dtype, x.device, heads, whole)
            plan = _planned(found, f"the {'sequence' if whole else 'step'} schedule", reason)
        mask, reset = (as_bytes(flags.get(name)) for name in ("mask", "reset"))
        call = sequence_call.Call(chain, tuple(names), plan, reverse, mask, padded(reset), noise, seeds, keep, False)
        return call, inputs


class Stages(_WholeSequence):
    """`schedules.stages`."""

    walks = stages_walk

    def _call(self, config: Any, tensors: Tensors, keep: bool, fake: bool = False) -> tuple[Any, list[Tensor]]:
        key, names, given, reverse, drawn_noise = config
        chain = find(CHAINS_BY_KEY, key)
        inputs, flags, drawn = _parts(chain, names, given, tensors)
        noise, plan = noise_of(drawn_noise, int(drawn[0]) if drawn and not fake else 0), NO_PLAN
        if not fake:
            x, hidden = inputs[0], inputs[-1].shape[1]
            found, reason = stages_call.plan_for(chain, Walk(noise=noise), x.shape[1], hidden, x.dtype, x.device)
            plan = _planned(found, "the schedule of several stages", reason)
        mask, reset = (as_bytes(flags.get(name)) for name in ("mask", "reset"))
        return stages_call.Call(chain, tuple(names), plan, reverse, mask, reset, noise, keep), inputs


def _parts(
    chain: Chain, names: Sequence[str], given: Sequence[str], tensors: Tensors
) -> tuple[list[Tensor], dict[str, Tensor], Tensors]:
    """Return x, weights and initial states; mask and reset that there are; the seeds."""
    count = 1 + len(names) + chain.num_states
    flags = dict(zip(given, tensors[count:], strict=False))
    return list(tensors[:count]), flags, tensors[count + len(given) :]


def _planned(plan: SequencePlan | None, schedule: str, reason: str) -> SequencePlan:
    if plan is None:
        raise ValueError(f"{schedule} cannot run this: {reason}")
    return plan


def _own(value: Tensor) -> Tensor:
    """Return `value` contiguous and in memory of its own, all of it: as a copy unless it is."""
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if whole and value.is_contiguous() else value.clone(memory_format=torch.contiguous_format)


def _run(
    engine: str,
    config: str,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Mapping[str, Tensor],
    flags: Mapping[str, Tensor],
    noise: Noise | None,
    seeds: tuple[Any, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    drawn = [torch.as_tensor(seed) for seed in seeds] if noise is not None and noise.training else []
    output, *state_n = ops.call(engine, config, [x, *weights.values(), *state_0, *flags.values(), *drawn])
    return output, tuple(state_n[: len(state_0)])


def sequence(
    chain: Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Mapping[str, Tensor],
    mask: Tensor | None,
    reverse: int,
    walk: Walk,
    seeds: tuple[Any, ...],
    whole: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Do what the schedules of `schedules.sequence` do, as one operator. Weights "hh" are of heads (N, G*D, D)."""
    flags = {name: flag for name, flag in (("mask", mask), ("reset", walk.reset)) if flag is not None}
    config = ops.encoded(chain.key, list(weights), list(flags), reverse, noise_config(walk.noise), whole)
    return _run("sequence", config, x, state_0, weights, flags, walk.noise, seeds)


def stages(
    chain: Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Mapping[str, Tensor],
    mask: Tensor | None,
    reverse: bool,
    walk: Walk,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Do what `schedules.stages.stages` does, as one operator."""
    flags = {name: flag for name, flag in (("mask", mask), ("reset", walk.reset)) if flag is not None}
    config = ops.encoded(chain.key, list(weights), list(flags), reverse, noise_config(walk.noise))
    seeds = () if walk.noise is None else (walk.noise.seed,)
    return _run("stages", config, x, state_0, weights, flags, walk.noise, seeds)


ops.ENGINES.update(sequence=WholeSequence(), stages=Stages())
