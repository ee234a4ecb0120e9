"""Kernels in Triton's interpreter with all programs of a grid alive at once, waiting for each other at the barrier.

Each program is a thread, of which one runs. Before it touches memory that programs share, an order says whose turn it
is; a load of what no program stores commutes with everything, and nobody else gets a turn for it. memory.py says what
loads give. Kernels and launches are those of a GPU: all of time in one, with its barrier.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, TensorHandle, interpreter_builder

from rnnlab_kernels.schedules.persistent import launching
from tests.kernels.at_once.memory import HABITS, Habits, Memory
from tests.kernels.at_once.orders import ORDERS, Order, in_turn

# What the kernels store into. Storing into anything else is an error.
STORED = ("h", "rest", "saved", "rstd", "sums", "grads", "dstate", "dconstants", "unclipped", "parts", "barrier")


class Stuck(AssertionError):
    """All programs wait for each other."""


class _Abandoned(BaseException):
    """Another program failed; BaseException, so that the interpreter passes it on."""


class Grid:
    """Programs of a launch that take turns.

    Args:
        memory: that they share.
        places: of the programs in the grid.
        order: whose turn it is.

    Attributes:
        current: whose turn it was last.
        alive: who has not come to an end.
        turns, arrivals: how often each had its turn, and counted itself at a barrier.
    """

    def __init__(self, memory: Memory, places: Sequence[tuple[int, ...]], order: Order) -> None:
        self.memory, self._places, self._order = memory, places, order
        self.current, self.alive = 0, [*range(len(places))]
        self.turns, self.arrivals = [0] * len(places), [0] * len(places)
        self._batons = [threading.Semaphore(0) for _ in places]
        self._end = threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._polled: list[tuple[int, int] | None] = [None] * len(places)  # counter and count of the last poll
        self._counters: list[np.ndarray | None] = [None] * len(places)  # what it is about to poll again

    def run(self, body: Callable[[], None]) -> None:
        threads = [threading.Thread(target=self._run_one, args=(program, body)) for program in self.alive]
        for thread in threads:
            thread.start()
        self._give(self._next())
        self._end.acquire()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _run_one(self, program: int, body: Callable[[], None]) -> None:
        try:
            self._wait_for_turn(program)
            body()
            self.memory.end(program)
        except _Abandoned:
            return
        except BaseException as error:
            return self._fail(error)
        self.alive.remove(program)
        if not self.alive:
            return self._end.release()
        try:
            self._give(self._next())
        except Stuck as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        for baton in self._batons:
            baton.release()
        self._end.release()

    def _wait_for_turn(self, program: int) -> None:
        self._batons[program].acquire()
        if self._failure is not None:
            raise _Abandoned
        interpreter_builder.grid_idx = self._places[program]

    def _give(self, program: int) -> None:
        self.current = program
        self._batons[program].release()

    def _next(self) -> int:
        waiting = [program for program in self.alive if self._waits(program)]
        ready = [program for program in self.alive if program not in waiting]
        if not ready:
            raise Stuck(f"programs {waiting} wait for each other for ever")
        chosen = self._order(self, ready)
        return in_turn(self, waiting) if chosen is None else chosen

    def _waits(self, program: int) -> bool:
        """Return whether a program is about to poll a counter that has not changed since it polled it."""
        counter = self._counters[program]
        return counter is not None and (int(counter[0, 0]), self.memory.count(counter)) == self._polled[program]

    def turn(self, counter: np.ndarray | None = None) -> int:
        """Let others take their turns, and return who has it now: who called.

        Args:
            counter: that it is about to poll.
        """
        program = self.current
        self._counters[program] = counter
        self.turns[program] += 1
        self.memory.drift()
        following = self._next()
        if following != program:
            self._give(following)
            self._wait_for_turn(program)
        self._polled[program] = None if counter is None else (int(counter[0, 0]), self.memory.count(counter))
        return program


class Report:
    """What happened: launches, turns, and pairs of accesses that nothing orders."""

    def __init__(self) -> None:
        self.launches, self.turns, self.races = 0, 0, set[str]()


class _WholeGrid:
    """What the interpreter takes for a kernel, and runs as one program: all of them."""

    def __init__(self, kernel: Callable[..., None], launch: Callable[[Callable[[], None]], None]) -> None:
        self._kernel, self._launch = kernel, launch
        self.__name__, self.__globals__ = kernel.__name__, kernel.__globals__
        self.__annotations__, self.__signature__ = kernel.__annotations__, inspect.signature(kernel)

    def __call__(self, **args: Any) -> None:
        self._launch(functools.partial(self._kernel, **args))


@contextmanager
def at_once(
    order: str | Callable[[int], Order] = "in turn", habits: Habits | str = "slow", seed: int = 0
) -> Iterator[Report]:
    """Launch kernels with their barrier, all programs at once, and report what happened.

    Args:
        order: whose turn it is, of `ORDERS`, or what makes an order for each launch.
        habits: of memory, or their name among `HABITS`.
        seed: of both.

    Raises:
        Stuck: all programs wait.
    """
    report = Report()
    own = HABITS[habits] if isinstance(habits, str) else habits
    make_order = ORDERS[order] if isinstance(order, str) else order

    class AllPrograms(GridExecutor):
        def __init__(self, kernel: Callable[..., None], names: list[str], grid: tuple[int, ...], hooks: Any) -> None:
            super().__init__(_WholeGrid(kernel, self._launch), names, (1,), hooks)
            self._real_grid = grid

        def __call__(self, **args: Any) -> None:
            stored = {name: args[f"{name}_ptr"] for name in STORED if args.get(f"{name}_ptr") is not None}
            self._memory = Memory(stored, int(np.prod(self._real_grid)), own, seed)
            super().__call__(**args)

        def _launch(self, body: Callable[[], None]) -> None:
            interpreter_builder.set_grid_dim(*self._real_grid)
            programs = Grid(self._memory, [*np.ndindex(*self._real_grid)], make_order(seed))
            with _memory_of(programs):
                programs.run(body)
            self._memory.give_back()
            report.launches += 1
            report.turns += sum(programs.turns)
            report.races |= self._memory.races

    with (
        mock.patch.object(interpreter, "GridExecutor", AllPrograms),
        mock.patch.object(launching, "is_interpreting", lambda: False),
    ):
        yield report


@contextmanager
def _memory_of(programs: Grid) -> Iterator[None]:
    """Have the interpreter's accesses to memory take turns, and go to the model."""
    memory, builder = programs.memory, interpreter_builder
    load = builder.create_masked_load

    def found(pointers: TensorHandle, active: np.ndarray) -> np.ndarray | None:
        addresses = pointers.data[active]
        return memory.find(addresses, pointers.get_element_ty().primitive_bitwidth // 8) if len(addresses) else None

    def masked_load(pointers, mask, other, cache_modifier, *rest):
        active = mask.data.astype(bool)  # a mask may come as integers
        where = found(pointers, active)
        if where is None:
            return load(pointers, mask, other, cache_modifier, *rest)
        result = load(pointers, TensorHandle(np.zeros_like(active), mask.dtype), other, cache_modifier, *rest)
        past_l1 = cache_modifier in (ir.CACHE_MODIFIER.CG, ir.CACHE_MODIFIER.CV)
        values = memory.load(programs.turn(), where, past_l1)
        result.data[active] = np.ascontiguousarray(values).view(result.data.dtype).ravel()
        return result

    def masked_store(pointers, value, mask, *rest):
        active = mask.data.astype(bool)
        if active.any():
            where = found(pointers, active)
            assert where is not None, "a store into what no program stores"
            values = np.ascontiguousarray(np.broadcast_to(value.data, active.shape)[active])
            memory.store(programs.turn(), where, values.view(np.uint8).reshape(where.shape))

    def atomic_rmw(operation, pointers, value, mask, sem, scope):
        assert operation == ir.ATOMIC_OP.ADD and value.data.size == 1 and mask.data.all()
        where, kind = found(pointers, mask.data.astype(bool)), ir.MEM_SEMANTIC
        assert where is not None
        number, effective = int(value.data.item()), scope != ir.MEM_SYNC_SCOPE.CTA
        releases = effective and sem in (kind.RELEASE, kind.ACQUIRE_RELEASE)
        acquires = effective and sem in (kind.ACQUIRE, kind.ACQUIRE_RELEASE)
        program = programs.turn(None if number else where)
        programs.arrivals[program] += number
        before = memory.atomic_add(program, where, number, releases, acquires)
        return TensorHandle(np.full_like(value.data, before), value.dtype.scalar)

    with mock.patch.multiple(
        builder,
        create_masked_load=masked_load,
        create_masked_store=masked_store,
        create_atomic_rmw=atomic_rmw,
        create_barrier=lambda: memory.cta_barrier(programs.current),
        create=True,
    ):
        yield
