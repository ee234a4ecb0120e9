"""What ends a run from outside: Ctrl-C, and SIGTERM, as batch systems and `kill` send it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does, under another exit code."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C would: files, W&B and lock are left in order.

    Another handler than the system's own, of a job launcher, keeps its place, as it does outside the main thread.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
