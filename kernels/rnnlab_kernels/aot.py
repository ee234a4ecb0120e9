"""Compile every kernel variant for GPUs that are not there: `python -m rnnlab_kernels.aot`.

Prints registers, spills and shared memory of each variant for each compute capability, and fails (exit status 1) when a
variant spills, exceeds the chip's shared memory or register file, or does not compile. Needs Triton, no GPU.
"""

import argparse
import itertools
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rnnlab_kernels.cells import CELLS, PARTS, Cell, bind_triton
from rnnlab_kernels.cells.indrnn import INDRNN_IDENTITY, INDRNN_RELU, INDRNN_TANH
from rnnlab_kernels.launch import DTYPES, Block, pointwise_block
from rnnlab_kernels.schedules.recurrence import working_dtype

SHARED_MEMORY = {80: 166_912, 90: 232_448}  # bytes one program may use: 163 and 227 KiB
REGISTER_FILE = 65_536  # 32-bit registers of one multiprocessor
TYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
SCAN_TYPES = {**TYPE_NAMES, torch.complex64: "fp32"}  # as the kernels see them: complex values are pairs of fp32
ROW_WIDTHS = {"aligned": 128, "odd": 63}  # hidden sizes, which select block shape and divisibility


class Variant(NamedTuple):
    """One compilation: a kernel, its argument types (nested tuples for tuples of pointers), constants and options."""

    name: str
    kernel: Any
    types: dict[str, Any]
    constants: dict[str, Any]
    divisible: bool
    options: dict[str, Any]


class Report(NamedTuple):
    """What the compiler made of a variant."""

    name: str
    capability: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    num_warps: int

    @property
    def faults(self) -> list[str]:
        found = []
        if self.spill_bytes:
            found.append(f"spills {self.spill_bytes} bytes")
        if self.shared_bytes > SHARED_MEMORY[self.capability]:
            found.append(f"shared memory beyond {SHARED_MEMORY[self.capability]} bytes")
        if self.registers * 32 * self.num_warps > REGISTER_FILE:
            found.append("register file exceeded")
        return found


def variants() -> Iterator[Variant]:
    """Yield those of the pointwise schedule: cells x directions x dtypes x alignment.

    Gate updates that are part of a longer step, or have a dropped candidate, differ from those in their maths alone:
    for them the two ends do, fp32 with odd rows and bf16 with aligned ones.
    """
    ends = ((torch.float32, "odd"), (torch.bfloat16, "aligned"))
    for cell in PARTS.values():
        every = [(dtype, alignment) for dtype in DTYPES for alignment in ROW_WIDTHS]
        for dtype, alignment in every if cell.name in CELLS else ends:
            yield _pointwise_fwd(cell, dtype, alignment, ROW_WIDTHS[alignment])
            yield _pointwise_bwd(cell, dtype, alignment, ROW_WIDTHS[alignment])


def sequence_variants() -> Iterator[Variant]:
    """Yield those of the schedules that run all of time in one launch, with all gradients wanted.

    Scans: directions x dtypes x (many aligned units, few odd ones), which select the two ends of the tile's shapes,
    along time and in reverse. Element-wise cells, along time and with a mask: cells x directions x dtypes x alignment.
    """
    for dtype in SCAN_TYPES:
        for alignment, width in (("aligned", 1 << 15), ("odd", 63)):
            for reverse in (False, True):
                yield from _scan(dtype, alignment, width, reverse)
    for cell in (INDRNN_TANH, INDRNN_RELU, INDRNN_IDENTITY):
        for dtype in DTYPES:
            for alignment, hidden in ROW_WIDTHS.items():
                yield from _elementwise(cell, dtype, alignment, hidden)


