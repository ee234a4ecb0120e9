"""The schedules as engines of `rnnlab::run` (ops.py): what they do under torch.compile and torch.export.

Chains and cells go by their keys, masks by their seed, which is a tensor: under torch.compile nobody knows its value.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels import ops
from rnnlab_kernels.cells.bind import CELLS_BY_KEY, Cell, find
from rnnlab_kernels.cells.chain import CHAINS_BY_KEY, Chain, Gates, Norm
from rnnlab_kernels.schedules import opaque_sequence  # noqa: F401  its engines, for programs that were saved
from rnnlab_kernels.schedules.additions import Walk, noise_config, noise_of
from rnnlab_kernels.schedules.layout import settled
from rnnlab_kernels.schedules.stepwise.backward import walk_backward
from rnnlab_kernels.schedules.stepwise.forward import walk_forward
from rnnlab_kernels.schedules.stepwise.frame import Call, Frame

Tensors = Sequence[Tensor]
_KITS = {
    "eager": ("kit_torch", "TorchStep"),
    "fused": ("kit_numba", "FusedStep"),
    "pointwise": ("kit_triton", "PointwiseStep"),
}


class Recurrence:
    """`schedules.recurrence`. Tensors: x, weights, initial states, and those of mask, reset and seed that there are."""

    keeps_results = False

    def _call(self, config: Any, tensors: Tensors, keep: bool, fake: bool = False) -> tuple[Call, list[Tensor]]:
        """Return the call, and x, weights and initial states."""
        kit, key, names, given, reverse, drawn_noise, limit = config
        chain = find(CHAINS_BY_KEY, key)
        count = 1 + len(names) + len(chain.states)
        flags = dict(zip(given, tensors[count:], strict=True))
        noise = noise_of(drawn_noise, int(flags["seed"]) if "seed" in flags and not fake else 0)
        if noise is not None and fake:  # draws nothing, as in evaluation; which values there are is the same
            noise = noise._replace(training=False)
        module, name = _KITS[kit]
        step = getattr(importlib.import_module(f"rnnlab_kernels.schedules.stepwise.{module}"), name)
        walk = Walk(flags.get("reset"), noise, None if limit is None else float.fromhex(limit))
        return Call(step, chain, tuple(names), reverse, flags.get("mask"), walk, keep), list(tensors[:count])

    def _frame(self, call: Call, inputs: Tensors) -> Frame:
        x, *rest = inputs
        return Frame(call, x, dict(zip(call.names, rest, strict=False)), tuple(rest[len(call.names) :]))

    def num_results(self, config: Any) -> int:
        return 1 + len(find(CHAINS_BY_KEY, config[1]).states)

    def forward(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        call, inputs = self._call(config, tensors, keep)
        frame = self._frame(call, inputs)
        output, state_n, kept = walk_forward(frame)
        results = [output.contiguous(), *state_n]
        if not keep:
            return results
        buffers, values, *memories = kept
        for memory in memories:
            count = len(memory) // frame.num_steps
            values = [*values, *(torch.stack(memory[k::count]) for k in range(count))]
        return [*results, *buffers, *values]

    def fake(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        call, inputs = self._call(config, tensors, keep, fake=True)
        frame, x = self._frame(call, inputs), inputs[0]
        noise = noise_of(config[5], 0)
        if noise is not None and noise.candidate and noise.training:
            frame.masks = frame.masks._replace(candidate=x)  # decides which gate maths run
        num_steps, batch, chain = frame.num_steps, frame.batch, frame.chain
        found = [x.new_empty(num_steps, batch, frame.width[chain.output])]
        found += [x.new_empty(value.shape) for value in frame.state_0]
        if not keep:
            return found
        for name, value in zip(chain.states, frame.state_0, strict=True):
            found.append(x.new_empty(num_steps + 1, *value.shape, dtype=frame.dtype_of(name)))
        for name in frame.own:
            found.append(x.new_empty(num_steps, batch, frame.width[name], dtype=frame.dtype_of(name)))
        for stage in chain.stages:
            found += [x.new_empty(num_steps, *shape, dtype=dtype) for shape, dtype in _kept_by(frame, stage)]
        return found

    def backward(
        self, config: Any, tensors: Tensors, kept: Tensors, grads: list[Tensor | None], needed: list[bool]
    ) -> list[Tensor | None]:
        call, inputs = self._call(config, tensors, True)
        frame, remaining = self._frame(call, inputs), iter(kept)
        parts = [[next(remaining) for _ in call.chain.states], [next(remaining) for _ in frame.own]]
        for stage in call.chain.stages:
            rows = [next(remaining).unbind(0) for _ in _kept_by(frame, stage)]
            parts.append([row[t] for t in range(frame.num_steps) for row in rows])
        doutput, *dstate_n = (None if grad is None else settled(grad) for grad in grads)
        found = walk_backward(frame, parts, doutput, tuple(dstate_n), tuple(needed[: len(inputs)]))
        # Copies: where nothing reaches them, states share one tensor of zeros.
        fresh = [None if grad is None else grad.clone(memory_format=torch.contiguous_format) for grad in found]
        return fresh + [None] * (len(tensors) - len(inputs))


def _kept_by(frame: Frame, stage: Any) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return shapes and dtypes of what a stage keeps of a step."""
    kit = frame.call.kit
    if isinstance(stage, Norm):
        return [(shape, frame.work) for shape in kit.norm_keeps(frame.batch, frame.width[stage.source])]
    if isinstance(stage, Gates):
        return kit.keeps(frame.cell_of(stage), frame.batch, frame.width[stage.out[0]], frame.x.dtype)
    return []


