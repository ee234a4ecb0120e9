"""A loop of launches captured once in a CUDA graph and replayed: its launches are paid for one time and not each.

A graph holds addresses. So it is captured on memory of its own, into which every replay copies what it reads and out of
which it copies what was written: tensors may lie anywhere, and come and go. What it covers is a window of `WINDOW`
steps, whatever T is, and rows up to whole tiles, whatever B is: other lengths and a last, smaller batch capture
nothing anew.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

WINDOW = 32  # steps; the rest of a sequence is launched step by step
MAX_GRAPHS = 32  # the least recently replayed one is dropped for another

Memory = dict[str, Tensor]
_LOCK = threading.Lock()  # autograd has a thread for each device, and a process captures one graph at a time
logger = logging.getLogger("rnnlab")
_GRAPHS: OrderedDict[Hashable, tuple[Memory, Callable[[], None]]] = OrderedDict()


class Part(NamedTuple):
    """A tensor of a window.

    Attributes:
        tensor: any strides.
        rows: its axis of batch elements, or None.
        read, written: what a replay does with it.
    """

    tensor: Tensor
    rows: int | None
    read: bool = True
    written: bool = False


def usable(device: torch.device) -> bool:
    """Return whether launches on a device can be captured now: not while somebody else captures."""
    return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()


def clear_graphs() -> None:
    """Forget all graphs and give their memory back."""
    _GRAPHS.clear()


def replay(key: Hashable, run: Callable[[Memory], None], parts: Mapping[str, Part], rows: int) -> None:
    """Do what `run` does, on the tensors of `parts`, with memory of `rows` batch elements in their place.

    Args:
        key: all that decides which launches `run` makes, beside sizes, dtypes, device and stream of the parts.
        run: makes the launches on tensors by the names of the parts; called when a graph is captured, twice.
        parts: by name. Batch elements beyond those there are hold leftovers.
        rows: at least the batch elements of each part.
    """
    shapes = {name: _shape(part, rows) for name, part in parts.items()}
    device = next(iter(parts.values())).tensor.device
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    # Streams run side by side: they must not share memory.
    key = (key, device, stream, *((name, shape, parts[name].tensor.dtype) for name, shape in shapes.items()))
    with _LOCK, torch.no_grad():  # one at a time, until all is queued on the stream
        _replay(key, run, parts, shapes)


def _replay(
    key: Hashable,
    run: Callable[[Memory], None],
    parts: Mapping[str, Part],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    if key not in _GRAPHS:
        with torch.inference_mode(False):  # else nobody outside of it could write into this memory
            memory = {name: parts[name].tensor.new_zeros(shape) for name, shape in shapes.items()}
            _GRAPHS[key] = memory, _capture(run, memory)
        while len(_GRAPHS) > MAX_GRAPHS:
            _GRAPHS.popitem(last=False)
            _warn_once()
    _GRAPHS.move_to_end(key)
    memory, again = _GRAPHS[key]
    for name, part in parts.items():
        if part.read:
            _rows(memory[name], part).copy_(part.tensor)
    again()
    for name, part in parts.items():
        if part.written:
            part.tensor.copy_(_rows(memory[name], part))


@cache
def _warn_once() -> None:
    logger.warning(
        "more than %d CUDA graphs of windows are in use: some are captured again and again. Fewer sizes, dtypes and "
        "devices in turn, or a larger rnnlab_kernels.schedules.persistent.graphs.MAX_GRAPHS",
        MAX_GRAPHS,
    )


def _shape(part: Part, rows: int) -> tuple[int, ...]:
    shape = list(part.tensor.shape)
    if part.rows is not None:
        shape[part.rows] = rows
    return tuple(shape)


def _rows(memory: Tensor, part: Part) -> Tensor:
    return memory if part.rows is None else memory.narrow(part.rows, 0, part.tensor.shape[part.rows])


def _capture(run: Callable[[Memory], None], memory: Memory) -> Callable[[], None]:
    """Return a function that repeats the launches of `run`."""
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        run(memory)  # compiles and loads, which must not happen during a capture
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Backward runs in a thread of autograd's: only what this thread does may not disturb.
    with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        run(memory)
    return graph.replay
