"""`sequence`, which `step` and `both_ways` are too, and `stages` as engines. Inputs: x, weights, initial states."""

from collections.abc import Sequence as Listed
from typing import Any

from torch import Tensor

from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.launch import SequencePlan
from rnnlab_kernels.schedules.engines import BOTH, Call, Engine, Kept, Tensors
from rnnlab_kernels.schedules.persistent import sequence_call, sequence_walk, stages_call, stages_walk
from rnnlab_kernels.schedules.persistent.sequence_walk import as_bytes, padded

NO_PLAN = SequencePlan((0, 0, 0), 0, {})  # of a call that is only asked for shapes


class _WholeSequence(Engine):
    """What both share: their modules of plain functions are called alike."""

    walks: Any  # module of walk_forward, walk_backward and kept_by

    def _call(self, call: Call) -> Any:
        """Return the call as these functions take it."""
        raise NotImplementedError

    def forward(self, call: Call, inputs: Tensors) -> tuple[list[Tensor], Kept]:
        x, *rest = inputs
        results, kept = self.walks.walk_forward(self._call(call), x, rest)
        return results, list(kept)

    def fake(self, call: Call, inputs: Tensors) -> list[Tensor]:
        x, *rest = inputs
        state_0 = rest[len(call.names) :]
        found = [x.new_empty(*x.shape[:2], state_0[0].shape[1]), *(x.new_empty(value.shape) for value in state_0)]
        if call.keep:
            shapes = self.walks.kept_by(self._call(call._replace(plan=NO_PLAN)), x, state_0)
            found += [x.new_empty(shape, dtype=dtype) for shape, dtype in shapes]
        return found

    def backward(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Listed[Tensor | None], needed: Listed[bool]
    ) -> Listed[Tensor | None]:
        x, *rest = inputs
        return self.walks.walk_backward(self._call(call), x, rest, kept, grads, needed)


class Sequence(_WholeSequence):
    """`schedules.persistent.sequence`: the whole sequence in one launch, or by the method "step" one launch a step."""

    walks = sequence_walk

    def planned(self, call: Call, inputs: Tensors) -> Call:
        if call.plan is not None:
            return call
        x, chain = inputs[0], call.maths
        assert isinstance(chain, Chain)
        heads, _, units = inputs[1 + call.names.index("hh")].shape
        whole = call.method == "sequence"
        plan, reason = sequence_call.plan_for(chain, call.walk, x.shape[1], units, x.dtype, x.device, heads, whole)
        if plan is None:
            raise ValueError(f"the {call.method} schedule cannot run this: {reason}")
        return call._replace(plan=plan)

    def _call(self, call: Call) -> sequence_call.Call:
        assert isinstance(call.maths, Chain)
        noise = call.walk.noise
        seeds = call.seeds or (0,) * (2 if call.reverse == BOTH else 1)
        mask, reset = as_bytes(call.mask), padded(as_bytes(call.walk.reset))
        return sequence_call.Call(
            *(call.maths, call.names, call.plan, call.reverse, mask, reset, noise, seeds, call.keep, call.replays)
        )


class Stages(_WholeSequence):
    """`schedules.persistent.stages`."""

    walks = stages_walk

    def planned(self, call: Call, inputs: Tensors) -> Call:
        x, chain = inputs[0], call.maths
        assert isinstance(chain, Chain)
        plan, reason = stages_call.plan_for(chain, call.walk, x.shape[1], inputs[-1].shape[1], x.dtype, x.device)
        if plan is None:
            raise ValueError(f"the schedule of several stages cannot run this: {reason}")
        return call if call.plan is not None else call._replace(plan=plan)

    def _call(self, call: Call) -> stages_call.Call:
        assert isinstance(call.maths, Chain)
        mask, reset = as_bytes(call.mask), as_bytes(call.walk.reset)
        return stages_call.Call(
            *(call.maths, call.names, call.plan, bool(call.reverse), mask, reset, call.walk.noise, call.keep)
        )
