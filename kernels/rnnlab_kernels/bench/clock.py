"""Timing: all arms of a work take turns, round after round, so that a slow moment of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Container
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.bench.arms import check_device, failure
from rnnlab_kernels.bench.work import Given

WARM_UPS = 3
# A turn lasts about this long, several calls where one is shorter.
TURN_MS = 30.0
# What a pass of an arm may take for all its warm-ups, and for all its turns: slow ones have fewer, but two at least.
BUDGET_MS, MIN_TURNS = 1000.0, 2


class Times(NamedTuple):
    """Milliseconds a call: median, 20th and 80th percentile over the rounds; and what it allocates at most."""

    median: float
    p20: float
    p80: float
    peak_mib: float | None


def passes(run: Callable[[], Tensor], given: Given) -> dict[str, Callable[[], object]]:
    """Return what is timed of an arm: the forward pass without a graph, and forward and backward together.

    Of a model of characters also a whole training step. Weights are of the row's dtype, and so are Adam's states.
    """

    def forward() -> object:
        with torch.no_grad():
            return run()

    def both() -> object:
        return torch.autograd.grad(run(), given.leaves(), given.upstream, allow_unused=True)

    found: dict[str, Callable[[], object]] = {"forward": forward, "forward + backward": both}
    if given.head is not None:
        optimizer = torch.optim.Adam(given.leaves(), lr=1e-4, fused=given.x.is_cuda)

        def training() -> None:
            optimizer.zero_grad()
            run().backward(given.upstream)
            optimizer.step()

        found["training step"] = training
    return found


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
    calls: dict[str, Callable[[], object]],
    rounds: int,
    cuda: bool,
    without_peak: Container[str] = (),
    failed: dict[str, str] | None = None,
    note: Callable[[str], None] = lambda name: None,
) -> dict[str, Times]:
    """Time the same pass of several arms. A CUDA graph has its memory from the start, so that it shows no peak.

    Args:
        calls: one call of each arm.
        rounds: turns of each arm, fewer where they would take too long.
        cuda: whether it is a GPU's time.
        without_peak: arms whose memory is not asked for.
        failed: gets the arms that fail, out of memory for instance, with the reason; their numbers are missing.
        note: called with the name of each arm before it runs.
    """
    failed = {} if failed is None else failed
    turns, repeats, peak = {}, {}, {}
    for arm, call in calls.items():
        note(arm)
        try:
            length = max(milliseconds(call, cuda), 1e-3)
            for _ in range(min(WARM_UPS, int(BUDGET_MS / length))):
                call()
            if cuda:
                torch.cuda.synchronize()
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
            length = max(milliseconds(call, cuda), 1e-3)
        except Exception as error:
            failed[arm] = failure(error)
            if cuda:
                check_device(arm, error)
            continue
        peak[arm] = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda and arm not in without_peak else None
        repeats[arm] = max(1, min(50, int(TURN_MS / length)))
        turns[arm] = max(MIN_TURNS, min(rounds, int(BUDGET_MS / (repeats[arm] * length))))
    seen: dict[str, list[float]] = {arm: [] for arm in turns}
    for k in range(rounds):
        for arm in [arm for arm in turns if k < turns[arm]]:
            note(arm)
            try:
                seen[arm].append(milliseconds(calls[arm], cuda, repeats[arm]))
            except Exception as error:
                failed[arm], turns[arm] = failure(error), 0
                if cuda:
                    check_device(arm, error)
    found = {}
    for arm, values in seen.items():
        if arm not in failed:
            low, high = (statistics.quantiles(values, n=5, method="inclusive")[k] for k in (0, 3))
            found[arm] = Times(statistics.median(values), low, high, peak[arm])
    return found


def kernel_names(call: Callable[[], object]) -> list[str]:
    """Return the names of the kernels that a call runs on the GPU, most time first: which algorithm ran."""
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize()
        rows = sorted(profile.key_averages(), key=lambda row: -row.device_time_total)
    except Exception as error:  # a machine may forbid profiling, which is not worth a row
        check_device("the profiler", error)
        return [failure(error)]
    return [f"{row.key[:120]} x{row.count}" for row in rows[:6]]
