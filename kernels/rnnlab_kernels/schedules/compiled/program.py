"""Programs: where values stand and which instructions a step is, for the machine to run.

`Program` is what a program is put together from, without a tensor: memory goes by names. forward.py and backward.py
write those of a chain, once for sizes; a `Recipe` is one that is done, and takes the addresses of a call.
"""

import ctypes
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab_kernels.schedules.compiled import terms
from rnnlab_kernels.schedules.compiled.keep import address_of
from rnnlab_kernels.schedules.compiled.terms import (
    AT_ALL,
    AT_PACKED,
    AT_STEP,
    AT_TILE,
    HEAD,
    LANES,
    MAX_PLACES,
    packed_size,
)
from rnnlab_kernels.schedules.stepwise.products import scratch

FLOAT = 4  # bytes
LINE = 64  # bytes of a line of cache
NOTHING = (-1, 0)  # as an operand


class At(NamedTuple):
    """A value of a tile: `blocks` of `columns` each, rows of a block `row` bytes apart, blocks `block` bytes apart."""

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

    def each(self) -> list[tuple[int, int]]:
        """Return the blocks as operands."""
        return [(self.place, self.offset + k * self.block) for k in range(self.blocks)]


class Recipe(NamedTuple):
    """A program that is done.

    Attributes:
        words: with zeros, or bytes beyond them, for addresses.
        positions: of the words that addresses are added to.
        names: of the memory whose addresses those are; "" is scratch.
        buffers: names and shapes of memory that a call makes.
        size: of scratch in elements.
        tiles: how many.
        sums: by name, (first element in a tile's scratch, how many) of sums over its rows.
        tile: elements of a tile's scratch.
    """

    words: Any
    positions: Any
    names: tuple[str, ...]
    buffers: tuple[tuple[str, tuple[int, ...]], ...]
    size: int
    tiles: int
    sums: Mapping[str, tuple[int, int]]
    tile: int

    def run(self, memory: dict[str, Tensor], like: Tensor) -> Tensor:
        """Run the program on memory by names; return each tile's scratch (tiles, elements)."""
        memory[""] = room = scratch("compiled", like, self.size)
        words = self.words.copy()
        words[self.positions] += np.fromiter(
            map(Tensor.data_ptr, map(memory.__getitem__, self.names)), np.int64, len(self.names)
        )
        address = words.__array_interface__["data"][0]
        prepare, run, run_address = _entries()
        prepare(address)
        threads = min(torch.get_num_threads(), self.tiles)
        parallel = _parallel() if threads > 1 else None
        if parallel is None:
            run(address)
        else:
            parallel(run_address, address, threads, 0)
        return room[: self.tiles * self.tile].view(self.tiles, self.tile)


@cache
def _entries() -> tuple[Any, Any, int]:
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64)
    prepare, run = address_of("machine.prepare"), address_of("machine.run")
    return kind(prepare), kind(run), run


@cache
def _parallel() -> Any:
    """Return OpenMP's function that runs another in all threads, from the library that torch runs on; or None."""
    library = next(iter(sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))), None)
    try:
        found = ctypes.CDLL(str(library)).GOMP_parallel  # a symbol of what it depends on
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint, ctypes.c_uint], None
    return found


