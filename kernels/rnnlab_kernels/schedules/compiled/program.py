"""Programs: where values stand and which instructions a step is, for the machine to run.

`Program` is what a program is put together from; forward.py and backward.py write those of a chain.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.schedules.compiled import machine
from rnnlab_kernels.schedules.compiled import rows as do
from rnnlab_kernels.schedules.compiled.keep import address_of
from rnnlab_kernels.schedules.compiled.machine import AT_ALL, AT_STEP, AT_TILE, HEAD, MAX_PLACES
from rnnlab_kernels.schedules.compiled.products import LANES, multiply, pack, packed_size
from rnnlab_kernels.schedules.stepwise.products import scratch

FLOAT = 4  # bytes
LINE = 64  # bytes of a line of cache


class At(NamedTuple):
    """A value of a tile: `blocks` of `columns` each, R rows of a block `row` bytes apart, blocks `block` bytes apart."""

    place: int
    blocks: int
    columns: int
    row: int
    block: int
    offset: int = 0

    @property
    def operand(self) -> tuple[int, int]:
        return self.place, self.offset

    def part(self, first: int, blocks: int) -> "At":
        """Return some of the blocks."""
        return self._replace(offset=self.offset + first * self.block, blocks=blocks)


NOTHING = (-1, 0)  # as an operand


class Program:
    """A program under construction.

    Attributes:
        rows: R, of a tile.
        memory: tensors whose addresses are in it, which live as long as it does.
        code: the instructions of a step; `start` and `end` are those before the first and after the last.
    """

    def __init__(self, num_steps: int, batch: int, reverse: bool, backwards: bool, rows: int, num_slots: int) -> None:
        self.num_steps, self.batch, self.rows = num_steps, batch, rows
        self.num_tiles = -(-batch // rows)
        self.head = [0] * HEAD
        self.head[machine.TILES] = self.num_tiles
        self.head[machine.ROWS], self.head[machine.STEPS], self.head[machine.BATCH] = rows, num_steps, batch
        self.head[machine.REVERSE], self.head[machine.BACKWARDS] = int(reverse), int(backwards)
        self.head[machine.SLOTS] = num_slots
        self.places: list[int] = []
        self.start: list[int] = []
        self.code: list[int] = []
        self.end: list[int] = []
        self.memory: list[Tensor] = []
        # Addresses of places; the rest is tiles.
        self.tile_bytes = 8 * MAX_PLACES

    def place(self, kind: int, base: int, slot: int, row: int) -> int:
        self.places += (kind, base, slot, row)
        return len(self.places) // machine.PLACE - 1

    def over_time(self, buffer: Tensor, blocks: int = 1, kind: int = AT_STEP, fixed: bool = False) -> At:
        """Return a value in memory (T, B, W), whose columns are contiguous, or (T, G, B, H), contiguous as a whole.

        `fixed`: all steps have the memory of one.
        """
        self.memory.append(buffer)
        columns = buffer.shape[-1]
        row = buffer.stride(-2) * FLOAT
        place = self.place(kind, buffer.data_ptr(), 0 if fixed else buffer.stride(0) * FLOAT, row)
        return At(place, blocks, columns, row, buffer.stride(1) * FLOAT if buffer.dim() == 4 else row)

    def at_rows(self, buffer: Tensor) -> At:
        """Return a value in memory (B, W), the same at all steps."""
        self.memory.append(buffer)
        row = buffer.stride(0) * FLOAT
        return At(self.place(AT_ALL, buffer.data_ptr(), 0, row), 1, buffer.shape[1], row, row)

    def flags(self, flags: Tensor) -> tuple[int, int]:
        """Return flags (T, B) of bytes as an operand."""
        self.memory.append(flags)
        return self.place(AT_STEP, flags.data_ptr(), flags.stride(0), 1), 0

    def tile(self, blocks: int, columns: int, kind: int = AT_TILE) -> At:
        """Return room for a value in the tile's scratch; by parity, for two of it."""
        base, size = self.tile_bytes, self.lines(self.rows * columns)
        twice = 1 if kind == AT_TILE else 2
        self.tile_bytes += size * blocks * twice
        return At(self.place(kind, base, size * blocks, 0), blocks, columns, columns * FLOAT, size)

    def row(self, columns: int) -> At:
        """Return room for the sums (W,) of a tile's rows, zeros before the first step."""
        base, size = self.tile_bytes, self.lines(columns)
        value = At(self.place(AT_TILE, base, size, 0), 1, columns, 0, size)
        self.tile_bytes += size
        self.emit(do.zero, *value.operand, columns, into=self.start)
        return value

    def spread(self, weight: Tensor) -> At:
        """Return a weight (H,) as rows."""
        vector = weight.contiguous()
        self.memory.append(vector)
        value, place = self.tile(1, len(vector)), self.place(AT_ALL, vector.data_ptr(), 0, 0)
        self.gather(At(place, 1, len(vector), 0, 0), value, into=self.start)
        return value

    @staticmethod
    def lines(elements: int) -> int:
        return -(-elements // (LINE // FLOAT)) * LINE

    def emit(self, function: Any, *words: int, into: list[int] | None = None) -> None:
        """Add an instruction: a function of this package, or the address of one."""
        code = self.code if into is None else into
        address = function if isinstance(function, int) else address_of(function)
        code += (address, len(words) + 2, *words)

    def product(self, source: At, packed: Tensor, depth: int, out: At, start: Tensor | None) -> None:
        """Multiply rows; `start` (blocks, padded columns) is added, what stands in `out` if that is None."""
        self.memory.append(packed)
        first = 0
        if start is not None:
            self.memory.append(start)
            first = start.data_ptr()
        words = (*source.operand, source.row, packed.data_ptr(), depth, out.blocks, out.columns, first)
        # Operands are first and fifth.
        self.emit(multiply, *words[:2], *out.operand, *words[2:], out.row, out.block)

    def gather(self, source: At, out: At, added: Tensor | None = None, into: list[int] | None = None) -> None:
        """Write rows (R, G*H) into blocks, `added` (G*H,) to each row."""
        address = 0
        if added is not None:
            self.memory.append(added)
            address = added.data_ptr()
        words = (*source.operand, source.row, out.blocks, out.columns, *out.operand, out.block, address)
        self.emit(do.gather, *words, into=into)

    def scatter(self, source: At, out: At) -> None:
        """Write blocks into rows (R, G*H)."""
        shape = (source.block, source.blocks, source.columns)
        self.emit(do.scatter, *source.operand, *shape, *out.operand, out.row)

    def copy(self, source: At, out: At, into: list[int] | None = None) -> None:
        """Copy a value of one block whose rows follow each other."""
        self.emit(do.copy, *source.operand, *out.operand, out.columns, into=into)

    def zero(self, out: At, into: list[int] | None = None) -> None:
        self.emit(do.zero, *out.operand, self.rows * out.columns, into=into)

    def add(self, source: At, out: At) -> None:
        self.emit(do.add, *source.operand, *out.operand, out.columns)

    def scale(self, first: At, second: At, out: At) -> None:
        self.emit(do.scale, *first.operand, *second.operand, *out.operand, out.columns)

    def choose(self, flags: tuple[int, int], first: At | None, second: At | None, out: At) -> None:
        """Take rows of `first` where the flag is set, of `second` where it is not; None stands for zeros."""
        sources = [NOTHING if value is None else value.operand for value in (first, second)]
        self.emit(do.choose, *flags, *sources[0], *sources[1], *out.operand, out.columns, out.row)

    def finished(self) -> Tensor:
        """Return the memory of the program, and keep scratch for it."""
        like = torch.empty(0)
        self.scratch = scratch("tiles", like, self.num_tiles, self.tile_bytes // FLOAT)
        words = [*self.head, *self.places]
        for name, code in (("START", self.start), ("STEP", self.code), ("END", self.end)):
            words[getattr(machine, name)], words[getattr(machine, f"{name}_LENGTH")] = len(words), len(code)
            words += code
        words[machine.PLACES], words[machine.FIRST_PLACE] = len(self.places) // machine.PLACE, HEAD
        words[machine.SCRATCH], words[machine.TILE_BYTES] = self.scratch.data_ptr(), self.tile_bytes
        return torch.tensor(words, dtype=torch.int64)

    def in_tiles(self, value: At) -> Tensor:
        """Return what each tile has of a value of its scratch, (tiles, elements), after the program has run."""
        base = self.places[machine.PLACE * value.place + 1] // FLOAT
        return self.scratch[:, base : base + self.rows * value.columns]


def packed(weight: Tensor, blocks: int, name: str) -> Tensor:
    """Return weights (G*H, K), of any strides, as `products.multiply` takes them for x @ weight.t()."""
    columns, depth = weight.shape[0] // blocks, weight.shape[1]
    out = scratch(name, weight, packed_size(depth, blocks, columns))
    pack(weight.data_ptr(), weight.stride(0), weight.stride(1), depth, blocks, columns, out.data_ptr())
    return out


def starting(biases: Sequence[Tensor], blocks: int, columns: int) -> Tensor:
    """Return the sum of biases (G*H,), zeros without any, as blocks of whole vectors."""
    wide = -(-columns // LANES) * LANES
    out = torch.zeros(blocks, wide)
    for bias in biases:
        out[:, :columns] += bias.view(blocks, columns)
    return out


def bits(value: float) -> int:
    """Return the bits of a float32."""
    return struct.unpack("<i", struct.pack("<f", value))[0]
