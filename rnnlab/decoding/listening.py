"""What a transcriber hears in a sound that comes in parts, and whose length does not count: constant memory.

T frames, T' steps of the model, F features, S frames that it reads in one step, V classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.decoding.ctc import BLANK
from rnnlab.decoding.sampling import evaluating

# Frames that a network both ways reads at once, and how many of them it reads again in the next window.
WINDOW, OVERLAP = 2**14, 2**11


class Span(NamedTuple):
    """Where a symbol was heard: frames from `start` on, `end` not among them."""

    id: int
    start: int
    end: int


def logits_in_parts(model: nn.Module, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the logits (T'_i, V) of one sound, in evaluation.

    Of a network that goes onwards alone they are those of the whole sound. One that goes both ways reads windows of
    `WINDOW` frames that overlap by `OVERLAP`, and each step is from the window in which it is further from the border.

    Args:
        model: as `rnnlab.models.Transcriber`, with `stack`, and `streams` and `step` if it goes onwards alone.
        parts: of the sound, (T_i, F), of any lengths.
    """
    return _stepwise(model, parts) if is_onwards(model) else _by_windows(model, parts)


def is_onwards(model: nn.Module) -> bool:
    """Return whether a model reads a sound step by step."""
    return bool(getattr(model, "streams", False))


def listen(model: nn.Module, parts: Iterable[Tensor]) -> Iterator[Span]:
    """Return the symbols of the best path through one sound, each to be had as soon as it is over.

    What `merged` makes of the likeliest class of each step of `logits_in_parts`, whose arguments these are.
    """
    steps = (logits.argmax(dim=-1).tolist() for logits in logits_in_parts(model, parts))
    return merged(chain.from_iterable(steps), model.stack)


def spans_of(classes: Iterable[int], stack: int = 1) -> list[Span]:
    """Return the symbols of an alignment, the class of each step, with their frames, `stack` of them a step.

    Example:
        >>> spans_of([0, 1, 1, 0, 1], stack=3)
        [Span(id=1, start=3, end=9), Span(id=1, start=12, end=15)]
    """
    return list(merged(classes, stack))


def merged(classes: Iterable[int], stack: int = 1) -> Iterator[Span]:
    """Yield what `spans_of` returns, each span once its end is known."""
    start, before = 0, BLANK
    for step, symbol in enumerate(chain(classes, [BLANK])):
        if symbol != before:
            if before != BLANK:
                yield Span(before, stack * start, stack * step)
            start, before = step, symbol


def _stepwise(model: nn.Module, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    state = None
    for part in _whole_stacks(parts, model.stack):
        with torch.inference_mode(), evaluating(model):
            logits, state = model.step(part.unsqueeze(1), state)
        yield logits[:, 0]


def _whole_stacks(parts: Iterable[Tensor], stack: int) -> Iterator[Tensor]:
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


def _by_windows(model: nn.Module, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    half = OVERLAP // 2 // model.stack  # steps on each side of the middle of an overlap
    skipped = 0
    size = max(1, WINDOW // model.stack) * model.stack
    for window, is_last in _windows(parts, size, 2 * half * model.stack):
        with torch.inference_mode(), evaluating(model):
            logits, _ = model(window.unsqueeze(1), torch.tensor([len(window)]))
        yield logits[skipped : None if is_last else len(logits) - half, 0]
        skipped = half


def _windows(parts: Iterable[Tensor], size: int, overlap: int) -> Iterator[tuple[Tensor, bool]]:
    """Yield windows of `size` frames (T, F), the last one of more than `overlap` up to that, and whether it is that."""
    held: list[Tensor] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) > size:  # there is more to come behind the window
            frames = torch.cat(held)
            yield frames[:size], False
            held = [frames[size - overlap :]]
    if held and sum(map(len, held)):
        yield torch.cat(held), True
