"""A step of a chain as instructions, forward."""

from typing import Any, NamedTuple

from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.compiled.keep import address_of
from rnnlab_kernels.schedules.compiled.program import FLOAT, NOTHING, At, Program, Recipe, bits
from rnnlab_kernels.schedules.compiled.terms import AT_AFTER, AT_BEFORE
from rnnlab_kernels.schedules.stepwise.frame import Plan, Step

Part = float | bool | None


class Sizes(NamedTuple):
    """What a program depends on beside the plan.

    Attributes:
        num_steps, batch, rows: T, B, and rows of a tile.
        reverse, keep: of the call.
        x: strides of the input (T, B, I), or of the gradient of the output.
        weights: strides of weights by name.
        mask, reset: whether there are any.
        sources: values that are dropped on their way into products.
        update: for each state True if the part of the new value is drawn, else that part, None for all.
        clip, counted: limit of gradients, and whether what comes in is kept.
        given: whether there is a gradient of the output, and of each last state.
        joined: whether gradients of weights are formed in the pass, not after it.
        input, num_features, dinput: then strides and width of the input, and whether it has a gradient, too.
        ordered: whether rows of the input and of the output have numbers.
        packed: whether gradients of pre-activations have memory for rows that are gone over alone.
        recorded: whether sums of squares of gradients are written, for a recorder.
    """

    num_steps: int
    batch: int
    rows: int
    reverse: bool
    keep: bool
    x: tuple[int, ...]
    weights: tuple[tuple[str, Any], ...]
    mask: bool
    reset: bool
    sources: tuple[str, ...]
    update: tuple[Part, ...]
    clip: float | None = None
    counted: bool = False
    given: tuple[bool, ...] = ()
    joined: bool = False
    input: tuple[int, ...] = ()
    num_features: int = 0
    dinput: bool = False
    ordered: bool = False
    packed: bool = False
    recorded: bool = False


def blocks_of(plan: Plan) -> dict[str, int]:
    """Return how many gates' columns a value has, for those that gate updates take as pre-activations: they, the
    products and norms they come from, and the input part, "x"."""
    found: dict[str, int] = {}
    for stage in reversed(plan.chain.stages):
        if isinstance(stage, Gates) and stage.recurrent is not None:
            found[stage.recurrent] = stage.cell.num_gates
        if isinstance(stage, Norm) and stage.out in found:
            found[stage.source] = found[stage.out]
    for stage in plan.chain.stages:
        if isinstance(stage, Gates) and stage.first is not None:
            found["x"] = plan.num_columns // (plan.width[stage.out[0]] or 1) or 1  # without units, too
        if isinstance(stage, Product) and stage.add_input:
            found["x"] = found[stage.out]
    return found


def forward_recipe(plan: Plan, sizes: Sizes, num_features: int) -> Recipe:
    """Return the program of a forward pass.

    Memory by names: x (T, B, I), mask, reset, weights, output; `state NAME` (T+1, B, W), or (2, B, W) if nothing is
    kept; `value NAME` and `source NAME` (T, B, W); `kept N` of stage N (T, S, B, H); masks `dropped NAME` (B, W),
    `candidate` and `part NAME` (T, B, W).
    """
    return _Forward(plan, sizes, num_features).program.done()


