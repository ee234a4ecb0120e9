"""What may be wrong with a barrier: faults to be planted into the kernels, each of which has to be found.

A fault is another text in the source of a kernel or of a device function, or another value of a name that the launch
reads; the kernels have no switches for it.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import FunctionRewriter, InterpretedFunction

from rnnlab_kernels.schedules.persistent import call, launching
from rnnlab_kernels.schedules.persistent.wiring import WAIT
from tests.kernels.at_once.cases import CASES, Case, alike
from tests.kernels.at_once.grid import at_once


@contextmanager
def edited(name: str, old: str, new: str) -> Iterator[None]:
    """Run a kernel or a device function with another text in place of `old`, wherever it stands."""
    # Imported late: outside the interpreter's process these would be compiled ones for good.
    from rnnlab_kernels.schedules.persistent import device
    from rnnlab_kernels.schedules.persistent.kernel_backward import _backward_kernel
    from rnnlab_kernels.schedules.persistent.kernel_forward import _forward_kernel

    function = {"forward": _forward_kernel, "backward": _backward_kernel}.get(name) or getattr(device, name)
    rewriter = FunctionRewriter(function.fn, **function.kwargs)
    prepare = rewriter._prepare_source

    def prepared(lines: list[str]) -> str:
        source = prepare(lines)
        assert old in source, f"{name} has no {old!r}"
        return source.replace(old, new)

    rewriter._prepare_source = prepared
    with mock.patch.dict(InterpretedFunction.rewritten_fn, {function.fn: rewriter.rewrite_ast()}):
        yield


@contextmanager
def without_wait(backwards: bool, number: int) -> Iterator[None]:
    """Leave out one of the waits within a step; those after it count as if it had never been."""
    name = "backward_tasks" if backwards else "forward_tasks"
    original = getattr(call, name)

    def tasks(*args: Any) -> tuple[Any, ...]:
        numbers, found = itertools.count(), original(*args)
        assert any(task.kind == WAIT and task.index == number for task in found)
        left = [task for task in found if task.kind != WAIT or task.index != number]
        return tuple(replace(task, index=next(numbers)) if task.kind == WAIT else task for task in left)

    with mock.patch.object(call, name, tasks):
        yield


@contextmanager
def never_zeroed() -> Iterator[None]:
    """Keep the counters of one call for the next."""
    kept: dict[Any, Tensor] = {}

    def zeros(size: int, *, dtype: torch.dtype, device: Any) -> Tensor:
        return kept.setdefault(size, torch.zeros(size, dtype=dtype, device=device))

    with mock.patch.object(launching, "torch", SimpleNamespace(**{**vars(torch), "zeros": zeros})):
        yield


class Fault(NamedTuple):
    """What is planted, and into which call."""

    case: Case
    plant: Callable[[], AbstractContextManager[None]]


def _edit(case: Case, *args: Any) -> Fault:
    return Fault(case, functools.partial(edited, *args))


LSTM, PARTS = Case("lstm"), Case("lstm", parts=True)
RESET_BEFORE, NORM = Case("gru_reset_before"), Case("layer_norm_gru")
_WAIT, _PAST_L1 = "wait_for_all", ', cache_modifier=".cg"'
_OWN_COUNTER = "barrier_ptr + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)"
FAULTS = {
    "no wait after a step": _edit(
        LSTM, "forward", "target = (step + 1) * (WAITS + 1) * tl.num_programs(0)", "target = 0"
    ),
    "no wait before a second product": Fault(RESET_BEFORE, lambda: without_wait(False, 0)),
    "no wait before a norm": Fault(NORM, lambda: without_wait(False, 0)),
    "no wait before a product's gradient": Fault(LSTM, lambda: without_wait(True, 0)),
    "no wait before parts are summed": Fault(PARTS, lambda: without_wait(True, 0)),
    "no wait before a second product's gradient": Fault(RESET_BEFORE, lambda: without_wait(True, 0)),
    "no wait before the first product's gradient": Fault(RESET_BEFORE, lambda: without_wait(True, 1)),
    "no wait before a norm's gradient": Fault(NORM, lambda: without_wait(True, 0)),
    "waits of a step forgotten in a target": _edit(RESET_BEFORE, "forward", "step * (WAITS + 1)", "step * WAITS"),
    "relaxed arrival": _edit(LSTM, _WAIT, 'sem="release"', 'sem="relaxed"'),
    "arrival for the program alone": _edit(LSTM, _WAIT, 'sem="release", scope="gpu"', 'sem="release", scope="cta"'),
    "relaxed poll": _edit(LSTM, _WAIT, 'sem="acquire"', 'sem="relaxed"'),
    "no CTA barrier before arriving": _edit(LSTM, _WAIT, "tl.debug_barrier()\n    tl.atomic_add", "tl.atomic_add"),
    "no CTA barrier after polling": _edit(LSTM, _WAIT, "tl.debug_barrier()\n    return", "return"),
    "never arrives": _edit(LSTM, _WAIT, "barrier_ptr, 1,", "barrier_ptr, 0,"),
    "arrives twice": _edit(LSTM, _WAIT, "barrier_ptr, 1,", "barrier_ptr, 2,"),
    "h through L1": _edit(LSTM, "state_block", _PAST_L1, ""),
    "what a second product multiplies through L1": _edit(CASES["gru_reset_before, inference"], "forward", _PAST_L1, ""),
    "row sums through L1": _edit(NORM, "load_pairs", _PAST_L1, ""),
    "gate gradients through L1": _edit(LSTM, "product_gradient", _PAST_L1, ""),
    "parts through L1": _edit(PARTS, "sum_of_parts", _PAST_L1, ""),
    "parts of even and odd steps in one place": _edit(
        PARTS, "backward", "% 2) * tl.num_programs(0) * stride_slot", "* 0) * tl.num_programs(0) * stride_slot"
    ),
    "one counter for all tiles of rows": _edit(Case("gru", (3, 18, 3, 17)), "forward", _OWN_COUNTER, "barrier_ptr"),
    "one counter for all heads": _edit(Case("gru", (3, 2, 3, 20), heads=2), "backward", _OWN_COUNTER, "barrier_ptr"),
    "counters never zeroed": Fault(LSTM, never_zeroed),
}


def found_by(fault: Fault, expected: dict[str, Tensor], order: str, habits: str, seed: int = 0) -> set[str]:
    """Return what shows a fault in a schedule: "numbers" that are not those expected, "races", or programs "stuck"."""
    try:
        with at_once(order, habits, seed) as report, fault.plant():
            actual = fault.case.run()
    except InterpreterError as error:
        assert "wait for each other for ever" in str(error)
        return {"stuck"}
    return ({"races"} if report.races else set()) | (set() if alike(actual, expected) else {"numbers"})
