"""One process at a time in the directory of a run, at a job of a sweep, or at a file.

The system lets go of what a process holds when it ends, however it ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CAN_HOLD = fcntl is not None
LOCK, JOB_LOCK = ".lock", ".job.lock"


def hold(file: int) -> None:
    """Wait for the lock of an open file, which is let go of when it is closed."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def locked(directory: Path, name: str = LOCK) -> Iterator[None]:
    """Hold a lock of a directory, by name.

    On a system or file system without such locks nothing is held.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the directory cannot be written.
    """
    path = directory / name
    while True:
        file = path.open("a")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError:  # some network file systems
            pass
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # of a process that took it away in the meantime
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def is_locked(directory: Path, name: str = LOCK) -> bool:
    """Tell whether another process holds a lock of a directory; none holds one of a directory that is not there."""
    try:
        with locked(directory, name):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
