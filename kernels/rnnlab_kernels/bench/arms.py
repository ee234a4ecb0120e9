"""Who is timed: each arm makes, from the tensors of a work, a function that returns the output (T, B, D*H).

An arm that cannot run a work says why by raising `Unavailable`; that is a line in the results, not an error. Arms of
other packages are in peers.py.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels import launch
from rnnlab_kernels.bench import peers
from rnnlab_kernels.bench.peers import Run, Unavailable
from rnnlab_kernels.bench.work import MIDDLE, MODULES, Given, Work, cell_of
from rnnlab_kernels.plan import sequence_both_ways, tiles_of
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.kit_torch import eager

COMPILED_STEPS = 64  # torch.compile unrolls the loop; beyond, compiling takes minutes


class DeviceLost(Exception):
    """The GPU answers no more: after a fault in a kernel, nothing that this process starts on it runs."""


def build(name: str, work: Work, given: Given) -> tuple[Run, float]:
    """Return an arm's function after one call of it, and how many milliseconds making it and that call took.

    Raises:
        Unavailable: the arm does not take this work, or fails in doing it, which must not cost the other arms theirs.
        DeviceLost: it failed so that no other arm can run either.
    """
    start = time.perf_counter()
    try:
        run = scored(ARMS[name](work, given), given)
        torch.autograd.grad(run(), given.leaves(), given.upstream, allow_unused=True)
        if given.x.is_cuda:
            torch.cuda.synchronize()
    except Unavailable:
        raise
    except Exception as error:  # of Triton's and the compiler's own kinds, too
        reason = failure(error)  # before it is asked whether the device is still there
        if given.x.is_cuda:
            check_device(name, error)
        raise Unavailable(reason) from error
    return run, 1e3 * (time.perf_counter() - start)


def failure(error: Exception) -> str:
    """Return an exception in a line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def check_device(name: str, error: Exception) -> None:
    """Raise DeviceLost if after an error of an arm the GPU runs nothing more; give back the memory it had taken."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError as lost:
        raise DeviceLost(f"{name} took the GPU with it: {failure(error)}") from lost


def scored(run: Run, given: Given) -> Run:
    """Return the loss of a model of characters, where there is one, in the place of the output."""
    head = given.head
    return run if head is None else lambda: head.loss(run())


def network(schedule: Callable[..., Any], work: Work, given: Given, together: bool = False) -> Run:
    """Return the layers and directions of a work on a schedule: one call each, or both directions `together`."""
    cell, additions, directions = cell_of(work), given.additions, 2 if work.bidirectional else 1

    def run() -> Tensor:
        x = given.inputs()
        for layer in range(work.layers):
            first = layer * directions
            weights, states = given.weights[first : first + directions], given.states[first : first + directions]
            if directions == 2 and together:
                sides = sequence_both_ways(cell, x, states, weights, given.mask, (additions, additions))
                outputs = [output for output, _ in sides]
            else:
                outputs = [
                    schedule(cell, x, states[k], weights[k], given.mask, reverse=k == 1, additions=additions)[0]
                    for k in range(directions)
                ]
            x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
        return x

    return run


def _torch(work: Work, given: Given, cudnn: bool = True) -> Run:
    if work.cell not in MODULES or work.feature or work.heads > 1:
        raise Unavailable("torch.nn has no such layer")
    if work.recurrence:
        raise Unavailable("torch.nn makes the input product, which is left out of this row")
    if not cudnn and not given.x.is_cuda:
        raise Unavailable("no cuDNN on a CPU")
    module = getattr(torch.nn, MODULES[work.cell][0])(
        work.I, work.H, work.layers, bidirectional=work.bidirectional, device=given.x.device, dtype=given.x.dtype
    )
    with torch.no_grad():
        names = ("ih", "hh", "bias_ih", "bias_hh")
        for mine, own in zip(module.all_weights, given.weights, strict=True):
            for parameter, name in zip(mine, names, strict=True):
                parameter.copy_(own[name])
    module.flatten_parameters()
    # The caller takes gradients of the leaves: these are now the module's parameters.
    for mine, own in zip(module.all_weights, given.weights, strict=True):
        own.update(zip(names, mine, strict=True))

    def run() -> Tensor:
        with torch.backends.cudnn.flags(enabled=cudnn, allow_tf32=work.tf32):
            if given.lengths is None:
                return module(given.inputs())[0]
            packed = torch.nn.utils.rnn.pack_padded_sequence(given.inputs(), given.lengths, enforce_sorted=False)
            return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], total_length=work.T)[0]

    return run


def _native(work: Work, given: Given) -> Run:
    return _torch(work, given, cudnn=False)


def _loop(work: Work, given: Given) -> Run:
    return network(reference, work, given)


def _compiled(work: Work, given: Given) -> Run:
    if work.T > COMPILED_STEPS or not given.x.is_cuda:
        raise Unavailable(f"the compiled loop is unrolled: for up to {COMPILED_STEPS} steps, on a GPU")
    torch._dynamo.reset()  # what it keeps of other sizes would make it compile for all sizes, or give up
    return torch.compile(network(reference, work, given), fullgraph=True)


def _eager(work: Work, given: Given) -> Run:
    return network(eager, work, given)


def _fused(work: Work, given: Given) -> Run:
    possible, reason = launch.fused_supported(given.x.device, given.x.dtype)
    if not possible:
        raise Unavailable(reason)
    from rnnlab_kernels.schedules.compiled.api import fused

    return network(fused, work, given)


def _pointwise(work: Work, given: Given) -> Run:
    _needs_triton(given)
    from rnnlab_kernels.schedules.stepwise.kit_triton import pointwise

    return network(pointwise, work, given)


def _sequence(work: Work, given: Given) -> Run:
    _needs_plan(work, given, "sequence")
    from rnnlab_kernels.schedules.persistent.api import sequence

    return network(sequence, work, given, together=True)


def _step(work: Work, given: Given) -> Run:
    _needs_plan(work, given, "step")
    from rnnlab_kernels.schedules.persistent.api import step

    return network(step, work, given)


def _needs_plan(work: Work, given: Given, schedule: str) -> None:
    _needs_triton(given)
    sizes = work.B, work.H, given.x.dtype, launch.chip_of(given.x.dtype, given.x.device)
    tiles, reason = tiles_of(schedule, cell_of(work), *sizes, heads=work.heads, additions=given.additions)
    if tiles is None:
        raise Unavailable(reason)


def _needs_triton(given: Given) -> None:
    possible, reason = launch.supported(given.x.device, given.x.dtype)
    if not possible:
        raise Unavailable(reason)


def graphed(make: Callable[[Work, Given], Run]) -> Callable[[Work, Given], Run]:
    """Return an arm whose forward and backward are captured as CUDA graphs: no launch is paid for one by one."""

    def arm(work: Work, given: Given) -> Run:
        if not given.x.is_cuda:
            raise Unavailable("CUDA graphs need a GPU")
        run = make(work, given)
        leaves = tuple(given.leaves())
        # The weights of a model's head are leaves that the layers do not use.
        captured: Any = torch.cuda.make_graphed_callables(lambda *_: run(), leaves, allow_unused_input=True)

        def replay() -> Tensor:
            return captured(*leaves)

        return replay

    return arm


GRAPHED = ("loop, graph", "pointwise, graph", "step, graph")
# Held to the bits of a second run; the verdict takes the fastest of them.
OURS = ("eager", "fused", "pointwise", "pointwise, graph", "step", "step, graph", "sequence")
# Bound by the host, which starts each operator: a time a step that hardly depends on sizes. Seconds for a row.
HOST_BOUND = ("torch.nn, no cuDNN", "loop", "loop, graph", "eager")
# Compiled for each size they are given: they are checked at the size they are timed at only.
COMPILED = ("loop, compiled", *peers.PEERS)
ARMS: dict[str, Callable[[Work, Given], Run]] = {
    "torch.nn": _torch,
    "sequence": _sequence,
    "step": _step,
    "step, graph": graphed(_step),
    "pointwise": _pointwise,
    "pointwise, graph": graphed(_pointwise),
    "fused": _fused,
    "eager": _eager,
    "loop": _loop,
    "loop, graph": graphed(_loop),
    "torch.nn, no cuDNN": _native,
    "loop, compiled": _compiled,
    **peers.PEERS,
}


def untimed(name: str, work: Work, cuda: bool) -> str:
    """Return why a sound arm is not worth the time of a GPU in this row, "" if it is.

    A feature is compared with the loop; for the rest one row of each cell says how long the host takes.
    """
    if not cuda or name not in HOST_BOUND:
        return ""
    plain = work.layers == 1 and not (work.bidirectional or work.ragged or work.training)
    if plain and work.dtype == "fp16" and (work.B, work.T, work.H) == MIDDLE:
        return ""
    return "bound by the host at each step, whatever the size: it is timed in fp16 at {}x{}x{}".format(*MIDDLE)