class _Forward:
    def __init__(self, plan: Plan, sizes: Sizes, num_features: int) -> None:
        chain, keep = plan.chain, sizes.keep
        self.plan, self.sizes, self.blocks, self.strides = plan, sizes, blocks_of(plan), dict(sizes.weights)
        num_steps, batch = sizes.num_steps, sizes.batch
        self.length = num_steps if keep else 1
        num_slots = num_steps + 1 if keep else 2
        self.program = program = Program(num_steps, batch, sizes.reverse, False, sizes.rows, num_slots)

        mask = self.mask = program.ragged() if sizes.mask else NOTHING
        self.order = program.numbers() if sizes.ordered else None
        self.at: dict[str, At] = {}
        after: dict[str, At] = {}
        reset = program.flags("reset") if sizes.reset else None
        for name in chain.states:
            width = plan.width[f"{name}_prev"]
            buffer = program.new(f"state {name}", num_slots, batch, width)
            self.at[f"{name}_prev"] = before = program.over_time(buffer, width, kind=AT_BEFORE)
            self.at[name] = after[name] = program.over_time(buffer, width, kind=AT_AFTER)
            if reset is not None:
                self.at[f"{name}_prev"] = program.tile(1, width)
                for into in ("STEP", "HOLD"):
                    program.choose(reset, None, before, self.at[f"{name}_prev"], into)
        for name in plan.stored:
            width = plan.width[name]
            buffer = program.new(f"value {name}", self.length, batch, width)
            self.at[name] = program.over_time(buffer, width, fixed=not keep)
        for name in chain.constants:
            self.at[name] = program.spread(name, plan.width[name])
        for stage in chain.stages:  # what a norm reads has memory over time: its backward pass reads it
            if isinstance(stage, Norm) and stage.source not in plan.outlasting:
                blocks = self.blocks[stage.source]
                columns = plan.width[stage.source] // blocks
                buffer = program.new(f"source {stage.source}", self.length, batch, plan.width[stage.source])
                self.at[stage.source] = program.over_time(buffer, columns, blocks, fixed=not keep)
        self._input_part(num_features)
        for number, (stage, step) in enumerate(zip(chain.stages, plan.steps, strict=True)):
            if isinstance(stage, Product):
                self._product(stage)
            elif isinstance(stage, Norm):
                self._norm(stage)
            elif step is not None:
                self._gates(stage, step, number)
        for name, part in zip(chain.states, sizes.update, strict=False):
            if part is not None:
                width, drawn = after[name].columns, part is True
                weight = program.over_time(f"part {name}", width).operand if drawn else NOTHING
                words = (*self.at[f"{name}_prev"].operand, *self.at[name].operand, *weight, *after[name].operand)
                program.emit("rows.mix", *words, width, 0 if drawn else bits(part))
        shown = after.get(chain.output) or self.at[chain.output]
        width, steps = shown.columns, (batch * shown.columns, 0 if sizes.ordered else shown.columns)
        out = program.over_time(program.new("output", num_steps, batch, width), width, steps=steps)
        if self.order is None:
            program.copy(shown, out)
        else:
            program.emit("rows.put_rows", *NOTHING, *shown.operand, *self.order, *out.operand, width, FLOAT * width)
        if sizes.mask:
            for name in chain.states:
                program.choose(mask, after[name], self.at[f"{name}_prev"], after[name], "HOLD")
            if self.order is None:
                program.choose(mask, out, None, out, "HOLD")
            else:
                operands = (*mask, *NOTHING, *self.order, *out.operand)
                program.emit("rows.put_rows", *operands, width, FLOAT * width, into="HOLD")

    def _input_part(self, num_features: int) -> None:
        """Put the input part of the gates where those read it, the biases of products that are added to it in it."""
        plan, program, blocks = self.plan, self.program, self.blocks.get("x", 1)
        columns = plan.num_columns // blocks
        merged = [s for s in plan.chain.stages if isinstance(s, Product) and s.out in plan.merged]
        biases = [s.bias for s in merged if s.bias is not None and s.bias in self.strides]
        onto = next((self.at[stage.out] for stage in merged if stage.out in self.at), None)
        self.at["x"] = out = program.tile(blocks, columns) if onto is None else onto
        stride_t, stride_b, _ = self.sizes.x
        if self.order is None:
            source = program.over_time("x", num_features, steps=(stride_t, stride_b))
        else:
            rows, source = program.over_time("x", num_features, steps=(stride_t, 0)), program.tile(1, num_features)
            words = *self.mask, *rows.operand, *self.order, *source.operand, num_features, FLOAT * stride_b
            program.emit("rows.take_rows", *words)
        if "ih" in self.strides:
            biases += ["bias_ih"] if "bias_ih" in self.strides else []
            weight = program.packed("ih", self.strides["ih"], num_features, blocks, columns, 0)
            program.product(source, weight, num_features, out, program.starting(biases, blocks, columns))
        elif biases:
            # One gate's columns for all of them: a vector as it is.
            added = program.share(plan.num_columns)
            program.emit("rows.zero", *added, plan.num_columns, into="PREPARE")
            for bias in biases:
                program.emit("rows.add_vector", *program.vector(bias), *added, plan.num_columns, into="PREPARE")
            program.gather(source, out, added)
        else:
            program.gather(source, out)

    def _product(self, stage: Product) -> None:
        plan, program, name = self.plan, self.program, stage.out
        start: tuple[int, int] | None = None
        if name in plan.merged:
            self.at[name] = self.at["x"]
        else:
            if name not in self.at:
                blocks = self.blocks.get(name, 1)
                self.at[name] = program.tile(blocks, plan.width[name] // blocks)
            biases = [stage.bias] if stage.bias is not None and stage.bias in self.strides else []
            start = program.starting(biases, self.at[name].blocks, self.at[name].columns)
        out, first, strides = self.at[name], 0, self.strides[stage.weight]
        for source in stage.sources:
            value, width = self.at[source], plan.width[source]
            if source in self.sizes.sources:
                masked = program.tile(1, width)
                program.scale(value, program.at_rows(f"dropped {source}", width), masked)
                value = masked
            own = program.packed(stage.weight, strides, width, out.blocks, out.columns, first * strides[1])
            program.product(value, own, width, out, start)
            start, first = None, first + width

    def _norm(self, stage: Norm) -> None:
        program, source = self.program, self.at[stage.source]
        if stage.out not in self.at:
            self.at[stage.out] = program.tile(source.blocks, source.columns)
        out = self.at[stage.out]
        shift = program.vector(stage.shift) if stage.shift is not None and stage.shift in self.strides else NOTHING
        operands = (*source.operand, *out.operand, *program.vector(stage.gain), *shift)
        program.emit("norms.norm", *operands, source.block, source.blocks, source.columns, out.block)

    def _gates(self, stage: Gates, step: Step, number: int) -> None:
        plan, program, cell = self.plan, self.program, step.cell
        merged = stage.recurrent in plan.merged
        from_x, from_h = stage.first is not None or merged, stage.recurrent is not None and not merged
        hidden, count = plan.width[stage.out[0]], cell.num_gates
        operands: list[tuple[int, int]] = []
        if from_x:
            operands += self.at["x"].part(0 if merged else stage.first or 0, count).each()
        if from_h:
            recurrent = self.at[str(stage.recurrent)]
            if recurrent.blocks != count:  # rows that others read as well
                rows, recurrent = recurrent, program.tile(count, hidden)
                program.gather(rows, recurrent)
            operands += recurrent.each()
        operands += [self.at[name].operand for name in stage.carried]
        if cell is not stage.cell:
            operands.append(program.over_time("candidate", hidden).operand)
        operands += [self.at[name].operand for name in stage.out]
        if self.sizes.keep:
            buffer = program.new(f"kept {number}", self.length, len(cell.saved), self.sizes.batch, hidden)
            operands += program.over_time(buffer, hidden, len(cell.saved)).each()
        else:
            operands += program.tile(len(cell.saved), hidden).each()
        gates = address_of("gates.forward_of", cell, from_x and from_h)
        program.emit(gates, hidden, *(word for operand in operands for word in operand))
