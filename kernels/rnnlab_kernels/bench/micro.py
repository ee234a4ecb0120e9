"""What the design of the sequence schedule rests on, measured: barrier, exchange through L2, gaps between launches.

| name | question |
| --- | --- |
| barrier | microseconds for all programs to wait for each other, nothing else |
| exchange | the same, each program writing its part of 64 KiB before and reading all of it after: the floor of a step |
| stale | the same with what was read compared with what was written: wrong values, which must be 0 |
| broadcast | terabytes a second that all programs together read of one buffer, past L1 |
| launch | microseconds of an empty kernel in a CUDA graph, one and two of them a step |
| capture | whether a cooperative launch can be captured in a CUDA graph |
"""

# mypy: disable-error-code="assignment"
# The checker does not know that a Triton kernel unrolls static loops.

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlab_kernels.bench.clock import milliseconds
from rnnlab_kernels.schedules.sequence_device import wait_for_all

WORDS = 16_384  # of the exchanged buffer: 64 KiB, h of 32 rows and 1,024 units in half precision
STEPS = 20_000


@triton.jit(do_not_specialize=["num_steps"])
def _exchange_kernel(
    buffer_ptr, barrier_ptr, wrong_ptr, num_steps, PART: tl.constexpr, EXCHANGE: tl.constexpr, CHECK: tl.constexpr
):
    """Write an own part and read all parts of one of two buffers at each step, a barrier between the two."""
    programs = tl.num_programs(0)
    i = tl.arange(0, PART)
    wrong = tl.zeros((PART,), tl.int32)
    for step in range(0, num_steps):
        own_ptr = buffer_ptr + (step % 2) * programs * PART
        if EXCHANGE:
            tl.store(own_ptr + tl.program_id(0) * PART + i, i * 0 + step * programs + tl.program_id(0))
        wait_for_all(barrier_ptr, (step + 1) * programs, programs > 0)
        if EXCHANGE:
            for other in range(0, programs):
                value = tl.load(own_ptr + other * PART + i, cache_modifier=".cg")
                if CHECK:
                    wrong += (value != step * programs + other).to(tl.int32)
                else:
                    wrong += value
    tl.store(wrong_ptr + tl.program_id(0) * PART + i, wrong)


@triton.jit(do_not_specialize=["num_reads"])
def _broadcast_kernel(buffer_ptr, out_ptr, num_reads, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Read a buffer of SIZE words `num_reads` times; it stands twice, so that no read is that of the step before."""
    total = tl.zeros((BLOCK,), tl.float32)
    for read in range(0, num_reads):
        start_ptr = buffer_ptr + (read % 2) * SIZE
        for block in range(0, SIZE // BLOCK):
            total += tl.load(start_ptr + block * BLOCK + tl.arange(0, BLOCK), cache_modifier=".cg")
    tl.store(out_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), total)


@triton.jit
def _empty_kernel(out_ptr):
    tl.store(out_ptr, 1.0)


def exchange(programs: int, num_steps: int, device: str, mode: str, cooperative: bool = True) -> Tensor:
    """Run `num_steps` steps of "barrier", "exchange" or "stale" and return each program's sums or counts (P, PART)."""
    part = max(16, WORDS // programs)
    buffer = torch.zeros(2 * programs * part, dtype=torch.int32, device=device)
    wrong = torch.zeros(programs, part, dtype=torch.int32, device=device)
    _exchange_kernel[(programs,)](
        buffer_ptr=buffer,
        barrier_ptr=torch.zeros(1, dtype=torch.int32, device=device),
        wrong_ptr=wrong,
        num_steps=num_steps,
        PART=part,
        EXCHANGE=mode != "barrier",
        CHECK=mode == "stale",
        num_warps=8,
        **({"launch_cooperative_grid": True} if cooperative else {}),
    )
    return wrong


def _milliseconds(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call that is not the first."""
    call()
    return milliseconds(call, cuda=True, repeats=3)


def _graph_gap(kernels: int) -> float:
    out, nodes = torch.zeros(1, device="cuda"), 1000 * kernels
    _empty_kernel[(1,)](out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(nodes):
            _empty_kernel[(1,)](out)
    return 1e3 * _milliseconds(graph.replay) / 1000


def _capture() -> str:
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            exchange(8, 10, "cuda", "exchange")
        graph.replay()
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "works"


def measure() -> dict[str, Any]:
    """Return all of the table above, for several numbers of programs."""
    chip = torch.cuda.get_device_properties(0).multi_processor_count
    counts = [count for count in (8, 16, 32, 64, 128) if count <= chip]
    found: dict[str, Any] = {"barrier us": {}, "exchange us": {}, "broadcast TB/s": {}}
    for count in counts:
        for mode in ("barrier", "exchange"):
            time = _milliseconds(partial(exchange, count, STEPS, "cuda", mode))
            found[f"{mode} us"][count] = 1e3 * time / STEPS
    found["stale values in a million steps"] = int(exchange(chip, 1_000_000, "cuda", "stale").sum())
    for kib in (16, 64, 256, 512):
        words = kib * 256
        buffer, out = torch.randn(2 * words, device="cuda"), torch.empty(chip * 1024, device="cuda")
        reads = 200_000 // kib

        def broadcast(buffer: Tensor = buffer, out: Tensor = out, reads: int = reads, words: int = words) -> None:
            _broadcast_kernel[(chip,)](buffer, out, reads, SIZE=words, BLOCK=1024, num_warps=8)

        found["broadcast TB/s"][f"{kib} KiB"] = 4e-9 * words * reads * chip / _milliseconds(broadcast)
    found["launch us, 1 and 2 kernels a step"] = [_graph_gap(1), _graph_gap(2)]
    found["capture of a cooperative launch"] = _capture()
    return found