class Program:
    """A program under construction, for tiles of `rows` rows."""

    def __init__(self, num_steps: int, batch: int, reverse: bool, backwards: bool, rows: int, num_slots: int) -> None:
        self.num_steps, self.batch, self.rows = num_steps, batch, rows
        self.num_tiles = -(-batch // rows)
        self.head = [0] * HEAD
        self.head[terms.TILES] = self.num_tiles
        self.head[terms.ROWS], self.head[terms.STEPS], self.head[terms.BATCH] = rows, num_steps, batch
        self.head[terms.REVERSE], self.head[terms.BACKWARDS] = int(reverse), int(backwards)
        self.head[terms.SLOTS], self.head[terms.ACTIVE], self.head[terms.AHEAD] = num_slots, -1, -1
        self.places: list[int] = []
        self.code: dict[str, list[int]] = {"PREPARE": [], "START": [], "STEP": [], "END": [], "SPLIT": [], "HOLD": []}
        self.into = "STEP"  # where instructions go
        self.names: list[tuple[int, str]] = []  # words of places with the address of memory, and which
        self.buffers: list[tuple[str, tuple[int, ...]]] = []
        self.sums: dict[str, tuple[int, int]] = {}
        self.tile_bytes = 8 * MAX_PLACES  # addresses of places; the rest is tiles
        self.shared: list[int] = []  # words of places in scratch that all tiles share, behind theirs
        self.shared_bytes = 0

    def place(self, kind: int, base: int, slot: int, row: int, name: str | None = None) -> int:
        if name is not None:
            self.names.append((len(self.places) + 1, name))
        self.places += (kind, base, slot, row)
        return len(self.places) // terms.PLACE - 1

    def new(self, name: str, *shape: int) -> str:
        """Name memory that a call makes, without values."""
        self.buffers.append((name, shape))
        return name

    def over_time(
        self,
        name: str,
        columns: int,
        blocks: int = 1,
        kind: int = AT_STEP,
        steps: tuple[int, int] | None = None,
        fixed: bool = False,
        offset: int = 0,
    ) -> At:
        """Return a value in memory (T, G, B, H), for one block (T, B, H).

        Args:
            name: of the memory.
            columns, blocks: H and G.
            kind: which slot of it belongs to a step.
            steps: strides of steps and of rows in elements; None if all is contiguous.
            fixed: all steps have the memory of one.
            offset: of the first column in elements.
        """
        slot, row = (self.batch * blocks * columns, columns) if steps is None else steps
        place = self.place(kind, FLOAT * offset, 0 if fixed else FLOAT * slot, FLOAT * row, name)
        return At(place, blocks, columns, FLOAT * row, FLOAT * self.batch * columns)

    def packed_over_time(self, name: str, columns: int, offset: int = 0) -> At:
        """Return a value in memory (R, H) of the R rows that are gone over, one after the other, as memory `ahead`
        says; `offset` as above."""
        if self.head[terms.AHEAD] < 0:
            self.head[terms.AHEAD] = self.place(AT_ALL, 0, 0, 0, "ahead")
        row = FLOAT * columns
        return At(self.place(AT_PACKED, FLOAT * offset, 0, row, name), 1, columns, row, row)

    def at_rows(self, name: str, columns: int) -> At:
        """Return a value in memory (B, W), the same at all steps."""
        row = FLOAT * columns
        return At(self.place(AT_ALL, 0, 0, row, name), 1, columns, row, row)

    def vector(self, name: str, offset: int = 0) -> tuple[int, int]:
        """Return memory that is the same for all rows as an operand."""
        return self.place(AT_ALL, FLOAT * offset, 0, 0, name), 0

    def flags(self, name: str) -> tuple[int, int]:
        """Return flags (T, B) of bytes as an operand."""
        return self.place(AT_STEP, 0, self.batch, 1, name), 0

    def numbers(self) -> tuple[int, int]:
        """Return the numbers of rows in memory whose order is not that of the tiles as an operand."""
        return self.place(AT_ALL, 0, 0, 8, "order"), 0

    def ragged(self) -> tuple[int, int]:
        """Let steps go over rows inside their length only, as memory `active` says; return the mask as an operand."""
        self.head[terms.ACTIVE] = self.place(AT_ALL, 0, 0, 0, "active")
        return self.flags("mask")

    def tile(self, blocks: int, columns: int, kind: int = AT_TILE) -> At:
        """Return room for a value in the tile's scratch; by parity, for two of it."""
        base, size = self.tile_bytes, _lines(self.rows * columns)
        self.tile_bytes += size * blocks * (1 if kind == AT_TILE else 2)
        return At(self.place(kind, base, size * blocks, 0), blocks, columns, columns * FLOAT, size)

    def sum(self, name: str, elements: int) -> tuple[int, int]:
        """Return room for sums of a tile's own, zeros before its first step, as an operand."""
        base = self.tile_bytes
        self.tile_bytes += _lines(elements)
        self.sums[name] = base // FLOAT, elements
        operand = self.place(AT_TILE, base, 0, 0), 0
        self.emit("rows.zero", *operand, elements, into="START")
        return operand

    def share(self, elements: int) -> tuple[int, int]:
        """Return room in scratch that all tiles share, as an operand."""
        place = self.place(AT_ALL, self.shared_bytes, 0, 0, "")
        self.shared.append(terms.PLACE * place + 1)
        self.shared_bytes += _lines(elements)
        return place, 0

    def emit(self, function: str | int, *words: int, into: str | None = None) -> None:
        """Add an instruction: the name of a function of this package, as `address_of` takes it, or an address."""
        address = function if isinstance(function, int) else address_of(function)
        self.code[into or self.into] += (address, len(words) + 2, *words)

    def packed(self, weight: str, steps: tuple[int, int], depth: int, blocks: int, columns: int, offset: int) -> Any:
        """Return weights as `multiply` takes them, as an operand.

        Args:
            weight: by name.
            steps: its strides from column to column of a block, and from k to k.
            depth, blocks, columns: K, G and H.
            offset: of the first element.
        """
        out = self.share(packed_size(depth, blocks, columns))
        self.emit("products.pack", *self.vector(weight, offset), *out, *steps, depth, blocks, columns, into="PREPARE")
        return out

    def starting(self, biases: Sequence[str], blocks: int, columns: int) -> tuple[int, int]:
        """Return the sum of biases (G*H,), zeros without any, as blocks of whole vectors, as an operand."""
        wide = -(-columns // LANES) * LANES
        out = self.share(blocks * wide)
        self.emit("rows.zero", *out, blocks * wide, into="PREPARE")
        for bias in biases:
            self.emit("products.pad", *self.vector(bias), *out, blocks, columns, wide, into="PREPARE")
        return out

    def product(self, source: At, packed: tuple[int, int], depth: int, out: At, start: tuple[int, int] | None) -> None:
        """Multiply rows; `start` is added, what stands in `out` if that is None."""
        operands = (*source.operand, *out.operand, *packed, *(start or NOTHING))
        self.emit("products.multiply", *operands, source.row, depth, out.blocks, out.columns, out.row, out.block)

    def gather(self, source: At, out: At, added: tuple[int, int] = NOTHING, into: str | None = None) -> None:
        """Write rows (R, G*H) into blocks, `added` (G*H,) to each row."""
        operands = (*source.operand, *out.operand, *added)
        self.emit("rows.gather", *operands, source.row, out.blocks, out.columns, out.block, into=into)

    def spread(self, name: str, columns: int) -> At:
        """Return a weight (H,) as rows."""
        value = self.tile(1, columns)
        self.gather(At(self.vector(name)[0], 1, columns, 0, 0), value, into="START")
        return value

    def scatter(self, source: At, out: At, sums: tuple[int, int] = NOTHING) -> None:
        """Write blocks into rows (R, G*H), and add all rows to `sums` (G*H,)."""
        operands = (*source.operand, *out.operand, *sums)
        self.emit("rows.scatter", *operands, source.block, source.blocks, source.columns, out.row)

    def copy(self, source: At, out: At, into: str | None = None) -> None:
        """Copy a value of one block whose rows follow each other."""
        self.emit("rows.copy", *source.operand, *out.operand, out.columns, into=into)

    def zero(self, out: At, into: str | None = None) -> None:
        self.emit("rows.zero", *out.operand, self.rows * out.columns, into=into)

    def add(self, source: At, out: At) -> None:
        self.emit("rows.add", *source.operand, *out.operand, out.columns)

    def scale(self, first: At, second: At, out: At) -> None:
        self.emit("rows.scale", *first.operand, *second.operand, *out.operand, out.columns)

    def choose(
        self, flags: tuple[int, int], first: At | None, second: At | None, out: At, into: str | None = None
    ) -> None:
        """Take rows of `first` where the flag is set, of `second` where it is not; None stands for zeros."""
        sources = [NOTHING if value is None else value.operand for value in (first, second)]
        self.emit("rows.choose", *flags, *sources[0], *sources[1], *out.operand, out.columns, out.row, into=into)

    def done(self) -> Recipe:
        words = [*self.head, *self.places]
        for name, code in self.code.items():
            words[getattr(terms, name)], words[getattr(terms, f"{name}_LENGTH")] = len(words), len(code)
            words += code
        words[terms.PLACES], words[terms.FIRST_PLACE] = len(self.places) // terms.PLACE, HEAD
        if words[terms.PLACES] > MAX_PLACES:
            raise RuntimeError(f"a step of this cell has more than {MAX_PLACES} values")
        words[terms.TILE_BYTES] = self.tile_bytes
        all_tiles = max(self.num_tiles, 1) * self.tile_bytes  # without rows, too, there is what comes before all tiles
        for k in self.shared:
            words[HEAD + k] += all_tiles
        positions = [terms.SCRATCH, *(HEAD + k for k, _ in self.names)]
        return Recipe(
            np.array(words, np.int64),
            np.array(positions),
            ("", *(name for _, name in self.names)),
            tuple(self.buffers),
            (all_tiles + self.shared_bytes) // FLOAT,
            self.num_tiles,
            self.sums,
            self.tile_bytes // FLOAT,
        )


def _lines(elements: int) -> int:
    """Return the bytes of so many elements in whole lines of cache."""
    return -(-elements // (LINE // FLOAT)) * LINE


def bits(value: float) -> int:
    """Return the bits of a float32."""
    return struct.unpack("<i", struct.pack("<f", value))[0]
