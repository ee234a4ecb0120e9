"""The passes: programs made, run by torch's threads, and the large products around them."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.schedules.compiled import machine
from rnnlab_kernels.schedules.compiled.backward import Backward
from rnnlab_kernels.schedules.compiled.forward import Forward
from rnnlab_kernels.schedules.compiled.keep import address_of
from rnnlab_kernels.schedules.compiled.program import Program
from rnnlab_kernels.schedules.engines import Kept
from rnnlab_kernels.schedules.layout import zero_padding
from rnnlab_kernels.schedules.stepwise.frame import Frame

MAX_ROWS = 64


@cache
def _entry() -> tuple[int, Any]:
    address = address_of(machine.run)
    return address, ctypes.CFUNCTYPE(None, ctypes.c_int64)(address)


@cache
def _parallel() -> Any:
    """Return OpenMP's function that runs another in all threads, from the library that torch itself runs on; or None."""
    library = next(iter(sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))), None)
    try:
        found = ctypes.CDLL(str(library)).GOMP_parallel  # a symbol of what it depends on
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint, ctypes.c_uint], None
    return found


def launch(program: Program) -> None:
    """Run a program, in as many of torch's threads as there are tiles for."""
    words = program.finished()
    threads = min(torch.get_num_threads(), program.num_tiles)
    address, call = _entry()
    parallel = _parallel() if threads > 1 else None
    if parallel is None:
        call(words.data_ptr())
    else:
        parallel(address, words.data_ptr(), threads, 0)


def rows_of(batch: int) -> int:
    """Return how many rows a tile has: as many as keep all threads busy, in whole groups of eight."""
    rows = -(-batch // torch.get_num_threads())
    return min(MAX_ROWS, max(8, -(-rows // 8) * 8))


def run_forward(frame: Frame) -> tuple[Tensor, list[Tensor], Kept]:
    """Run all steps; return the output, the last states, and what backward needs: states, values, by stage."""
    forward = Forward(frame, rows_of(frame.batch))
    launch(forward.program)
    state_n = [buffer[forward.last].clone() for buffer in forward.buffers]
    if not frame.call.keep:
        return forward.output, state_n, []
    return forward.output, state_n, [*forward.buffers, *forward.values, *forward.kept]


def run_backward(
    frame: Frame,
    kept: Kept,
    doutput: Tensor | None,
    dstate_n: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Go back over time writing gate gradients only, then form all other gradients from them at once."""
    call, chain = frame.call, frame.chain
    if doutput is not None:
        doutput = doutput.contiguous()
    backward = Backward(frame, rows_of(frame.batch), kept, doutput, dstate_n)
    launch(backward.program)
    gradients = backward.gradients
    for name, value in backward.constants.items():
        parts = backward.program.in_tiles(value)
        gradients.dconstants[name] = parts.reshape(-1, value.columns)
    for name, value in backward.affine.items():
        if name is not None:
            gradients.dweights[name] = backward.program.in_tiles(value)[:, : value.columns].sum(0)
    needed_0 = needed[1 + len(call.names) :]
    counter, limit = call.additions.counter, call.additions.clip
    if counter is not None and limit is not None:
        for part, need in zip(backward.unclipped, needed_0, strict=True):
            steps = slice(None) if need else slice(0, -1) if frame.reverse else slice(1, None)
            valid = None if call.mask is None else call.mask[steps].flatten(0, 1)
            counter(part[steps].flatten(0, 1), limit, valid)
    named: dict[str, Tensor] = {}
    num_states = len(chain.states)
    for name, buffer in zip(chain.states, kept, strict=False):
        before, named[name] = (buffer[1:], buffer[:-1]) if frame.reverse else (buffer[:-1], buffer[1:])
        named[f"{name}_prev"] = before if call.additions.reset is None else zero_padding(before, ~call.additions.reset)
    named |= zip(frame.plan.stored, kept[num_states:], strict=False)
    return [*gradients.finish(named, needed), *backward.dstate_0]
