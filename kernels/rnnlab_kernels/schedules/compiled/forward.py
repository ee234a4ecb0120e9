"""A step of a chain as instructions, forward."""

from torch import Tensor

from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.compiled import rows as do
from rnnlab_kernels.schedules.compiled.gates import forward_of
from rnnlab_kernels.schedules.compiled.machine import AT_AFTER, AT_BEFORE
from rnnlab_kernels.schedules.compiled.program import NOTHING, At, Program, bits, packed, starting
from rnnlab_kernels.schedules.layout import as_bytes
from rnnlab_kernels.schedules.stepwise.frame import Frame, Step


def blocks_of(frame: Frame) -> dict[str, int]:
    """Return how many gates' columns a value has, for those that gate updates take as pre-activations: they, the
    products and norms they come from, and the input part, "x"."""
    found: dict[str, int] = {}
    for stage in reversed(frame.chain.stages):
        if isinstance(stage, Gates) and stage.recurrent is not None:
            found[stage.recurrent] = stage.cell.num_gates
        if isinstance(stage, Norm) and stage.out in found:
            found[stage.source] = found[stage.out]
    for stage in frame.chain.stages:
        if isinstance(stage, Gates) and stage.first is not None:
            found["x"] = frame.num_columns // frame.width[stage.out[0]]
        if isinstance(stage, Product) and stage.add_input:
            found["x"] = found[stage.out]
    return found


