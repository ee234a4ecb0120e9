"""A step of a chain as instructions, backward: the stages in reverse, writing gradients of pre-activations only.

Gradients of a value come from whoever reads it, one after the other: the first one writes, the others add. What a stage
reads is complete when it runs, since all readers of what it wrote stand behind it in the chain. Gradients of the states
stand in two tiles each, one that comes in and one that goes out, which change places from step to step.
"""

from collections.abc import Callable

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Gates, Norm, Product
from rnnlab_kernels.schedules.compiled.forward import Sizes, blocks_of
from rnnlab_kernels.schedules.compiled.keep import address_of
from rnnlab_kernels.schedules.compiled.program import FLOAT, NOTHING, At, Program, Recipe, bits
from rnnlab_kernels.schedules.compiled.terms import AT_AFTER, AT_BEFORE, AT_OTHER, AT_PARITY, PLACE, STATISTICS
from rnnlab_kernels.schedules.recording import gates_told
from rnnlab_kernels.schedules.stepwise.frame import Plan, Step


def backward_recipe(plan: Plan, sizes: Sizes) -> Recipe:
    """Return the program of a backward pass.

    Memory by names, beside that of the forward pass: doutput; `last NAME` and `first NAME`, gradients of the last and
    of the initial states (B, W); dx and `d NAME`, of pre-activations (T, B, W), or (R, W) of the rows that are gone
    over, but for dx that is the input's own; `unclipped NAME` (T, B, W). Sums by the
    names of constants, gains and shifts, and as `columns NAME` of the rows of dx and `d NAME`. Where gradients are
    joined, in place of dx and `d NAME` sums as `weight K NAME`, of the product with source K, and dinput (T, B, I).
    Where they are recorded, `flow KIND NAME` (T, B), sums of squares as recording.py has them.
    """
    return _Backward(plan, sizes).program.done()


