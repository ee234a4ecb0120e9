"""Timing: all arms of a work take turns, round after round, so that a slow moment of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Container
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.bench.work import Given

WARM_UPS = 3
# A turn lasts about this long, several calls where one is shorter.
TURN_MS = 30.0


class Times(NamedTuple):
    """Milliseconds a call: median, 20th and 80th percentile over the rounds; and what it allocates at most."""

    median: float
    p20: float
    p80: float
    peak_mib: float | None


def passes(run: Callable[[], Tensor], given: Given) -> dict[str, Callable[[], object]]:
    """Return what is timed of an arm: the forward pass without a graph, and forward and backward together."""

    def forward() -> object:
        with torch.no_grad():
            return run()

    def both() -> object:
        return torch.autograd.grad(run(), given.leaves(), given.upstream, allow_unused=True)

    return {"forward": forward, "forward + backward": both}


def milliseconds(call: Callable[[], object], cuda: bool, repeats: int = 1) -> float:
    """Return the milliseconds of a call, by the device's own clock where there is one."""
    if not cuda:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return 1e3 * (time.perf_counter() - start) / repeats
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats


def measure(
    calls: dict[str, Callable[[], object]], rounds: int, cuda: bool, without_peak: Container[str] = ()
) -> dict[str, Times]:
    """Time the same pass of several arms. A CUDA graph has its memory from the start, so that it shows no peak."""
    repeats, peak = {}, {}
    for arm, call in calls.items():
        for _ in range(WARM_UPS):
            call()
        if cuda:
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        repeats[arm] = max(1, min(50, int(TURN_MS / max(milliseconds(call, cuda), 1e-3))))
        peak[arm] = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda and arm not in without_peak else None
    seen: dict[str, list[float]] = {arm: [] for arm in calls}
    for _ in range(rounds):
        for arm, call in calls.items():
            seen[arm].append(milliseconds(call, cuda, repeats[arm]))
    found = {}
    for arm, values in seen.items():
        low, high = (statistics.quantiles(values, n=5, method="inclusive")[k] for k in (0, 3))
        found[arm] = Times(statistics.median(values), low, high, peak[arm])
    return found


def kernel_names(call: Callable[[], object]) -> list[str]:
    """Return the names of the kernels that a call runs on the GPU, most time first: which algorithm ran."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.device_time_total)
    return [f"{row.key[:120]} x{row.count}" for row in rows[:6]]