class Forward:
    """The program of a forward pass.

    Attributes:
        buffers: states (T+1, B, W), or (2, B, W) if nothing is kept.
        values: the plan's stored ones, (T, B, W).
        kept: what backward needs of each stage.
        output: (T, B, W).
    """

    def __init__(self, frame: Frame, rows: int) -> None:
        plan, chain, call, x = frame.plan, frame.chain, frame.call, frame.x
        self.frame, self.keep, self.blocks = frame, call.keep, blocks_of(frame)
        num_steps, batch, keep = frame.num_steps, frame.batch, call.keep
        num_slots = num_steps + 1 if keep else 2
        self.program = program = Program(num_steps, batch, frame.reverse, False, rows, num_slots)
        self.buffers = [x.new_empty(num_slots, *value.shape) for value in frame.state_0]
        first = num_steps % num_slots if frame.reverse else 0
        for buffer, value in zip(self.buffers, frame.state_0, strict=True):
            buffer[first].copy_(value)
        self.last = 0 if frame.reverse else num_steps % num_slots
        self.values = [x.new_empty(num_steps if keep else 1, batch, plan.width[name]) for name in plan.stored]
        self.output = x.new_empty(num_steps, batch, plan.width[chain.output])
        self.kept: list[Tensor] = []

        self.at: dict[str, At] = {}
        after: dict[str, At] = {}
        reset = None if call.additions.reset is None else program.flags(as_bytes(call.additions.reset))
        for name, buffer in zip(chain.states, self.buffers, strict=True):
            self.at[f"{name}_prev"] = before = program.over_time(buffer, kind=AT_BEFORE)
            self.at[name] = after[name] = program.over_time(buffer, kind=AT_AFTER)
            if reset is not None:
                self.at[f"{name}_prev"] = program.tile(1, before.columns)
                program.choose(reset, None, before, self.at[f"{name}_prev"])
        for name, value in zip(plan.stored, self.values, strict=True):
            self.at[name] = program.over_time(value, fixed=not keep)
        for name in chain.constants:
            self.at[name] = program.spread(frame.weights[name])
        self._place_sources_of_norms()
        self._input_part()
        for stage, step in zip(chain.stages, plan.steps, strict=True):
            if isinstance(stage, Product):
                self._product(stage)
            elif isinstance(stage, Norm):
                self._norm(stage)
            elif step is not None:
                self._gates(stage, step)
        for name, part in zip(chain.states, frame.masks.update if plan.zoned else (), strict=False):
            if part is not None:
                weight = program.over_time(part).operand if isinstance(part, Tensor) else NOTHING
                words = (*self.at[f"{name}_prev"].operand, *self.at[name].operand, *weight, *after[name].operand)
                fixed = 0 if isinstance(part, Tensor) else bits(part)
                program.emit(do.mix, *words, after[name].columns, fixed)
        shown = after.get(chain.output) or self.at[chain.output]
        out = program.over_time(self.output)
        if call.mask is None:
            program.copy(shown, out)
        else:
            mask = program.flags(as_bytes(call.mask))
            for name in chain.states:
                program.choose(mask, after[name], self.at[f"{name}_prev"], after[name])
            program.choose(mask, shown, None, out)

    def _place_sources_of_norms(self) -> None:
        """Give memory over time to what a norm reads, if it has none: its backward pass reads it."""
        frame = self.frame
        self.sources: dict[str, Tensor] = {}
        for stage in frame.chain.stages:
            if isinstance(stage, Norm) and stage.source not in frame.plan.outlasting:
                blocks = self.blocks[stage.source]
                columns = frame.width[stage.source] // blocks
                length = frame.num_steps if self.keep else 1
                buffer = frame.x.new_empty(length, blocks, frame.batch, columns)
                self.sources[stage.source] = buffer
                self.at[stage.source] = self.program.over_time(buffer, blocks, fixed=not self.keep)

    def _input_part(self) -> None:
        """Put the input part of the gates where those read it, the biases of products that are added to it in it."""
        frame, program, weights, blocks = self.frame, self.program, self.frame.weights, self.blocks.get("x", 1)
        columns = frame.num_columns // blocks
        merged = [s for s in frame.chain.stages if isinstance(s, Product) and s.out in frame.plan.merged]
        biases = [weights[s.bias] for s in merged if s.bias in weights]
        onto = next((self.at[stage.out] for stage in merged if stage.out in self.at), None)
        x = frame.x if frame.x.stride(-1) == 1 or frame.x.shape[-1] == 1 else frame.x.contiguous()
        source = program.over_time(x)
        if "ih" in weights:
            self.at["x"] = program.tile(blocks, columns) if onto is None else onto
            biases += [weights["bias_ih"]] if "bias_ih" in weights else []
            weight = packed(weights["ih"], blocks, "packed_ih")
            program.product(source, weight, x.shape[-1], self.at["x"], starting(biases, blocks, columns))
        else:
            self.at["x"] = program.tile(blocks, columns) if onto is None else onto
            added = None if not biases else sum(biases[1:], biases[0]).contiguous()
            program.gather(source, self.at["x"], added)

    def _product(self, stage: Product) -> None:
        frame, program, name = self.frame, self.program, stage.out
        weight = frame.weights[stage.weight]
        start: Tensor | None = None
        if name in frame.plan.merged:
            self.at[name] = self.at["x"]
        else:
            if name not in self.at:
                blocks = self.blocks.get(name, 1)
                self.at[name] = program.tile(blocks, frame.width[name] // blocks)
            biases = [frame.weights[stage.bias]] if stage.bias in frame.weights else []
            start = starting(biases, self.at[name].blocks, self.at[name].columns)
        out, first = self.at[name], 0
        for k, source in enumerate(stage.sources):
            value, width = self.at[source], frame.width[source]
            if source in frame.masks.sources:
                masked = program.tile(1, width)
                program.scale(value, program.at_rows(frame.masks.sources[source]), masked)
                value = masked
            own = packed(weight[:, first : first + width], out.blocks, f"packed_{stage.weight}_{k}")
            program.product(value, own, width, out, start)
            start, first = None, first + width

    def _norm(self, stage: Norm) -> None:
        frame, program = self.frame, self.program
        source = self.at[stage.source]
        if stage.out not in self.at:
            self.at[stage.out] = program.tile(source.blocks, source.columns)
        out, gain, shift = self.at[stage.out], frame.affine[stage.gain], frame.affine.get(stage.shift)
        program.memory += [gain] if shift is None else [gain, shift]
        words = (*source.operand, source.block, source.blocks, source.columns, gain.data_ptr())
        program.emit(do.norm, *words, 0 if shift is None else shift.data_ptr(), *out.operand, out.block)
        if self.keep:
            self.kept.append(self._source_of(stage))

    def _source_of(self, stage: Norm) -> Tensor:
        """Return what a norm has read at all steps, as the plan says it is kept: (T, B, W), in any order of elements."""
        name, plan = stage.source, self.frame.plan
        if name in self.sources:
            buffer = self.sources[name]
            return buffer.view(len(buffer), self.frame.batch, plan.width[name])
        if name in plan.stored:
            return self.values[plan.stored.index(name)]
        buffer = self.buffers[plan.chain.states.index(name)]
        return buffer[:-1] if self.frame.reverse else buffer[1:]

    def _gates(self, stage: Gates, step: Step) -> None:
        frame, program, cell = self.frame, self.program, step.cell
        merged = stage.recurrent in frame.plan.merged
        from_x, from_h = stage.first is not None or merged, stage.recurrent is not None and not merged
        hidden, count = frame.width[stage.out[0]], cell.num_gates
        operands: list[tuple[int, int]] = []
        if from_x:
            operands += each(self.at["x"].part(0 if merged else stage.first or 0, count))
        if from_h:
            recurrent = self.at[str(stage.recurrent)]
            if recurrent.blocks != count:  # rows that others read as well
                rows, recurrent = recurrent, program.tile(count, hidden)
                program.gather(rows, recurrent)
            operands += each(recurrent)
        operands += [self.at[name].operand for name in stage.carried]
        if stage.cell.dropped is not None:
            operands += [program.over_time(mask).operand for mask in frame.candidate]
        operands += [self.at[name].operand for name in stage.out]
        if self.keep:
            buffer = frame.x.new_empty(frame.num_steps, len(cell.saved), frame.batch, hidden)
            self.kept.append(buffer)
            saved = program.over_time(buffer, len(cell.saved))
        else:
            saved = program.tile(len(cell.saved), hidden)
        operands += each(saved)
        address = forward_of(cell, from_x and from_h)
        program.emit(address, hidden, *(word for operand in operands for word in operand))


def each(value: At) -> list[tuple[int, int]]:
    """Return the blocks of a value as operands."""
    return [value.part(k, 1).operand for k in range(value.blocks)]
