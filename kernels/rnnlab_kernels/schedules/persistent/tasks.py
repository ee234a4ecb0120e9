"""What a program does in a step: the stages of a chain, and between them the waiting.

Where several programs share the units of a row they exchange values inside a step: a norm's row sums, and what a
product multiplies.
"""

from collections.abc import Iterator
from dataclasses import replace

from rnnlab_kernels.schedules.persistent.wiring import HAND_BACK, MOMENTS, NORM, PARTS, PRODUCT, WAIT, Stage, Wiring

WAITING, HANDING_BACK = Stage(WAIT, 0), Stage(HAND_BACK, 0)


def forward_tasks(wiring: Wiring, alone: bool) -> tuple[Stage, ...]:
    """Return what a program does in a step, but for the wait at its end. `alone`: it has all units of its rows."""
    return tuple(_numbered(_forward(wiring, alone)))


def backward_tasks(wiring: Wiring, alone: bool, parts: bool = False, late: bool = False) -> tuple[Stage, ...]:
    """Return what a program does in a step of the backward pass.

    Args:
        wiring: of the step.
        alone: a program has all units of its rows.
        parts: programs leave parts of the gradient of what a product multiplied for each other.
        late: without the product, which the step before makes at its start.
    """
    return tuple(_numbered(_backward(wiring, alone, parts, late)))


def _forward(wiring: Wiring, alone: bool) -> Iterator[Stage]:
    complete = {-1}  # h is, since the end of the step before
    for stage in wiring.stages:
        if stage.kind == PRODUCT and stage.source not in complete:
            complete.add(stage.source)
            yield WAITING
        if stage.kind == NORM and not alone:
            yield from (replace(stage, kind=MOMENTS), WAITING)
        yield stage


def _backward(wiring: Wiring, alone: bool, parts: bool, late: bool) -> Iterator[Stage]:
    first = wiring.stages[0]
    for stage in reversed(wiring.stages[1:]):
        yield from _waited_for(stage, alone, parts)
    if first.kind == PRODUCT:  # what it needs no more is not held in registers meanwhile
        yield from (replace(first, kind=PARTS),) if parts else ()
        yield from (HANDING_BACK, WAITING)
        yield from () if late else (replace(first, last=True),)
    else:
        yield from (*_waited_for(first, alone, parts), HANDING_BACK)


def _waited_for(stage: Stage, alone: bool, parts: bool) -> Iterator[Stage]:
    if stage.kind == PRODUCT:
        yield from (replace(stage, kind=PARTS), WAITING) if parts else (WAITING,)
    if stage.kind == NORM and not alone:
        yield from (replace(stage, kind=MOMENTS), WAITING)
    yield stage


def _numbered(tasks: Iterator[Stage]) -> Iterator[Stage]:
    number = 0
    for stage in tasks:
        yield replace(stage, index=number) if stage.kind == WAIT else stage
        number += stage.kind == WAIT


def num_waits(tasks: tuple[Stage, ...]) -> int:
    """Return how often a program waits in a step."""
    return sum(stage.kind == WAIT for stage in tasks)


def up_to_each_wait(tasks: tuple[Stage, ...]) -> list[tuple[Stage, ...]]:
    """Return the tasks up to the first wait, up to the second and so on, and all of them."""
    return [*(tasks[:k] for k, stage in enumerate(tasks[:-1]) if stage.kind == WAIT), tasks]
