"""What runs a recurrence: one call as data, what an engine is, and where each is found by its name.

An engine computes a recurrence over all of time, forward and backward, as plain functions of tensors. It knows neither
autograd nor torch.compile: in eager mode it runs in the one autograd node (node.py), in compiled and exported programs
in the one operator (ops.py). Engines are imported at their first use; programs that were saved name theirs.

T time, B batch.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.schedules.additions import PLAIN, Additions

Tensors = Sequence[Tensor]
Kept = list[Any]  # of tensors, and of lists of a tensor (of one shape) a step


class Call(NamedTuple):
    """One call: all that is not differentiated.

    Attributes:
        engine: its name in `ENGINES`.
        method: which of the engine's ways.
        maths: what a step does; None for engines that know.
        names: of the weights among the inputs.
        reverse: 0 along time, 1 from the end, `BOTH` the first half of the units along time and the second from the
            end.
        mask: (T, B, 1) boolean or None.
        additions: resets, noise, clipping.
        seeds: of the noise, one for each direction; its own if empty.
        keep: backward will ask for what forward keeps.
        plan: what the engine works out once a call; see `Engine.planned`.
        replays: graphs may be captured. In a compiled program that is for whoever runs it.
    """

    engine: str
    method: str = ""
    maths: Chain | Cell | None = None
    names: tuple[str, ...] = ()
    reverse: int = 0
    mask: Tensor | None = None
    additions: Additions = PLAIN
    seeds: tuple[int | Tensor, ...] = ()
    keep: bool = False
    plan: Any = None
    replays: bool = True


BOTH = 2  # as `reverse`


class Engine:
    """What every engine has. `inputs` are the tensors that gradients may be asked of, in an order of the engine's own.

    Results are memory of their own, so that callers may change them in place, unless the engine `keeps_results`.
    Nothing writes into inputs, kept tensors or incoming gradients.

    Attributes:
        keeps_results: backward gets the results before what else is kept.
    """

    keeps_results = False

    def planned(self, call: Call, inputs: Tensors) -> Call:
        """Return the call with its plan: numbers and sizes, no tensors. Forward and backward get it so."""
        return call

    def num_results(self, call: Call) -> int:
        """Return how many results there are: by default output and last states."""
        assert call.maths is not None
        return 1 + len(call.maths.states)

    def forward(self, call: Call, inputs: Tensors) -> tuple[list[Tensor], Kept]:
        """Return the results and, with `call.keep`, what backward needs."""
        raise NotImplementedError

    def unkept(self, call: Call, inputs: Tensors) -> Kept | None:
        """Return, in place of what `forward` keeps, tensors of those shapes and dtypes that take no memory; None if
        there is no other way than to keep it."""
        return None

    def fake(self, call: Call, inputs: Tensors) -> list[Tensor]:
        """Return results and what is kept by shapes and dtypes, any values; lists as tensors (T, ...). No plan."""
        raise NotImplementedError

    def backward(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """Return the gradient of each input that needs one, None for zeros.

        Args:
            call, inputs: as for `forward`.
            kept: what it returned; in place of a list there may be a tensor (T, ...).
            grads: of the results.
            needed: for each input.
        """
        raise NotImplementedError

    def backward_with_graph(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """Return the same with a graph behind it.

        Raises:
            RuntimeError: the engine cannot.
        """
        raise RuntimeError(
            "the fused backward pass of this recurrence cannot itself be differentiated: for create_graph=True "
            'build the module with backend="reference"'
        )


def backward_through(
    run: Callable[..., Tensors], inputs: Tensors, grads: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return gradients with a graph behind them, through what `run(*inputs)` does by operators that autograd knows.

    It runs on aliases of the inputs: the originals may be the same tensor twice, or have a history through each other,
    and a gradient must stop at this call.
    """
    aliases = [tensor.view_as(tensor) for tensor in inputs]
    pairs = [(y, dy) for y, dy in zip(run(*aliases), grads, strict=True) if dy is not None]
    wanted = [tensor for tensor, need in zip(aliases, needed, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [y for y, _ in pairs], wanted, [dy for _, dy in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if need else None for need in needed]


class _Engines(dict[str, Engine]):
    """Engines by name, made when they are first asked for."""

    _FOUND = {
        "recurrence": ("stepwise.run", "Stepwise"),
        "sequence": ("persistent.run", "Persistent"),
        "stages": ("persistent.run", "Persistent"),  # as programs saved by version 0.1 name it
        "scan": ("scan.linear_scan", "Scan"),
        "onednn": ("library.onednn", "OneDNN"),
    }

    def __missing__(self, name: str) -> Engine:
        module, kind = self._FOUND[name]
        self[name] = getattr(importlib.import_module(f"rnnlab_kernels.schedules.{module}"), kind)()
        return self[name]


ENGINES = _Engines()
