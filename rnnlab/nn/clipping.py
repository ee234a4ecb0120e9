"""How often `clip_grad_step` clips: a count that the backward passes of a layer keep."""

from typing import Any

import torch
from torch import Tensor


class StepClips:
    """Elements of the gradients that states hand back over each step, and how many of them were beyond the limit.

    Both are summed over all backward passes since the last `take()`. Transforms of torch.func are not counted.
    """

    def __init__(self) -> None:
        self._beyond: Tensor | int = 0
        self._all = 0

    def __call__(self, grad: Tensor, limit: float) -> None:
        """Count a gradient that is about to be clamped to +-limit."""
        if not torch._C._are_functorch_transforms_active():
            self._beyond = self._beyond + torch.count_nonzero(grad.detach().abs() > limit)
            self._all += grad.numel()

    def take(self) -> tuple[int, int]:
        """Return how many elements were beyond the limit and how many there were, and count anew."""
        beyond, number = int(self._beyond), self._all
        self._beyond, self._all = 0, 0
        return beyond, number

    def __deepcopy__(self, memo: Any) -> "StepClips":
        return StepClips()

    def __getstate__(self) -> dict[str, Any]:
        return {"_beyond": 0, "_all": 0}  # a module is saved without what it has counted