def _split_block(hidden: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return _split(pointwise_block(64, hidden))


def _split(block: Block) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the constants of a kernel and the options of the compiler."""
    constants = {name: value for name, value in block.options.items() if name.startswith("BLOCK_")}
    return constants, {name: value for name, value in block.options.items() if name not in constants}


def _pointers(cell: Cell, dtype: torch.dtype) -> dict[str, tuple[str, ...]]:
    """Return the pointer types of the states as given to the gate maths: h in the storage dtype, others wider."""
    storage, work = f"*{TYPE_NAMES[dtype]}", f"*{TYPE_NAMES[working_dtype(dtype)]}"
    by_state = {state: storage if state == "h" else work for state in cell.states}
    return {
        "state": tuple(by_state.values()),
        # What is carried beside states, such as peepholes, is in the working dtype.
        "carried": tuple(by_state.get(state, work) for state in cell.carried),
        "dstate": tuple("*fp32" for _ in cell.states),
        "dcarried": tuple("*fp32" for _ in cell.carried),
    }


def _pointwise_fwd(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Variant:
    from rnnlab_kernels.schedules.pointwise import _pointwise_fwd_kernel

    storage, pointers = f"*{TYPE_NAMES[dtype]}", _pointers(cell, dtype)
    types = {
        "gates_x_ptr": storage,
        "gates_h_ptr": storage,
        "carried_ptrs": pointers["carried"],
        "state_ptrs": pointers["state"],
        "saved_ptr": storage,
        **dict.fromkeys(("B", "H", "stride_gates_b", "stride_gates_h_b", "stride_saved_s"), "i32"),
    }
    blocks, options = _split_block(hidden)
    constants = {"GATES_FWD": bind_triton(cell.gates_fwd), "HAS_BOTH": True, **_sizes(cell), **blocks}
    name = f"pointwise_fwd {cell.name} {TYPE_NAMES[dtype]} {alignment}"
    return Variant(name, _pointwise_fwd_kernel, types, constants, alignment == "aligned", options)


def _pointwise_bwd(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Variant:
    from rnnlab_kernels.schedules.pointwise import _pointwise_bwd_kernel

    storage, pointers = f"*{TYPE_NAMES[dtype]}", _pointers(cell, dtype)
    strides = [f"stride_{name}" for name in ("saved_s", "dx_b", "dh_b")]
    types = {
        "dstate_ptrs": pointers["dstate"],
        "saved_ptr": storage,
        "carried_ptrs": pointers["carried"],
        "state_ptrs": pointers["state"],
        "dx_ptr": storage,
        "dh_ptr": storage,
        "dcarried_ptrs": pointers["dcarried"],
        **dict.fromkeys(("B", "H", *strides), "i32"),
    }
    blocks, options = _split_block(hidden)
    constants = {"GATES_BWD": bind_triton(cell.gates_bwd), "HAS_DX": True, "HAS_DH": True, **_sizes(cell), **blocks}
    name = f"pointwise_bwd {cell.name} {TYPE_NAMES[dtype]} {alignment}"
    return Variant(name, _pointwise_bwd_kernel, types, constants, alignment == "aligned", options)


def _scan(dtype: torch.dtype, alignment: str, width: int, reverse: bool) -> Iterator[Variant]:
    from rnnlab_kernels.schedules import scan_triton

    blocks, options = _split(scan_triton.scan_block(1, width, dtype.is_complex))
    integers = dict.fromkeys(("T", "N", "stride_t", "stride_r", "stride_a_t", "stride_a_r"), "i32")
    shared = {"REVERSE": reverse, "COMPLEX": dtype.is_complex, **blocks}
    for direction, kernel, pointers, constants in (
        ("fwd", scan_triton._scan_fwd_kernel, "a b h_0 h", shared),
        ("bwd", scan_triton._scan_bwd_kernel, "a h_0 h g da dh dh_0", {**shared, "NEED_A": True}),
    ):
        types = {**dict.fromkeys((f"{name}_ptr" for name in pointers.split()), f"*{SCAN_TYPES[dtype]}"), **integers}
        name = f"scan_{direction} {TYPE_NAMES.get(dtype, 'complex64')} {alignment}"
        name += " reverse" if reverse else ""
        yield Variant(name, kernel, types, constants, alignment == "aligned", options)


def _elementwise(cell: Cell, dtype: torch.dtype, alignment: str, hidden: int) -> Iterator[Variant]:
    from rnnlab_kernels.schedules import elementwise_triton

    storage, work = f"*{TYPE_NAMES[dtype]}", f"*{TYPE_NAMES[working_dtype(dtype)]}"
    in_work = {"rest", "rest_0", "constants", "dstate", "dconstants"}
    blocks, options = _split(elementwise_triton.elementwise_block(64, hidden))
    shared = {**elementwise_triton.sizes(cell), "HAS_MASK": True, "REVERSE": False, **blocks}
    for direction, kernel, pointers, integers, maths in (
        (
            "fwd",
            elementwise_triton._elementwise_fwd_kernel,
            "gates h_0 rest_0 constants mask h rest saved",
            ("T", "B", "H", "stride_gates_t", "stride_gates_b", "stride_t", "stride_saved_t"),
            {"GATES_FWD": bind_triton(cell.gates_fwd)},
        ),
        (
            "bwd",
            elementwise_triton._elementwise_bwd_kernel,
            "doutput dstate saved h rest h_0 rest_0 constants mask dgates dconstants",
            ("T", "B", "H", "stride_t"),
            {"GATES_BWD": bind_triton(cell.gates_bwd)},
        ),
    ):
        types = {f"{name}_ptr": work if name in in_work else storage for name in pointers.split()}
        types |= {"mask_ptr": "*u8", **dict.fromkeys(integers, "i32")}
        name = f"elementwise_{direction} {cell.name} {TYPE_NAMES[dtype]} {alignment}"
        yield Variant(name, kernel, types, {**maths, **shared}, alignment == "aligned", options)


def _sizes(cell: Cell) -> dict[str, int]:
    return {"G": cell.num_gates, "NUM_MERGED": cell.num_merged, "S": len(cell.saved)}


def compile_variant(variant: Variant, capability: int) -> Report:
    """Compile one variant and read its resources off the machine code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    # The launcher marks pointers and integers divisible by 16 as such; without it every load is one element wide.
    divisible = [["tt.divisibility", 16]]
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for position, (name, kind) in enumerate(variant.types.items()):
        if isinstance(kind, tuple):
            attributes.update({(position, k): divisible for k in range(len(kind))})
        elif kind.startswith("*") or (variant.divisible and name not in ("B", "T")):
            attributes[(position,)] = divisible
    source = ASTSource(
        fn=variant.kernel,
        signature={**variant.types, **dict.fromkeys(variant.constants, "constexpr")},
        constexprs=variant.constants,
        attrs=attributes,
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=variant.options)
    registers, stack = _resources(compiled.asm["cubin"], Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump")
    return Report(variant.name, capability, registers, stack, compiled.metadata.shared, compiled.metadata.num_warps)


def _resources(cubin: bytes, cuobjdump: Path) -> tuple[int, int]:
    """Return registers per thread and bytes of stack: without calls, a stack is what the compiler spills to."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([cuobjdump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if found is None:
        raise RuntimeError(f"cuobjdump names no registers in: {text}")
    return int(found[1]), int(found[2])


@cache
def _all_variants() -> dict[str, Variant]:
    return {variant.name: variant for variant in itertools.chain(variants(), sequence_variants())}


def _compile(work: tuple[str, int]) -> Report:
    name, capability = work
    return compile_variant(_all_variants()[name], capability)


def main(arguments: list[str] | None = None) -> int:
    """Compile all variants, print the table, return 1 if one of them is at fault."""
    parser = argparse.ArgumentParser(prog="python -m rnnlab_kernels.aot", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="compile only variants whose name contains this text")
    chosen = parser.parse_args(arguments)
    rows = []
    print(f"{'variant':<40} {'sm':>4} {'registers':>9} {'spill B':>8} {'shared B':>9}")
    names = [name for name in _all_variants() if chosen.only in name]
    # Processes of their own, not forks: kernels hold on to what the compiler made of them.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(_compile, itertools.product(names, SHARED_MEMORY), chunksize=8):
            rows.append(row)
            faults = "  FAULT: " + ", ".join(row.faults) if row.faults else ""
            numbers = f"{row.capability:>4} {row.registers:>9} {row.spill_bytes:>8} {row.shared_bytes:>9}"
            print(f"{row.name:<40} {numbers}{faults}", flush=True)
    failed = [row for row in rows if row.faults]
    print(f"{len(rows) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
