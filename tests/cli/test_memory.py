"""The allocator hint is given where there is glibc, and nowhere else."""

import platform

from rnnlab.cli.memory import forget_peak, keep_freed_memory, peak_memory_mib


def test_glibc_takes_the_hint():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


def test_a_peak_is_forgotten_where_the_system_can():
    peak_memory_mib()
    block = bytearray(300 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    with_block = peak_memory_mib()
    del block
    forget_peak()
    if platform.system() == "Linux":
        assert peak_memory_mib() < with_block - 200
