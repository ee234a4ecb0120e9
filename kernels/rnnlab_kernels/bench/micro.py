"""What the design of the sequence schedule rests on, measured: barrier, exchange through L2, gaps between launches.

| name | question |
| --- | --- |
| barrier | microseconds for all programs to wait for each other, nothing else |
| exchange | the same, each program writing its part of 64 KiB before and reading all of it after: the floor of a step |
| stale | the same with what was read compared with what was written: wrong values, which must be 0 |
| broadcast | terabytes a second that all programs together read of one buffer, past L1 |
| launch | microseconds of an empty kernel in a CUDA graph, one and two of them a step |
| capture | whether a cooperative launch can be captured in a CUDA graph |
| products | TFLOP/s of a large product of torch's, by dtype: the peak that can be reached |
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

from rnnlab_kernels.bench.arms import check_device, failure
from rnnlab_kernels.bench.clock import milliseconds
from rnnlab_kernels.bench.work import BF16, FP16, FP32
from rnnlab_kernels.schedules.persistent.device import wait_for_all

WORDS = 16_384  # of the exchanged buffer: 64 KiB, h of 32 rows and 1,024 units in half precision
STEPS = 20_000


@triton.jit(do_not_specialize=["num_steps"])
def _exchange_kernel(
    buffer_ptr,
    barrier_ptr,
    wrong_ptr,
    num_steps,
    PART: tl.constexpr,
    BLOCK: tl.constexpr,
    EXCHANGE: tl.constexpr,
    CHECK: tl.constexpr,
):
    """Write an own part and read all parts of one of two buffers at each step, a barrier between the two.

    All parts are read at once, as a step of a recurrence reads h: one after the other, each would wait for L2.
    """
    programs = tl.num_programs(0)
    i = tl.arange(0, PART)
    i_all = tl.arange(0, BLOCK)
    m_all = i_all < programs * PART
    wrong = tl.zeros((BLOCK,), tl.int32)
    for step in range(0, num_steps):
        own_ptr = buffer_ptr + (step % 2) * programs * PART
        if EXCHANGE:
            tl.store(own_ptr + tl.program_id(0) * PART + i, i * 0 + step * programs + tl.program_id(0))
        wait_for_all(barrier_ptr, (step + 1) * programs, programs > 0)
        if EXCHANGE:
            value = tl.load(own_ptr + i_all, mask=m_all, other=0, cache_modifier=".cg")
            if CHECK:
                wrong += (m_all & (value != step * programs + i_all // PART)).to(tl.int32)
            else:
                wrong += value
    tl.store(wrong_ptr + tl.program_id(0) * BLOCK + i_all, wrong)


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
    """Run `num_steps` steps of "barrier", "exchange" or "stale"; return each program's sums or counts (P, WORDS)."""
    part = max(16, 1 << (WORDS // programs).bit_length() - 1)  # a power of two, however many programs there are
    buffer = torch.zeros(2 * programs * part, dtype=torch.int32, device=device)
    wrong = torch.zeros(programs, WORDS, dtype=torch.int32, device=device)
    _exchange_kernel[(programs,)](
        buffer_ptr=buffer,
        barrier_ptr=torch.zeros(1, dtype=torch.int32, device=device),
        wrong_ptr=wrong,
        num_steps=num_steps,
        PART=part,
        BLOCK=WORDS,
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


def _step_us(call: Callable[[], object]) -> float:
    return 1e3 * _milliseconds(call) / STEPS


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
    except Exception as error:
        check_device("capture", error)
        return failure(error)
    return "works"


def _broadcast(chip: int, kib: int) -> float:
    words = kib * 256
    block, reads = min(words, 8192), 200_000 // kib  # as many words in flight as registers hold
    buffer, out = torch.randn(2 * words, device="cuda"), torch.empty(chip * block, device="cuda")

    def broadcast() -> None:
        _broadcast_kernel[(chip,)](buffer, out, reads, SIZE=words, BLOCK=block, num_warps=8)

    return 4e-9 * words * reads * chip / _milliseconds(broadcast)


def _product(dtype: torch.dtype, tf32: bool) -> float:
    size, before = 8192, torch.backends.cuda.matmul.allow_tf32
    a, b = torch.randn(2, size, size, device="cuda", dtype=dtype).unbind(0)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        return 2e-9 * size**3 / _milliseconds(lambda: a @ b)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def measure() -> dict[str, Any]:
    """Return all of the table above, for several numbers of programs; under "failed" what could not be measured."""
    properties = torch.cuda.get_device_properties(0)
    chip = properties.multi_processor_count
    found: dict[str, Any] = {
        "multiprocessors": chip,
        "shared memory": properties.shared_memory_per_block_optin,  # type: ignore[attr-defined]
        "failed": {},
    }

    def add(table: str, key: str, value: Callable[[], Any]) -> None:
        try:
            measured = value()
            torch.cuda.synchronize()
        except Exception as error:  # one number less
            found["failed"][f"{table}, {key}"] = failure(error)
            check_device(table, error)
            return
        found.setdefault(table, {})[key] = measured

    for count in (8, 16, 32, 64, 128):
        for mode in ("barrier", "exchange") if count <= chip else ():
            call = partial(exchange, count, STEPS, "cuda", mode)
            add(f"{mode} us", str(count), partial(_step_us, call))
    add("stale values", "in a million steps", lambda: int(exchange(chip, 1_000_000, "cuda", "stale").sum()))
    for kib in (16, 64, 256, 512):
        add("broadcast TB/s", f"{kib} KiB", partial(_broadcast, chip, kib))
    for kernels in (1, 2):
        add("launch us", f"{kernels} kernels a step", partial(_graph_gap, kernels))
    for name, dtype, tf32 in (
        ("fp16", FP16, False),
        ("bf16", BF16, False),
        ("fp32", FP32, False),
        ("tf32", FP32, True),
    ):
        add("product TFLOP/s", name, partial(_product, dtype, tf32))
    add("capture", "of a cooperative launch", _capture)
    return found
