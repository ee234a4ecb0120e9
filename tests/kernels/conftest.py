"""Fixtures for kernel tests."""

from typing import Any

import pytest
import torch


def poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make uninitialised memory hold NaN, or the largest integer, so that a value never written is seen."""

    def poison(name: str, owner: Any) -> None:
        original = getattr(owner, name)

        def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = original(*args, **kwargs)
            is_float = tensor.is_floating_point()
            return tensor.fill_(float("nan") if is_float else torch.iinfo(tensor.dtype).max)

        monkeypatch.setattr(owner, name, poisoned)

    for name in ("empty", "empty_like", "empty_strided"):
        poison(name, torch)
    poison("new_empty", torch.Tensor)


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make uninitialised memory hold NaN, or the largest integer."""
    poison_empty(monkeypatch)
