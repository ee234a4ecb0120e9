"""The memory allocator of a process that trains."""

from __future__ import annotations

import ctypes
import platform
import sys

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


def peak_memory_mib() -> float | None:
    """Return the most memory this process has held at once, in MiB: of the GPU if it used one, else of the machine."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB
