"""The memory allocator of a process that trains."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

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


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Let `peak_memory_mib` tell of what comes from here on: a process may train one run after another."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR.write_text("5")  # proc(5): the peak becomes what is held now
    except OSError:
        pass  # not Linux, or not allowed


def peak_memory_mib() -> float | None:
    """Return the most memory held since `forget_peak`, in MiB: of the GPU if it was used, else of the machine.

    Where the system cannot forget a peak, it is that of the process.
    """
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    if _STATUS.exists():
        found = [line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB
