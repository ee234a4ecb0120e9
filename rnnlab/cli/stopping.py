"""What ends a run from outside: Ctrl-C, SIGTERM of `kill` and batch systems, and their word that time is nearly up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does, under another exit code, 128 and the number of the signal."""

    name: ClassVar[str] = "SIGTERM"

    @property
    def code(self) -> int:
        return 128 + signal.Signals[self.name]


class OutOfTime(Terminated):
    """SIGUSR1 came, which batch systems send before a time limit, as with `sbatch --signal=USR1@60`."""

    name = "SIGUSR1"


class OutOfTimeForSubmitit(OutOfTime):
    """SIGUSR2 came, with which submitit does so."""

    name = "SIGUSR2"


# A system may lack some of them.
_ENDS = {
    signal.Signals[end.name]: end
    for end in (Terminated, OutOfTime, OutOfTimeForSubmitit)
    if end.name in signal.Signals.__members__
}


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Let these signals end the block as Ctrl-C would: files, W&B and lock are left in order.

    Another handler than the system's own keeps its place, as every one does outside the main thread.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise _ENDS[signal.Signals(number)]

    is_main = threading.current_thread() is threading.main_thread()
    mine = [number for number in _ENDS if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
