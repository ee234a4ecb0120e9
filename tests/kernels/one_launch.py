"""The schedules of one launch, as tests call them: whole, and with several programs that share the units of a row.

Imported late: outside the interpreter's process the kernels' module would fix them as compiled ones.
"""

from typing import Any

from rnnlab_kernels.launch import H200


def sequence(*args: Any, **kwargs: Any) -> Any:
    from rnnlab_kernels.schedules.persistent.api import sequence

    return sequence(*args, **kwargs)


def step(*args: Any, **kwargs: Any) -> Any:
    from rnnlab_kernels.schedules.persistent.api import step

    return step(*args, **kwargs)


def both_ways(*args: Any, **kwargs: Any) -> Any:
    from rnnlab_kernels.schedules.persistent.api import both_ways

    return both_ways(*args, **kwargs)


def plan_sequence(*args: Any) -> Any:
    from rnnlab_kernels.schedules.persistent.tiles import plan_sequence

    return plan_sequence(*args)


def sliced_plan(cell: Any, batch: int, hidden: int, heads: int = 1, tf32: bool = False, parts: bool = False) -> Any:
    """Return tiles of sixteen units a program, several programs for each tile of rows; `heads` of all directions."""
    plan, _ = plan_sequence(cell, batch, hidden, 4, *H200, tf32)
    grid = -(-hidden // 16), plan.grid[1], heads
    return plan._replace(grid=grid, options={**plan.options, "UNITS": 16}, parts=parts)


def sliced(cell: Any, x: Any, state_0: Any, *args: Any, tf32: bool = False, parts: bool = False, **kwargs: Any) -> Any:
    """Run `sequence` with sixteen units a program."""
    plan = sliced_plan(cell, x.shape[1], state_0[0].shape[1], tf32=tf32, parts=parts)
    return sequence(cell, x, state_0, *args, plan=plan, **kwargs)


def in_parts(*args: Any, **kwargs: Any) -> Any:
    """Do the same, programs leaving parts of dh for each other."""
    return sliced(*args, parts=True, **kwargs)


def side_by_side(*args: Any, **kwargs: Any) -> Any:
    """Do the same as tensor cores would: with TF32's blocks along K, which fp32 takes exactly in the interpreter."""
    return sliced(*args, tf32=True, **kwargs)
