"""A step of a chain as instructions, backward: the stages in reverse, writing gradients of pre-activations only.

Gradients of a value come from whoever reads it, one after the other: the first one writes, the others add. What a stage
reads is complete when it runs, since all readers of what it wrote stand behind it in the chain. Gradients of the states
stand in two tiles each, one that comes in and one that goes out, which change places from step to step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.compiled import machine
from rnnlab_kernels.schedules.compiled import rows as do
from rnnlab_kernels.schedules.compiled.forward import blocks_of, each
from rnnlab_kernels.schedules.compiled.gates import backward_of
from rnnlab_kernels.schedules.compiled.machine import AT_AFTER, AT_BEFORE, AT_OTHER, AT_PARITY
from rnnlab_kernels.schedules.compiled.program import NOTHING, At, Program, bits, packed
from rnnlab_kernels.schedules.engines import Kept
from rnnlab_kernels.schedules.layout import as_bytes
from rnnlab_kernels.schedules.stepwise.backward import Gradients
from rnnlab_kernels.schedules.stepwise.frame import Frame, Step


class Backward:
    """The program of a backward pass.

    Attributes:
        gradients: of pre-activations over time, from which those of weights are made.
        dstate_0: gradients of the initial states.
        unclipped: for each state what it hands back before clipping (T, B, W), if that is counted.
    """

    def __init__(
        self, frame: Frame, rows: int, kept: Kept, doutput: Tensor | None, dstate_n: Sequence[Tensor | None]
    ) -> None:
        plan, chain, call = frame.plan, frame.chain, frame.call
        self.frame, self.blocks, self.gradients = frame, blocks_of(frame), Gradients(frame)
        num_states, start = len(chain.states), len(chain.states) + len(plan.stored)
        buffers, values = kept[:num_states], kept[num_states:start]
        self.program = program = Program(
            frame.num_steps, frame.batch, frame.reverse, True, rows, frame.num_steps + 1
        )
        additions = call.additions
        reset = None if additions.reset is None else program.flags(as_bytes(additions.reset))
        mask = None if call.mask is None else program.flags(as_bytes(call.mask))

        self.at: dict[str, At] = {}  # values
        for name, buffer in zip(chain.states, buffers, strict=True):
            self.at[f"{name}_prev"] = before = program.over_time(buffer, kind=AT_BEFORE)
            self.at[name] = program.over_time(buffer, kind=AT_AFTER)
            if reset is not None and self._is_carried(f"{name}_prev"):
                self.at[f"{name}_prev"] = program.tile(1, before.columns)
                program.choose(reset, None, before, self.at[f"{name}_prev"])
        for name, value in zip(plan.stored, values, strict=True):
            self.at[name] = program.over_time(value)
        self.constants: dict[str, At] = {}  # sums of their gradients
        for name in chain.constants:
            self.at[name] = program.spread(frame.weights[name])
            self.constants[name] = program.tile(1, frame.width[name])
            program.zero(self.constants[name], program.start)
        self.affine: dict[str | None, At] = {}
        self.none = program.tile(1, max(frame.width.values()))
        program.zero(self.none, program.start)

        self.d: dict[str, At] = {}  # gradients of values that have one by now
        self.pre: dict[str, At] = {}  # gradients of pre-activations of this step, in blocks
        coming = self._coming(dstate_n)
        self.out = {f"{name}_prev": self._other(coming[name]) for name in chain.states}
        held: dict[str, At] = {}
        for name in chain.states:
            if mask is not None:  # outside its length a row only hands its state on: the gradient passes it untouched
                held[name] = program.tile(1, coming[name].columns)
                program.choose(mask, None, coming[name], held[name])
                program.choose(mask, coming[name], None, coming[name])
            self.d[name] = coming[name]
        if doutput is not None:
            if chain.output not in self.d:
                self.d[chain.output] = program.tile(1, doutput.shape[-1])
                program.zero(self.d[chain.output])
            source, into = program.over_time(doutput), self.d[chain.output]
            words = (*source.operand, *into.operand, source.row, into.columns)
            program.emit(do.add_rows, *(NOTHING if mask is None else mask), *words)
        for name, part in zip(chain.states, frame.masks.update if plan.zoned else (), strict=False):
            if part is not None:
                weight = program.over_time(part).operand if isinstance(part, Tensor) else NOTHING
                new, passed = program.tile(1, coming[name].columns), program.tile(1, coming[name].columns)
                words = (*coming[name].operand, *weight, *new.operand, *passed.operand, new.columns)
                program.emit(do.unmix, *words, 0 if isinstance(part, Tensor) else bits(part))
                self.d[name] = new
                if name in held:
                    program.add(passed, held[name])
                else:
                    held[name] = passed
        memories = self._memories(kept[start:])
        for stage, step, memory in reversed(list(zip(chain.stages, plan.steps, memories, strict=True))):
            if isinstance(stage, Product):
                self._product(stage)
            elif isinstance(stage, Norm):
                self._norm(stage, memory[0])
            elif step is not None:
                self._gates(stage, step, memory[0])
        self.unclipped: list[Tensor] = []
        self.dstate_0: list[Tensor] = []
        for name, buffer in zip(chain.states, buffers, strict=True):
            out = self.out[f"{name}_prev"]
            if f"{name}_prev" not in self.d:
                program.zero(out)
            if name in held:
                program.add(held[name], out)
            if reset is not None:
                program.choose(reset, None, out, out)
            if additions.clip is not None:
                if additions.counter is not None:
                    self.unclipped.append(buffer.new_empty(frame.num_steps, *buffer.shape[1:]))
                    program.copy(out, program.over_time(self.unclipped[-1]))
                flags = NOTHING if mask is None else mask
                program.emit(do.clip, *flags, *out.operand, out.columns, bits(additions.clip))
            self.dstate_0.append(buffer.new_empty(buffer.shape[1:]))
            program.copy(out, program.at_rows(self.dstate_0[-1]), program.end)

    def _coming(self, dstate_n: Sequence[Tensor | None]) -> dict[str, At]:
        """Return the gradients that come into a step, those after the last step in them."""
        frame, program = self.frame, self.program
        coming: dict[str, At] = {}
        for name, grad in zip(frame.chain.states, dstate_n, strict=True):
            coming[name] = tile = program.tile(1, frame.width[f"{name}_prev"], AT_PARITY)
            if grad is None:
                program.zero(tile, program.start)
            else:
                program.copy(program.at_rows(grad.contiguous()), tile, program.start)
        return coming

    def _other(self, tile: At) -> At:
        """Return the one of a pair of tiles that is not `tile`."""
        _, *words = self.program.places[machine.PLACE * tile.place :][: machine.PLACE]
        return tile._replace(place=self.program.place(AT_OTHER, *words))

    def _memories(self, kept: Kept) -> list[list[Tensor]]:
        """Return what was kept by stage, over time."""
        memories: list[list[Tensor]] = []
        remaining = iter(kept)
        for count in self.frame.plan.num_kept:
            memories.append([next(remaining) for _ in range(count)])
        return memories

    def _is_carried(self, name: str) -> bool:
        return any(name in stage.carried for stage in self.frame.chain.stages if isinstance(stage, Gates))

    def _room(self, name: str, columns: int) -> At:
        """Return where the first gradient of a value goes."""
        return self.out[name] if name in self.out else self.program.tile(1, columns)

    def _give(self, name: str, columns: int, write: Callable[[At], None]) -> None:
        """Let `write` write a gradient of a value, or add it to what there is."""
        if name not in self.d:
            into = self._room(name, columns)
            write(into)
            self.d[name] = into
        else:
            part = self.program.tile(1, columns)
            write(part)
            self.program.add(part, self.d[name])

    def _taken(self, name: str) -> At:
        """Return all of the gradient of a value (R, W)."""
        return self.d.get(name, self.none)

    def _product(self, stage: Product) -> None:
        frame, program = self.frame, self.program
        steps = program.over_time(self.gradients.dpre[stage.out])
        if stage.out in frame.plan.outlasting:
            program.copy(self._taken(stage.out)._replace(columns=steps.columns), steps)
        weight, first = frame.weights[stage.weight], 0
        for k, source in enumerate(stage.sources):
            width = frame.width[source]
            # Of the transposed weights columns are what they were multiplied with.
            own = packed(weight[:, first : first + width].t(), 1, f"packed_{stage.weight}_{k}")
            mask = frame.masks.sources.get(source)
            first += width
            if source in self.d and mask is None:
                program.product(steps, own, steps.columns, self.d[source], None)
                continue
            zeros = torch.zeros(1, -(-width // 16) * 16)

            def write(into: At, own: Tensor = own, zeros: Tensor = zeros, mask: Tensor | None = mask) -> None:
                program.product(steps, own, steps.columns, into, zeros)
                if mask is not None:
                    program.scale(into, program.at_rows(mask), into)

            self._give(source, width, write)

    def _norm(self, stage: Norm, memory: Tensor) -> None:
        frame, program, plan = self.frame, self.program, self.frame.plan
        blocks = self.blocks.get(stage.source, 1) if stage.source not in plan.outlasting else 1
        columns = frame.width[stage.source] // blocks
        if stage.source in plan.outlasting:
            source = program.over_time(memory)
        else:
            source = program.over_time(memory.view(frame.num_steps, blocks, frame.batch, columns), blocks)
        if stage.out in plan.outlasting:
            upstream = self._taken(stage.out)
        else:
            upstream = self.pre[stage.out]
        result = program.tile(blocks, columns)
        gain = frame.affine[stage.gain]
        program.memory.append(gain)
        sums = []
        for name in (stage.gain, stage.shift if stage.shift in frame.affine else None):
            if name not in self.affine:  # norms may share their parameters
                self.affine[name] = program.row(frame.width[stage.source])
            sums.append(self.affine[name])
        words = (*upstream.operand, upstream.block, *source.operand, source.block, blocks, columns, gain.data_ptr())
        into = (*result.operand, result.block, *sums[0].operand, *sums[1].operand)
        program.emit(do.norm_back, *words, *into)
        if stage.source in plan.outlasting:
            self._give(stage.source, columns, lambda place: program.copy(result, place))
        else:
            self.pre[stage.source] = result
        if stage.source in self.gradients.dpre and stage.source not in plan.outlasting:
            program.scatter(result, program.over_time(self.gradients.dpre[stage.source]))

    def _gates(self, stage: Gates, step: Step, memory: Tensor) -> None:
        frame, program, plan, cell = self.frame, self.program, self.frame.plan, step.cell
        hidden, count, split = frame.width[stage.out[0]], cell.num_gates, cell.split
        merged = stage.recurrent in plan.merged
        operands = [self._taken(name).operand for name in stage.out]
        operands += each(program.over_time(memory, len(cell.saved)))
        operands += [self.at[name].operand for name in stage.carried]
        if stage.cell.dropped is not None:
            operands += [program.over_time(mask).operand for mask in frame.candidate]
        operands += [self.at[name].operand for name in stage.out]
        # Merged gates, then recurrent parts of split ones, then their input parts: the recurrent part in one piece.
        dgates = program.tile(count + split, hidden)
        order = [*range(count - split), *range(count, count + split), *range(count - split, count)]
        operands += [dgates.part(k, 1).operand for k in order]
        given: list[tuple[str, At]] = []
        for name in stage.carried:
            direct = name not in self.constants and name not in self.d and name not in [one for one, _ in given]
            given.append((name, self._room(name, hidden) if direct else program.tile(1, hidden)))
        operands += [place.operand for _, place in given]
        if len(cell.carried) > len(stage.carried):  # a mask has a gradient, too, which goes nowhere
            operands.append(program.tile(1, hidden).operand)
        address = backward_of(cell)
        program.emit(address, hidden, *(word for operand in operands for word in operand))
        for name, place in given:
            if name in self.constants:
                program.add(place, self.constants[name])
            elif name in self.d:
                program.add(place, self.d[name])
            else:
                self.d[name] = place

        takes_x = merged or (stage.first is not None and stage.recurrent not in plan.into_dx)
        if takes_x:
            rows = program.over_time(self.gradients.dx)
            rows = rows._replace(offset=4 * hidden * (0 if merged else stage.first or 0))
            program.scatter(dgates.part(0, count - split), rows)
            if split:
                rows = rows._replace(offset=rows.offset + 4 * hidden * (count - split))
                program.scatter(dgates.part(count, split), rows)
        if stage.recurrent is None:
            return
        recurrent = dgates.part(0, count)
        self.pre[stage.recurrent] = recurrent
        if not merged:
            program.scatter(recurrent, program.over_time(self.gradients.dpre[stage.recurrent]))
        if stage.recurrent in plan.outlasting:
            if count == 1:
                self._give(stage.recurrent, hidden, lambda place: program.copy(recurrent, place))
            else:
                self._give(stage.recurrent, count * hidden, lambda place: program.scatter(recurrent, place))