class _Backward:
    def __init__(self, plan: Plan, sizes: Sizes) -> None:
        chain = plan.chain
        self.plan, self.sizes, self.blocks, self.strides = plan, sizes, blocks_of(plan), dict(sizes.weights)
        self.program = program = Program(
            sizes.num_steps, sizes.batch, sizes.reverse, True, sizes.rows, sizes.num_steps + 1
        )
        reset = program.flags("reset") if sizes.reset else None
        mask = program.ragged() if sizes.mask else None

        self.at: dict[str, At] = {}  # values
        for name in chain.states:
            width = plan.width[f"{name}_prev"]
            self.at[f"{name}_prev"] = before = program.over_time(f"state {name}", width, kind=AT_BEFORE)
            self.at[name] = program.over_time(f"state {name}", width, kind=AT_AFTER)
            if reset is not None and self._is_carried(f"{name}_prev"):
                self.at[f"{name}_prev"] = program.tile(1, width)
                program.choose(reset, None, before, self.at[f"{name}_prev"])
        for name in plan.stored:
            self.at[name] = program.over_time(f"value {name}", plan.width[name])
        for name in chain.constants:
            self.at[name] = program.spread(name, plan.width[name])
        self.constants = {
            name: At(program.sum(name, sizes.rows * plan.width[name])[0], 1, plan.width[name], 0, 0)
            for name in chain.constants
        }
        self.affine: dict[str, tuple[int, int]] = {}
        biased = [s for s in chain.stages if isinstance(s, Product) and s.bias in self.strides]
        self.summed = {"dx" if s.out in plan.into_dx else s.out for s in biased if s.out not in plan.outlasting}
        self.summed |= {"dx"} if "bias_ih" in self.strides else set()
        self.totals: dict[str, tuple[int, int]] = {}
        self.input: At | None = None
        if sizes.joined:
            self.input = program.over_time("x", sizes.num_features, steps=(sizes.input[0], sizes.input[1]))
        self.dinput: At | None = None
        self.none = program.tile(1, max(plan.width.values()))
        program.zero(self.none, "START")

        self.handed = {f"{name}_prev": name for name in chain.states} if sizes.recorded else {}
        self.ways: dict[tuple[str, str], At] = {}  # of several, by which a state's gradient comes
        self.d: dict[str, At] = {}  # gradients of values that have one by now
        self.pre: dict[str, At] = {}  # gradients of pre-activations of this step, in blocks
        coming, self.out = {}, {}
        for name, given in zip(chain.states, sizes.given[1:], strict=True):
            width = plan.width[f"{name}_prev"]
            coming[name] = tile = program.tile(1, width, AT_PARITY)
            self.out[f"{name}_prev"] = self._other(tile)
            if given:
                program.copy(program.at_rows(f"last {name}", width), tile, "START")
            else:
                program.zero(tile, "START")
        held: dict[str, At] = {}
        passed: dict[str, At] = {}
        for name in chain.states:
            if mask is not None:  # outside its length a row only hands its state on: the gradient passes it untouched
                held[name] = program.tile(1, coming[name].columns)
                program.choose(mask, None, coming[name], held[name], "SPLIT")
                program.choose(mask, coming[name], None, coming[name], "SPLIT")
            self.d[name] = coming[name]
        if sizes.given[0]:
            width = plan.width[chain.output]
            if chain.output not in self.d:
                self.d[chain.output] = program.tile(1, width)
                program.zero(self.d[chain.output])
            steps, numbers = (sizes.x[0], sizes.x[1]), NOTHING
            if sizes.ordered:
                steps, numbers = (sizes.x[0], 0), program.numbers()
            source, into = program.over_time("doutput", width, steps=steps), self.d[chain.output]
            operands = *(mask or NOTHING), *source.operand, *numbers, *into.operand
            program.emit("rows.add_rows", *operands, FLOAT * sizes.x[1], width)
        for name, part in zip(chain.states, sizes.update, strict=False):
            if part is not None:
                width, drawn = coming[name].columns, part is True
                weight = program.over_time(f"part {name}", width).operand if drawn else NOTHING
                new, passed[name] = program.tile(1, width), program.tile(1, width)
                words = (*coming[name].operand, *weight, *new.operand, *passed[name].operand, width)
                program.emit("rows.unmix", *words, 0 if drawn else bits(part))
                self._hand("direct", f"{name}_prev", passed[name])
                self.d[name] = new
        for number, (stage, step) in reversed(list(enumerate(zip(chain.stages, plan.steps, strict=True)))):
            if isinstance(stage, Product):
                self._product(stage)
            elif isinstance(stage, Norm):
                self._norm(stage)
            elif step is not None:
                self._gates(stage, step, number)
        for (kind, name), total in self.ways.items():
            self._tell(kind, name, total)
        for name in chain.states:
            out = self.out[f"{name}_prev"]
            if f"{name}_prev" not in self.d:
                program.zero(out)
            if name in passed:
                program.add(passed[name], out)
            if mask is not None:
                program.choose(mask, out, held[name], out, "HOLD")
            if reset is not None:
                program.choose(reset, None, out, out)
                program.choose(reset, None, out, out, "HOLD")
            if sizes.clip is not None:
                if sizes.counted:
                    shape = sizes.num_steps, sizes.batch, out.columns
                    program.copy(out, program.over_time(program.new(f"unclipped {name}", *shape), out.columns))
                program.emit("rows.clip", *(mask or NOTHING), *out.operand, out.columns, bits(sizes.clip))
            first = program.new(f"first {name}", sizes.batch, out.columns)
            program.copy(out, program.at_rows(first, out.columns), "END")
        # The input's own gradient is handed out: outside their length rows have zeros.
        dinput = self._buffer("dx") if "ih" not in self.strides else self.dinput
        if mask is not None and dinput is not None:
            program.choose(mask, dinput, None, dinput, "HOLD")

    def _other(self, tile: At) -> At:
        """Return the one of a pair of tiles that is not `tile`."""
        _, base, slot, row = self.program.places[PLACE * tile.place :][:PLACE]
        return tile._replace(place=self.program.place(AT_OTHER, base, slot, row))

    def _is_carried(self, name: str) -> bool:
        return any(name in stage.carried for stage in self.plan.chain.stages if isinstance(stage, Gates))

    def _buffer(self, name: str, first: int = 0) -> At:
        """Return the gradient of pre-activations over time from a column on, as rows (R, W)."""
        plan, program = self.plan, self.program
        is_dx = name == "dx" or name in plan.into_dx
        name, width = ("dx", plan.num_columns) if is_dx else (f"d {name}", plan.width[name])
        if self.sizes.packed and ("ih" in self.strides or not is_dx):
            return program.packed_over_time(name, width, first)
        return program.over_time(name, width, offset=first)

    def _scatter(self, part: At, name: str, first: int = 0) -> None:
        """Write blocks into a gradient of pre-activations over time, and sum them where a bias needs that."""
        into = "dx" if name in self.plan.into_dx else name
        sums = NOTHING
        if into in self.summed:
            width = self.plan.num_columns if into == "dx" else self.plan.width[into]
            sums = self._total(f"columns {into}", width)[0], 4 * first
        if self.input is not None and into == "dx":
            self._join(part, "ih", 0, self.input, first, sums)
            if self.sizes.dinput:
                self._join_input(part, first)
        else:
            self.program.scatter(part, self._buffer(name, first), sums)

    def _total(self, name: str, elements: int) -> tuple[int, int]:
        if name not in self.totals:
            self.totals[name] = self.program.sum(name, elements)
        return self.totals[name]

    def _join(self, part: At, weight: str, k: int, source: At, first: int, sums: tuple[int, int]) -> None:
        """Add what this step gives to rows of the gradient of a weight, from row `first` on."""
        rows = self.plan.num_columns if weight == "ih" else part.columns
        place, _ = self._total(f"weight {k} {weight}", rows * source.columns)
        operands = (*part.operand, *source.operand, place, FLOAT * first * source.columns, *sums)
        words = part.block, part.blocks, part.columns, source.row, source.columns
        self.program.emit("products.outer", *operands, *words, bits(1.0))

    def _join_input(self, part: At, first: int) -> None:
        """Add what this step's pre-activations give to the gradient of the input."""
        program, features, strides = self.program, self.sizes.num_features, self.strides["ih"]
        for g in range(part.blocks):
            offset = (first + g * part.columns) * strides[0]
            own, start = program.packed("ih", strides[::-1], part.columns, 1, features, offset), None
            if self.dinput is None:
                shape = self.sizes.num_steps, self.sizes.batch, features
                self.dinput = program.over_time(program.new("dinput", *shape), features)
                start = program.starting((), 1, features)
            program.product(part.part(g, 1), own, part.columns, self.dinput, start)

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

    def _tell(self, kind: str, name: str, value: At) -> None:
        """Write the sums of squares of the rows of a value, if it is recorded."""
        if self.sizes.recorded:
            out = self.program.new(f"flow {kind} {name}", self.sizes.num_steps, self.sizes.batch)
            operands = (*value.operand, *self.program.over_time(out, 1).operand)
            self.program.emit("rows.squares", *operands, value.columns)

    def _tell_state(self, name: str, value: At, width: int) -> None:
        if name in self.plan.chain.states:
            self._tell("state", name, value._replace(columns=width))

    def _hand(self, kind: str, name: str, value: At) -> None:
        """Record what a step hands back to a state by one way, as it stands now; by several, their sum."""
        if name not in self.handed:
            return
        state, chain = self.handed[name], self.plan.chain
        if kind == "direct":
            count = sum(name in stage.carried for stage in chain.stages if isinstance(stage, Gates))
            count += state in self.plan.zoned
        else:
            count = sum(name in stage.sources for stage in chain.stages if isinstance(stage, Product))
        if count == 1:
            self._tell(kind, state, value)
        elif (kind, state) in self.ways:
            self.program.add(value, self.ways[kind, state])
        else:
            self.ways[kind, state] = total = self.program.tile(1, value.columns)
            self.program.copy(value, total)

    def _taken(self, name: str) -> At:
        """Return all of the gradient of a value (R, W)."""
        return self.d.get(name, self.none)

    def _product(self, stage: Product) -> None:
        plan, program = self.plan, self.program
        self._tell_state(stage.out, self._taken(stage.out), plan.width[stage.out])
        if self.input is not None:
            width = plan.width[stage.out]
            steps = self._taken(stage.out)._replace(columns=width, row=FLOAT * width)
        else:
            steps = self._buffer(stage.out)
            if stage.out in plan.outlasting:
                program.copy(self._taken(stage.out), steps)
        strides, first = self.strides[stage.weight], 0
        for k, source in enumerate(stage.sources):
            width = plan.width[source]
            if self.input is not None:
                is_biased = not k and stage.bias in self.strides
                sums = self._total(f"columns {stage.out}", steps.columns) if is_biased else NOTHING
                self._join(steps, stage.weight, k, self.at[source], 0, sums)
            # Of the transposed weights columns are what they were multiplied with.
            own = program.packed(stage.weight, strides[::-1], steps.columns, 1, width, first * strides[1])
            first += width
            drops = source in self.sizes.sources
            if source in self.d and not drops and source not in self.handed:
                program.product(steps, own, steps.columns, self.d[source], None)
                continue

            def write(into: At, own: tuple[int, int] = own, source: str = source, drops: bool = drops) -> None:
                program.product(steps, own, steps.columns, into, program.starting((), 1, into.columns))
                if drops:
                    program.scale(into, program.at_rows(f"dropped {source}", into.columns), into)
                self._hand("recurrent", source, into)

            self._give(source, width, write)

    def _norm(self, stage: Norm) -> None:
        program, plan, name = self.program, self.plan, stage.source
        self._tell_state(stage.out, self._taken(stage.out), plan.width[stage.out])
        outlasts = name in plan.outlasting
        blocks = 1 if outlasts else self.blocks[name]
        columns = plan.width[name] // blocks
        source = self.at[name] if outlasts else program.over_time(f"source {name}", columns, blocks)
        upstream = self._taken(stage.out) if stage.out in plan.outlasting else self.pre[stage.out]
        result = program.tile(blocks, columns)
        sums: list[int] = []
        for weight in (stage.gain, stage.shift or f"shift of {stage.gain}"):
            if weight not in self.affine:  # norms may share their parameters
                self.affine[weight] = program.sum(weight, plan.width[name])
            sums += self.affine[weight]
        room = program.tile(1, STATISTICS)
        operands = (
            *(*upstream.operand, *source.operand, *program.vector(stage.gain), *result.operand),
            *(*sums, *room.operand),
        )
        program.emit("norms.norm_back", *operands, upstream.block, source.block, blocks, columns, result.block)
        if outlasts:
            self._give(name, columns, lambda place: program.copy(result, place))
        else:
            self.pre[name] = result
            self._scatter(result, name)

    def _gates(self, stage: Gates, step: Step, number: int) -> None:
        program, plan, cell, recurrent = self.program, self.plan, step.cell, stage.recurrent
        hidden, count, split = plan.width[stage.out[0]], cell.num_gates, cell.split
        merged = recurrent in plan.merged
        operands = [self._taken(name).operand for name in stage.out]
        operands += program.over_time(f"kept {number}", hidden, len(cell.saved)).each()
        operands += [self.at[name].operand for name in stage.carried]
        if cell is not stage.cell:
            operands.append(program.over_time("candidate", hidden).operand)
        operands += [self.at[name].operand for name in stage.out]
        if self.sizes.recorded:
            self._tell_outputs(stage, cell, operands, hidden)
        # Merged gates, then recurrent parts of split ones, then their input parts: the recurrent part in one piece.
        dgates = program.tile(count + split, hidden)
        order = [*range(count - split), *range(count, count + split), *range(count - split, count)]
        operands += [dgates.part(k, 1).operand for k in order]
        given: dict[str, At] = {}
        extra: list[tuple[str, At]] = []
        for name in stage.carried:
            if name in self.constants or name in self.d or name in given:
                extra.append((name, program.tile(1, hidden)))
                operands.append(extra[-1][1].operand)
            else:
                given[name] = self._room(name, hidden)
                operands.append(given[name].operand)
        if cell is not stage.cell:  # a mask has a gradient, too, which goes nowhere
            operands.append(program.tile(1, hidden).operand)
        program.emit(address_of("gates.backward_of", cell), hidden, *(word for operand in operands for word in operand))
        for k, name in enumerate(gates_told(plan.chain, stage)):
            self._tell("gate", name, dgates.part(order[k], 1))
        for name, place in (*given.items(), *extra):
            self._hand("direct", name, place._replace(columns=hidden))
        self.d |= given
        for name, place in extra:
            program.add(place, self.constants.get(name) or self.d[name])

        if merged or (stage.first is not None and recurrent not in plan.into_dx):
            first = hidden * (0 if merged else stage.first or 0)
            self._scatter(dgates.part(0, count - split), "dx", first)
            if split:
                self._scatter(dgates.part(count, split), "dx", first + hidden * (count - split))
        if recurrent is None:
            return
        self.pre[recurrent] = part = dgates.part(0, count)
        if not merged:
            self._scatter(part, recurrent)
        if recurrent in plan.outlasting:
            write = program.copy if count == 1 else program.scatter
            self._give(recurrent, count * hidden, lambda place: write(part, place))

    def _tell_outputs(self, stage: Gates, cell: Cell, operands: list[tuple[int, int]], hidden: int) -> None:
        """Record the whole gradients of the states that a gate update writes; `operands` as its gradient takes them."""
        totals = [self._taken(name) for name in stage.out]
        if cell.gates_total is not None:
            totals = [self.program.tile(1, hidden) for _ in stage.out]
            words = (word for operand in (*operands, *(total.operand for total in totals)) for word in operand)
            self.program.emit(address_of("gates.total_of", cell), hidden, *words)
        for name, total in zip(stage.out, totals, strict=True):
            self._tell_state(name, total, hidden)
