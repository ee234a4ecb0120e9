"""A recurrence in windows of time, whose activations are computed again in the backward pass: `checkpoint_steps`.

T time, B batch, W width of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from rnnlab_kernels.schedules.additions import Additions
from rnnlab_kernels.schedules.node import nothing_kept

if TYPE_CHECKING:
    from rnnlab.nn.unroll import Result, Side


def run_windows(
    run: Callable[..., Result], side: Side, x: Tensor, mask: Tensor | None, checkpoint_steps: int
) -> Result:
    """Run a direction of a layer window by window, and keep the activations of one at a time.

    Args:
        run: of a window, called with its additions, mask, input and the states before it.
        side: the direction.
        x, mask, checkpoint_steps: as in `rnnlab.nn.unroll.run_directions`.
    """
    outputs: list[Tensor] = []
    every: list[tuple[Tensor, ...]] = []
    state = side.state
    for part in _windows(len(x), checkpoint_steps, side.reverse):
        arguments: tuple[Any, ...] = (_at(side.additions, part), None if mask is None else mask[part], x[part], *state)
        if torch.is_grad_enabled():
            # Masks come from a counter, but a cell of the user's may draw from torch's generators.
            window, options = run, dict[str, Any]()
            if not torch.compiler.is_compiling():
                cell = getattr(side.cell, "cell", side.cell)  # torch's cells are behind a view
                window = partial(_same_again, run, cell, [])
                # No code of the user's runs within a chain, whose own hooks would get what is saved.
                if side.kind == "chain":
                    options["context_fn"] = _contexts
            result = checkpoint(window, *arguments, use_reentrant=False, preserve_rng_state=True, **options)
        else:
            result = run(*arguments)
        y, state, states = result
        outputs.append(y)
        every.append(states)
    if len(outputs) == 1:
        return outputs[0], state, every[0]
    if side.reverse:
        outputs.reverse()
        every.reverse()
    return torch.cat(outputs), state, tuple(torch.cat(values) for values in zip(*every, strict=True))


def _contexts() -> tuple[Any, Any]:
    """Return those of a window's first pass, of which nothing is kept, and of its second."""
    return nothing_kept(), nullcontext()


class _Again(nn.Module):
    """A window as a module, for `functional_call` to put the cell's parameters back."""

    def __init__(self, run: Callable[..., Result], cell: nn.Module) -> None:
        super().__init__()
        self.run, self.cell = run, cell

    def forward(self, *arguments: Any) -> Result:
        return self.run(*arguments)


def _same_again(
    run: Callable[..., Result], cell: nn.Module, seen: list[dict[str, tuple[Tensor, int]]], *arguments: Any
) -> Result:
    """Run a window; at every later time with the parameters that the cell had at the first, or refuse to."""
    own = dict(cell.named_parameters())
    if not seen:
        result = run(*arguments)
        seen.append({name: (value, 0 if value.is_inference() else value._version) for name, value in own.items()})
        return result
    if any(value._version != version for value, version in seen[0].values() if not value.is_inference()):
        raise RuntimeError(
            "checkpoint_steps computes a window again in the backward pass, but parameters of the cell have been "
            "modified by an inplace operation since: call backward before the optimiser's step"
        )
    if all(own.get(name) is value for name, (value, _) in seen[0].items()):
        return run(*arguments)
    # functional_call has ended since, and taken its parameters with it.
    first = {f"cell.{name}": value for name, (value, _) in seen[0].items()}
    return functional_call(_Again(run, cell), first, arguments)


def _windows(num_steps: int, size: int, reverse: bool) -> Iterator[slice]:
    starts = range(0, num_steps, size)
    for start in reversed(starts) if reverse else starts:
        yield slice(start, min(start + size, num_steps))


def _at(additions: Additions, part: slice) -> Additions:
    noise = additions.noise and additions.noise._replace(first=additions.noise.first + part.start)
    return additions._replace(reset=None if additions.reset is None else additions.reset[part], noise=noise)
