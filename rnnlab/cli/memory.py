"""The memory allocator of a process that trains."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names and numbers of glibc's mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step; return whether it was told.

    Every step of training allocates the same few megabytes again. By default glibc gives them back to the system and
    gets untouched pages for them, which cost a quarter of a small recurrent layer's time on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(kept and libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30))
