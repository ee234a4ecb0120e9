"""The backward half of a recurrence: the stages of each step in reverse, then all weight gradients at once.

T time, B batch, N columns of the input part, W width of a value.
"""

from collections.abc import Callable
from itertools import repeat
from operator import getitem

import torch
from torch import Tensor

from rnnlab_kernels.cells.bind import bind_torch
from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.additions import clamped
from rnnlab_kernels.schedules.engines import Kept
from rnnlab_kernels.schedules.layout import step_order, zero_padding
from rnnlab_kernels.schedules.recording import Key, Tape, gates_given, gates_told, squares, within
from rnnlab_kernels.schedules.stepwise.frame import Frame, Step, Tensors
from rnnlab_kernels.schedules.stepwise.gradients import Gradients
from rnnlab_kernels.schedules.stepwise.products import bind_product


def run_backward(
    frame: Frame,
    kept: Kept,
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Go back over time writing gate gradients only, then form all other gradients from them at once."""
    call, chain, plan, work = frame.call, frame.chain, frame.plan, frame.work
    num_states, start = len(chain.states), len(chain.states) + len(plan.stored)
    buffers, values = kept[:num_states], kept[num_states:start]
    memories: list[list[Tensors]] = []
    for count in plan.num_kept:
        parts = kept[start : start + count]
        if count and isinstance(parts[0], Tensor):
            parts = list(map(Tensor.unbind, parts))
        memories.append(list(zip(*parts, strict=True)))
        start += count
    num_steps, mask, reset = frame.num_steps, call.mask, call.additions.reset
    frame.set_states(buffers, values)
    named: dict[str, Tensor] = {}  # values at all steps, (T, B, W)
    for name, buffer in zip(chain.states, buffers, strict=True):
        before, named[name] = (buffer[1:], buffer[:-1]) if frame.reverse else (buffer[:-1], buffer[1:])
        if reset is not None:
            before = zero_padding(before, ~reset)
            frame.rows[f"{name}_prev"] = before.unbind(0)
        named[f"{name}_prev"] = before
    named |= zip(plan.stored, values, strict=True)
    back = _Backward(frame, memories)
    stages = back.bind()
    needed_0 = needed[1 + len(call.names) :]

    dstate: list[Tensor] = []
    for grad, buffer in zip(dstate_n, buffers, strict=True):
        dstate.append(buffer.new_zeros(buffer.shape[1:], dtype=work) if grad is None else grad.to(work))
    for position, t in reversed(list(enumerate(step_order(num_steps, frame.reverse)))):
        held: list[Tensor | None] = [None] * len(dstate)
        dout = None if doutput is None else doutput[t].to(work)
        if mask is not None:  # outside its length a row only hands its state on: the gradient passes it untouched
            held = [grad.masked_fill(mask[t], 0) for grad in dstate]
            dstate = [grad.masked_fill(~mask[t], 0) for grad in dstate]
            dout = None if dout is None else dout.masked_fill(~mask[t], 0)
        grads = back.grads = dict(zip(chain.states, dstate, strict=True))
        if dout is not None:
            back.add(chain.output, dout)
        for k, part in enumerate(frame.masks.update_at(t) if plan.zoned else ()):
            if part is not None:
                name = chain.states[k]
                new = grads[name] * part
                passed, before_it = grads[name] - new, held[k]
                if back.tape is not None:
                    back.tape.add("direct", name, t, passed)
                grads[name], held[k] = new, passed if before_it is None else before_it + passed
        for stage in stages:
            stage(t, position)
        dstate = []
        for name, direct in zip(chain.states, held, strict=True):
            grad = grads.get(f"{name}_prev")
            if grad is None:
                grad = back.zeros(name)
            if direct is not None:
                grad = grad + direct
            if reset is not None:
                grad = grad.masked_fill(reset[t], 0)
            limit = call.additions.clip
            # What nobody needs is not clipped: the count is that of the plain loop.
            is_needed = position > 0 or needed_0[len(dstate)]
            if limit is not None and is_needed:
                grad = clamped(grad, limit, call.additions.counter, None if mask is None else mask[t])
            dstate.append(grad)
        if back.tape is not None:
            back.tape.close()
    if back.tape is not None:
        call.additions.recorder(within(back.flow(), mask, reset))
    found = back.finish(named, needed)
    for grad in dstate:
        found.append(grad.to(frame.x.dtype))
    return found


class _Backward(Gradients):
    """The stages in reverse, and the buffers of pre-activation gradients from which weight gradients are made."""

    def __init__(self, frame: Frame, memories: list[list[Tensors]]) -> None:
        super().__init__(frame)
        self.memories = memories
        self.grads: dict[str, Tensor] = {}
        self.tape, self.handed = None, dict[str, str]()
        if frame.call.additions.recorder is not None:
            self.tape, self.handed = Tape(), {f"{name}_prev": name for name in frame.chain.states}
        for name in frame.chain.constants:
            shape = (frame.batch, frame.width[name])
            self.dconstants[name] = torch.zeros(shape, dtype=frame.work, device=frame.given.device)
        self._zeros: dict[str, Tensor] = {}

    def bind(self) -> list[Callable[[int, int], None]]:
        """Return the stages in reverse. They refer to this object and it not to them: a cycle would keep the memory."""
        stages: list[Callable[[int, int], None]] = []
        plan = self.frame.plan
        for stage, step, memory in reversed(list(zip(plan.chain.stages, plan.steps, self.memories, strict=True))):
            if isinstance(stage, Product):
                stages.append(self._product(stage))
            elif isinstance(stage, Norm):
                stages.append(self._norm(stage, memory))
            elif step is not None:
                stages.append(self._gates(stage, step, memory))
        return stages

    def add(self, name: str, grad: Tensor) -> None:
        present = self.grads.get(name)
        self.grads[name] = grad if present is None else present + grad

    def zeros(self, name: str) -> Tensor:
        """Return a zero gradient (B, W) that nobody writes into."""
        if name not in self._zeros:
            like = self.frame.given
            width = self.frame.width[name]
            self._zeros[name] = torch.zeros(self.frame.batch, width, dtype=self.frame.work, device=like.device)
        return self._zeros[name]

    def take(self, name: str, t: int) -> Tensor:
        """Return all of the gradient of a value that outlasts its step: as it is read, and as pre-activations."""
        grad = self.grads.pop(name, None)
        if name in self.frame.plan.recurrent_parts:
            pre = self.dpre[name][t].to(self.frame.work)
            return pre if grad is None else grad + pre
        return self.zeros(name) if grad is None else grad

    def _product(self, stage: Product) -> Callable[[int, int], None]:
        frame = self.frame
        recurrent = bind_product(frame.weights[stage.weight].t(), frame.batch)
        steps = self.dpre[stage.out].unbind(0)
        widths = list(map(frame.width.__getitem__, stage.sources))
        outlasts = stage.out in frame.plan.outlasting
        masks = frame.masks.sources

        def run(t: int, position: int) -> None:
            if outlasts:
                steps[t].copy_(self.take(stage.out, t))
            dsource = recurrent(steps[t]).to(frame.work)
            parts = [dsource] if len(widths) == 1 else dsource.split(widths, 1)
            for name, part in zip(stage.sources, parts, strict=True):
                grad = part * masks[name] if name in masks else part
                self.add(name, grad)
                if self.tape is not None and name in self.handed:
                    self.tape.add("recurrent", self.handed[name], t, grad)

        return run

    def _norm(self, stage: Norm, memory: list[Tensors]) -> Callable[[int, int], None]:
        frame = self.frame
        steps = self.dpre[stage.out].unbind(0)
        into = self.dpre[stage.source].unbind(0) if stage.source in self.dpre else None
        outlasts = stage.out in frame.plan.outlasting
        gain, shift = frame.affine[stage.gain], frame.affine.get(stage.shift)
        norm_bwd = frame.kit.norm_bwd
        # Norms may share their parameters.
        dgain = self.dweights.setdefault(stage.gain, torch.zeros_like(gain))
        dshift = None
        if stage.shift is not None and shift is not None:
            dshift = self.dweights.setdefault(stage.shift, torch.zeros_like(shift))

        def run(t: int, position: int) -> None:
            if outlasts:
                steps[t].copy_(self.take(stage.out, t))
            dsource = norm_bwd(steps[t].to(frame.work), memory[position], gain, dgain, dshift)
            if into is None:
                self.add(stage.source, dsource)
            else:
                into[t].copy_(dsource)

        return run

    def _gates(self, stage: Gates, step: Step, memory: list[Tensors]) -> Callable[[int, int], None]:
        frame, plan, rows = self.frame, self.frame.plan, self.frame.rows
        hidden = frame.width[stage.out[0]]
        empty = [None] * frame.num_steps
        merged = stage.recurrent in plan.merged
        takes_x = merged or (stage.first is not None and stage.recurrent not in plan.into_dx)
        dx = step.views(self.dx, hidden) if takes_x else empty
        takes_h = stage.recurrent is not None and not merged
        dh = step.views(self.dpre[stage.recurrent], hidden) if takes_h and stage.recurrent else empty
        carried, outs = list(map(rows.__getitem__, stage.carried)), list(map(rows.__getitem__, stage.out))
        if stage.cell.dropped is not None:
            carried += frame.candidate

        def run(t: int, position: int) -> None:
            saved = memory[position] if memory else ()
            before, state = tuple(map(getitem, carried, repeat(t))), tuple(map(getitem, outs, repeat(t)))
            dstate = tuple(map(self.take, stage.out, repeat(t)))
            if self.tape is not None:
                self._record(stage, step, t, dstate, saved, (before, state))
            dcarried = step.bwd(dstate, saved, before, state, dx[t], dh[t])
            if self.tape is not None and stage.recurrent in plan.outlasting:  # whose whole gradient will stand there
                blocks = self.dpre[stage.recurrent][t].unflatten(-1, (step.cell.num_gates, hidden))
                for k, name in enumerate(gates_told(frame.chain, stage)):
                    self.tape.add("gate", name, t, blocks[:, k].clone())
            for name, grad in zip(stage.carried, dcarried, strict=False):
                if name in self.dconstants:
                    self.dconstants[name] += grad
                else:
                    self.add(name, grad)
                    if self.tape is not None and name in self.handed:
                        self.tape.add("direct", self.handed[name], t, grad)

        return run

    def _record(
        self, stage: Gates, step: Step, t: int, dstate: Tensors, saved: Tensors, rest: tuple[Tensors, Tensors]
    ) -> None:
        """Put a gate update on tape: whole gradients of the states it writes, and what it kept."""
        assert self.tape is not None
        saved = tuple(saved[0].unbind(0)) if saved and saved[0].dim() == 3 else saved  # in one tensor, of some kits
        if step.cell.gates_total is not None:
            parts = (tuple(map(Tensor.to, values, repeat(dstate[0].dtype))) for values in (saved, *rest))
            dstate = bind_torch(step.cell.gates_total)(dstate, *parts)
        for name, grad in zip(stage.out, dstate, strict=True):
            if name in self.frame.chain.states:
                self.tape.add("state", name, t, grad)
        if self.frame.call.additions.recorder.values:
            for name, value in zip(step.cell.saved, saved, strict=True):
                self.tape.add("value", name, t, value)
            for name, k in gates_given(self.frame.chain, stage):
                self.tape.add("value", name, t, rest[1][k])

    def flow(self) -> dict[Key, Tensor]:
        """Return what a recorder is told, when the loop is done."""
        frame, plan, chain = self.frame, self.frame.plan, self.frame.chain
        assert self.tape is not None
        found = self.tape.flow(frame.num_steps)
        for stage, step in zip(chain.stages, plan.steps, strict=True):
            if isinstance(stage, Gates):
                if step is None or stage.recurrent in plan.outlasting:
                    continue
                gates, hidden = gates_told(chain, stage), frame.width[stage.out[0]]
                sums = _sums_by_gate(stage, len(gates), hidden, self._gates_buffer(stage))
                found |= {("gate", name): sums[..., k] for k, name in enumerate(gates)}
            elif stage.out in chain.states:
                found["state", stage.out] = squares(self.dpre[stage.out].to(frame.work))
        return found

    def _gates_buffer(self, stage: Gates) -> Tensor:
        """Return where the gradients of a gate update's pre-activations stand."""
        own = None if stage.recurrent is None else self.dpre.get(stage.recurrent)
        takes_x = stage.recurrent in self.frame.plan.merged or stage.first is not None
        return self.dx if own is None or takes_x else own


def _sums_by_gate(stage: Gates, count: int, hidden: int, buffer: Tensor) -> Tensor:
    """Return the sums of squares (T, B, G) of a buffer (T, B, N) with the gates' columns, or those of all the input."""
    width = count * hidden
    first = (stage.first or 0) * hidden if buffer.shape[-1] > width else 0
    return squares(buffer.narrow(-1, first, width).unflatten(-1, (count, hidden)))
