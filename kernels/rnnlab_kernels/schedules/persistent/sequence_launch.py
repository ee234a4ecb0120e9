"""How the kernels of sequence.py are launched: all steps at once, one by one, or one by one in windows replayed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.launch import is_interpreting
from rnnlab_kernels.schedules.persistent import graphs
from rnnlab_kernels.schedules.persistent.sequence_call import Call, rates_inside

# How tensors of both kernels run along time, T slots and so many more; by axis 1 they run along rows. Others by axis 0:
_TIMED = {"gates_x": 0, "mask": 0, "reset": 2, "h": 1, "rest": 1, "fresh": 0, "saved": 0}
_TIMED |= {"doutput": 0, "dgates": 2, "dsplit": 2}
_BY_ROW = ("dropped", "dstate", "dconstants")
_WRITTEN = ({"h", "rest", "fresh", "saved"}, {"dgates", "dsplit", "dstate", "dconstants"})  # forward, backward


def run_kernel(
    kernel: Any, call: Call, sizes: tuple[int, int], backwards: bool, tensors: dict[str, Tensor | None], **options: Any
) -> None:
    """Run all positions: in one launch, or one by one where programs cannot wait for each other.

    Args:
        kernel: of one direction of differentiation.
        call: the call.
        sizes: T, B.
        backwards: from the last position to the first.
        tensors: by the names of the kernel's pointers; what is None is not read.
        options: further arguments.
    """
    (num_steps, batch), plan = sizes, call.plan
    slices, tiles, heads = plan.grid
    barrier = slices > 1 and not plan.is_step and not is_interpreting()
    h = tensors["h"]
    assert h is not None
    tensors["key"] = call.keys(h.device) if call.draws else None
    # Zeroed for each call: one that was cut short may have left anything.
    tensors["barrier"] = torch.zeros(tiles * heads, dtype=torch.int32, device=h.device) if barrier else None
    options |= {**rates_inside(call.noise), **call.constexprs(), **plan.options_of(backwards), "BARRIER": barrier}

    def run(memory: Mapping[str, Tensor | None], first: int, last: int, steps: int, rows: int, size: int) -> None:
        there: Any = memory
        pointers = {f"{name}_ptr": there["h"] if there.get(name) is None else there[name] for name in tensors}
        for position in reversed(range(first, last, size)) if backwards else range(first, last, size):
            kernel[plan.grid](
                **pointers,
                T=steps,
                B=rows,
                first_position=position,
                num_positions=size,
                stride_saved_t=there["saved"].stride(0) if call.keep else 0,
                **options,
                **({"launch_cooperative_grid": True} if barrier else {}),
            )

    if not plan.is_step:
        return run(tensors, 0, num_steps, num_steps, batch, max(num_steps, 1) if slices == 1 or barrier else 1)
    window, rows = graphs.WINDOW, tiles * plan.options["BLOCK_B"]
    covered = num_steps // window * window if call.replays and graphs.usable(h.device) else 0
    if backwards:
        run(tensors, covered, num_steps, num_steps, batch, 1)
    for position in reversed(range(0, covered, window)) if backwards else range(0, covered, window):
        start = num_steps - window - position if call.reverse else position
        parts = {
            name: _part(call, name, value, start, backwards) for name, value in tensors.items() if value is not None
        }
        graphs.replay(
            (kernel, plan.grid, call.keep, *options.items()),
            lambda memory: run(memory, 0, window, window, rows, 1),
            parts,
            rows,
        )
    if not backwards:
        run(tensors, covered, num_steps, num_steps, batch, 1)


def _part(call: Call, name: str, value: Tensor, start: int, backwards: bool) -> graphs.Part:
    """Return what a window of steps from `start` on reads and writes of a tensor."""
    written = name in _WRITTEN[backwards]
    if name == "key":  # the kernel counts steps from the start of the window
        return graphs.Part(call.keys(value.device, start), None)
    if name in _BY_ROW:
        return graphs.Part(value, 0, written=written)
    if name not in _TIMED:
        return graphs.Part(value, None)
    if name == "saved" and not call.keep:  # the memory of one step for all
        return graphs.Part(value, 1, read=False)
    return graphs.Part(value[start : start + graphs.WINDOW + _TIMED[name]], 1, written=written)
