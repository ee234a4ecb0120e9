"""How the kernels are launched: all steps at once, or one by one, or one by one in windows replayed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.launch import is_interpreting
from rnnlab_kernels.schedules.persistent import graphs
from rnnlab_kernels.schedules.persistent.call import Launch
from rnnlab_kernels.schedules.persistent.tasks import up_to_each_wait

# How tensors of both kernels run along time, T slots and so many more; by axis 1 they run along rows. Others by axis 0:
_TIMED = {"gates_x": 0, "mask": 0, "reset": 2, "h": 1, "rest": 1, "saved": 0, "doutput": 0, "grads": 2}
_BY_ROW = ("dropped", "dstate", "dconstants")
_WRITTEN = ({"h", "rest", "saved"}, {"grads", "dstate", "dconstants"})  # forward, backward
_PADDED = ("reset", "grads")  # a slot at either end


def run_kernel(
    kernel: Any, call: Launch, sizes: tuple[int, int, int, int], backwards: bool, tensors: dict[str, Tensor | None]
) -> None:
    """Run all positions: in one launch, or one for each step, or between two waits where programs cannot wait.

    Args:
        kernel: of one direction of differentiation.
        call: the call.
        sizes: T, B, H, and units of a head.
        backwards: from the last position to the first.
        tensors: by the names of the kernel's pointers; what is None is not read.
    """
    (num_steps, batch, hidden, units), (slices, tiles, heads) = sizes, call.tiling.grid
    is_step, h = call.tiling.is_step, tensors["h"]
    barrier = not call.alone and not is_step and not is_interpreting()
    assert h is not None
    tensors["key"] = call.keys(h.device) if call.draws else None
    # Zeroed for each call: one that was cut short may have left anything.
    tensors["barrier"] = torch.zeros(tiles * heads, dtype=torch.int32, device=h.device) if barrier else None
    # Row sums of each norm and program, for even and odd steps.
    sums = 2, call.wiring.num_norms, slices, 2, batch
    tensors["sums"] = h.new_empty(sums, dtype=torch.float32) if call.wiring.num_norms else None
    if not call.wiring.num_norms:
        tensors["rstd"] = None  # empty, but of a shape that would make a window's graph one of this T and B alone
    options = {**call.rates(), **call.constexprs(backwards), "BARRIER": barrier, "H": hidden, "D": units}
    if backwards:
        options["clip"] = call.clip or 0.0
    if barrier:
        options["launch_cooperative_grid"] = True
    tasks = call.tasks(backwards)
    parts = [tasks] if call.alone or barrier or is_step else up_to_each_wait(tasks)

    def run(memory: Mapping[str, Any], first: int, last: int, steps: int, rows: int, size: int) -> None:
        pointers = {f"{name}_ptr": memory["h"] if memory.get(name) is None else memory[name] for name in tensors}
        if call.late:
            pointers |= {f"{name}_ptr": memory[name][1:] for name in _PADDED if memory.get(name) is not None}
        for position in reversed(range(first, last, size)) if backwards else range(first, last, size):
            for part in parts:
                kernel[call.tiling.grid](
                    **pointers,
                    T=steps,
                    B=rows,
                    first_position=position,
                    num_positions=size,
                    TASKS=part,
                    COMPLETE=part is parts[-1],
                    **options,
                )

    if not is_step:
        return run(tensors, 0, num_steps, num_steps, batch, max(num_steps, 1) if call.alone or barrier else 1)
    window, rows = graphs.WINDOW, tiles * call.tiling.options["BLOCK_B"]
    covered = num_steps // window * window if call.replays and graphs.usable(h.device) else 0
    if backwards:
        run(tensors, covered, num_steps, num_steps, batch, 1)
    for position in reversed(range(0, covered, window)) if backwards else range(0, covered, window):
        start = num_steps - window - position if call.reverse else position
        windows = {
            name: _part(call, name, value, start, backwards) for name, value in tensors.items() if value is not None
        }
        graphs.replay(
            (kernel, call.tiling.grid, tasks, *options.items()),
            lambda memory: run(memory, 0, window, window, rows, 1),
            windows,
            rows,
        )
    if not backwards:
        run(tensors, covered, num_steps, num_steps, batch, 1)


def _part(call: Launch, name: str, value: Tensor, start: int, backwards: bool) -> graphs.Part:
    """Return what a window of steps from `start` on reads and writes of a tensor."""
    written = name in _WRITTEN[backwards]
    if name == "key":  # the kernel counts steps from the start of the window
        return graphs.Part(call.keys(value.device, start), None)
    if name in _BY_ROW:
        return graphs.Part(value, 0, written=written)
    if name not in _TIMED:
        return graphs.Part(value, None)
    if name == "saved" and not call.keep:  # the memory of two steps for all
        return graphs.Part(value, 1, read=False)
    return graphs.Part(value[start : start + graphs.WINDOW + _TIMED[name]], 1, written=written)