def recurrence(
    kit: str,
    chain: Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Mapping[str, Tensor],
    mask: Tensor | None,
    reverse: bool,
    walk: Walk,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Do what `schedules.recurrence.recurrence` does, as one operator."""
    noise = walk.noise
    clip = None if walk.clip is None else float(walk.clip).hex()
    seed = torch.as_tensor(noise.seed) if noise is not None and noise.training else None
    flags = {"mask": mask, "reset": walk.reset, "seed": seed}
    given = {name: value for name, value in flags.items() if value is not None}
    names = list(weights)
    config = ops.encoded(kit, chain.key, names, list(given), reverse, noise_config(noise), clip)
    output, *state_n = ops.call("recurrence", config, [x, *weights.values(), *state_0, *given.values()])
    return output, tuple(state_n[: len(state_0)])


class Elementwise:
    """`schedules.elementwise`. Tensors: gates_x, initial states, constants, mask (T, B) of bytes if there is one."""

    keeps_results = False

    def _parts(self, config: Any, tensors: Tensors) -> tuple[Any, Cell, Tensors, Tensors, Tensors]:
        """Return the call without `keep`, the cell, initial states, constants and the tensors without the mask."""
        from rnnlab_kernels.schedules.persistent.elementwise import Call as ElementwiseCall

        _, key, reverse, has_mask = config
        cell, inputs = find(CELLS_BY_KEY, key), tensors[:-1] if has_mask else tensors
        num_states = len(cell.states)
        call = ElementwiseCall(cell, tensors[-1].contiguous() if has_mask else None, reverse, False)
        return call, cell, inputs[1 : 1 + num_states], inputs[1 + num_states :], inputs

    def num_results(self, config: Any) -> int:
        return 1 + len(find(CELLS_BY_KEY, config[1]).states)

    def forward(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        from rnnlab_kernels.schedules.persistent.elementwise import walk_forward

        call, _, state_0, constants, inputs = self._parts(config, tensors)
        results, kept = walk_forward(config[0], call._replace(keep=keep), settled(inputs[0]), state_0, constants)
        return [value.contiguous() for value in (*results, *(kept if keep else ()))]

    def fake(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        _, cell, state_0, _, inputs = self._parts(config, tensors)
        gates_x, (batch, hidden) = inputs[0], state_0[0].shape
        num_steps, work = gates_x.shape[0], torch.float32
        found = [gates_x.new_empty(num_steps, batch, hidden), *(gates_x.new_empty(value.shape) for value in state_0)]
        if keep:
            found += [gates_x.new_empty(num_steps, batch, hidden)]
            found += [gates_x.new_empty(num_steps, batch, len(state_0) - 1, hidden, dtype=work)]
            found += [gates_x.new_empty(num_steps, batch, len(cell.saved), hidden)]
        return found

    def backward(
        self, config: Any, tensors: Tensors, kept: Tensors, grads: list[Tensor | None], needed: list[bool]
    ) -> list[Tensor | None]:
        from rnnlab_kernels.schedules.persistent.elementwise import walk_backward

        call, _, state_0, constants, inputs = self._parts(config, tensors)
        found = walk_backward(config[0], call, inputs[0].dtype, state_0, constants, kept, grads)
        fresh: list[Tensor | None] = [
            grad.to(value.dtype).clone(memory_format=torch.contiguous_format)
            for value, grad in zip(inputs, found, strict=True)
        ]
        return fresh + [None] * (len(tensors) - len(inputs))


class Scan:
    """`schedules.scan`. Tensors: a, b, h_0."""

    keeps_results = True

    def num_results(self, config: Any) -> int:
        return 1

    def forward(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        from rnnlab_kernels.schedules.scan import linear_scan as scan

        method, reverse = config
        a, b, h_0 = tensors
        return [scan.forward(method, a, b, h_0, reverse)]

    def fake(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        return [tensors[1].new_empty(tensors[1].shape)]

    def backward(
        self, config: Any, tensors: Tensors, kept: Tensors, grads: list[Tensor | None], needed: list[bool]
    ) -> list[Tensor | None]:
        from rnnlab_kernels.schedules.scan import linear_scan as scan

        (g,), (method, reverse) = grads, config
        assert g is not None
        a, _, h_0 = tensors
        found = scan.backward(method, a, h_0, kept[0], g, reverse, needed[0])
        return [None if grad is None else grad.clone(memory_format=torch.contiguous_format) for grad in found]


def elementwise(
    method: str,
    cell: Cell,
    gates_x: Tensor,
    state_0: tuple[Tensor, ...],
    constants: tuple[Tensor, ...],
    mask: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Do what `schedules.elementwise.elementwise` does, as one operator."""
    config = ops.encoded(method, cell.key, reverse, mask is not None)
    steps = [] if mask is None else [mask.squeeze(-1).to(torch.uint8)]
    output, *state_n = ops.call("elementwise", config, [gates_x, *state_0, *constants, *steps])
    return output, tuple(state_n[: len(state_0)])


def scan(method: str, a: Tensor, b: Tensor, h_0: Tensor, reverse: bool) -> Tensor:
    """Do what `schedules.scan.linear_scan` does, as one operator."""
    return ops.call("scan", ops.encoded(method, reverse), [a, b, h_0])[0]


ops.ENGINES.update(recurrence=Recurrence(), elementwise=Elementwise(), scan=Scan())
