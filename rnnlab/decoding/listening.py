"""What a transcriber hears while a sound goes on: the best path, part by part, in constant memory.

T frames, F features, S frames that the model reads in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.decoding.ctc import BLANK
from rnnlab.decoding.sampling import evaluating


class Span(NamedTuple):
    """Where a symbol was heard: frames from `start` on, `end` not among them."""

    id: int
    start: int
    end: int


def listen(model: nn.Module, parts: Iterable[Tensor]) -> Iterator[Span]:
    """Return the symbols of the best path through one sound, each to be had as soon as it is over.

    Args:
        model: with `step` and `stack` as `rnnlab.models.Transcriber` has them, its layers going onwards alone.
        parts: of the sound, (T, F) each, of any lengths.

    Returns:
        What `spans_of` the likeliest class of each step of the whole sound would be, however it is cut.
    """
    return _merged(_classes(model, parts), model.stack)


def spans_of(classes: Iterable[int], stack: int = 1) -> list[Span]:
    """Return the symbols of an alignment, the class of each step, with their frames, `stack` of them a step.

    Example:
        >>> spans_of([0, 1, 1, 0, 1], stack=3)
        [Span(id=1, start=3, end=9), Span(id=1, start=12, end=15)]
    """
    return list(_merged(classes, stack))


def _merged(classes: Iterable[int], stack: int) -> Iterator[Span]:
    """Yield each run of a symbol once its end is known."""
    start, before = 0, BLANK
    for step, symbol in enumerate(chain(classes, [BLANK])):
        if symbol != before:
            if before != BLANK:
                yield Span(before, stack * start, stack * step)
            start, before = step, symbol


def _classes(model: nn.Module, parts: Iterable[Tensor]) -> Iterator[int]:
    """Yield the likeliest class of each step."""
    state = None
    for part in _whole_stacks(parts, model.stack):
        with torch.inference_mode(), evaluating(model):
            logits, state = model.step(part.unsqueeze(1), state)
            classes = logits[:, 0].argmax(dim=-1).tolist()
        yield from classes


def _whole_stacks(parts: Iterable[Tensor], stack: int) -> Iterator[Any]:
    """Yield the same frames (T, F) in parts of whole stacks, but for the last one."""
    rest: Tensor | None = None
    for part in parts:
        frames = part if rest is None else torch.cat([rest, part])
        whole = len(frames) // stack * stack
        if whole:
            yield frames[:whole]
        rest = frames[whole:]
    if rest is not None and len(rest):
        yield rest
