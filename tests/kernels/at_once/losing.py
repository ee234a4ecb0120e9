"""Programs that are lost: the others give up, and what comes out must not look like a result.

In memory that was not written is what others left, finite numbers as any.
"""

import itertools
from collections.abc import Iterator
from unittest import mock

import torch
import triton.language as tl
from torch import Tensor

from tests.kernels.at_once.cases import Case, alike
from tests.kernels.at_once.grid import at_once
from tests.kernels.at_once.orders import Order, in_turn, lost

LEFT_OVER = 0.25


def silent_losses(case: Case, backwards: bool, program: int) -> Iterator[list[str]]:
    """Lose a program of one launch before each of its waits in turn, and yield what is wrong there without a NaN.

    Forward that is the output; where it has one a loss has one, too.
    """
    from rnnlab_kernels.schedules.persistent import device  # late, as in faults.py

    new_empty = torch.Tensor.new_empty

    def left_over(*args, **kwargs) -> Tensor:
        tensor = new_empty(*args, **kwargs)
        return tensor.fill_(LEFT_OVER) if tensor.is_floating_point() else tensor

    with (
        mock.patch.object(device, "MAX_SPINS", tl.constexpr(3)),
        mock.patch.object(torch.Tensor, "new_empty", left_over),
    ):
        expected = case.run()
        for arrivals in itertools.count():
            launches = itertools.count()

            def order(seed: int, arrivals: int = arrivals, launches: Iterator[int] = launches) -> Order:
                return lost(program, arrivals) if next(launches) == backwards else in_turn

            with at_once(order):
                actual = case.run()
            if alike(actual, expected):  # nobody waits for what comes after its last arrival
                return
            names = [name for name in expected if name.startswith("d")] if backwards else ["output"]
            wrong = [name for name in names if not torch.equal(actual[name], expected[name])]
            yield [name for name in wrong if actual[name].isfinite().all()]
