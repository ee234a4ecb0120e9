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

from rnnlab_kernels.launch import A100, H200
from rnnlab_kernels.variants import Variant, planned_variants, scan_variants, variants

SHARED_MEMORY = {80: A100[1], 90: H200[1]}  # bytes one program may use
VARYING = ("B", "T", "first_position", "num_positions")  # arguments that no kernel is specialised to
REGISTER_FILE = 65_536  # 32-bit registers of one multiprocessor


class Report(NamedTuple):
    """What the compiler made of a variant."""

    name: str
    capability: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    num_warps: int
    unexpected: tuple[str, ...] = ()  # instructions that are missing or too many

    @property
    def faults(self) -> list[str]:
        found = []
        if self.spill_bytes:
            found.append(f"spills {self.spill_bytes} bytes")
        if self.shared_bytes > SHARED_MEMORY[self.capability]:
            found.append(f"shared memory beyond {SHARED_MEMORY[self.capability]} bytes")
        if self.registers * 32 * self.num_warps > REGISTER_FILE:
            found.append("register file exceeded")
        return [*found, *self.unexpected]


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
        elif kind.startswith("*") or (variant.divisible and name not in VARYING):
            attributes[(position,)] = divisible
    source = ASTSource(
        fn=variant.kernel,
        signature={**variant.types, **dict.fromkeys(variant.constants, "constexpr")},
        constexprs=variant.constants,
        attrs=attributes,
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=variant.options)
    registers, stack = _resources(compiled.asm["cubin"], Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump")
    unexpected = tuple(_unexpected(variant, compiled.asm["ptx"]))
    metadata = compiled.metadata
    return Report(variant.name, capability, registers, stack, metadata.shared, metadata.num_warps, unexpected)


def _unexpected(variant: Variant, ptx: str) -> Iterator[str]:
    for instruction, number in variant.expected:
        found = len(re.findall(instruction, ptx))
        if not found if number is None else found != number:
            yield f"{instruction} {found} times" + ("" if number is None else f" and not {number}")


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
def _all_variants() -> dict[tuple[str, int], Variant]:
    every = itertools.chain(variants(), scan_variants(), planned_variants())
    return {(variant.name, capability): variant for variant in every for capability in variant.capabilities}


def _compile(work: tuple[str, int]) -> Report:
    return compile_variant(_all_variants()[work], work[1])


def main(arguments: list[str] | None = None) -> int:
    """Compile all variants, print the table, return 1 if one of them is at fault."""
    parser = argparse.ArgumentParser(prog="python -m rnnlab_kernels.aot", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="compile only variants whose name contains this text")
    chosen = parser.parse_args(arguments)
    rows = []
    print(f"{'variant':<40} {'sm':>4} {'registers':>9} {'spill B':>8} {'shared B':>9}")
    names = [work for work in _all_variants() if chosen.only in work[0]]
    # Processes of their own, not forks: kernels hold on to what the compiler made of them.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(_compile, names, chunksize=4):
            rows.append(row)
            faults = "  FAULT: " + ", ".join(row.faults) if row.faults else ""
            numbers = f"{row.capability:>4} {row.registers:>9} {row.spill_bytes:>8} {row.shared_bytes:>9}"
            print(f"{row.name:<40} {numbers}{faults}", flush=True)
    failed = [row for row in rows if row.faults]
    print(f"{len(rows) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
