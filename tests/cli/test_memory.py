"""The allocator hint is given where there is glibc, and nowhere else."""

import platform

from rnnlab.cli.memory import keep_freed_memory


def test_glibc_takes_the_hint():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
