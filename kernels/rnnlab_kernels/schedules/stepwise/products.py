"""Matrix products and scratch memory of recurrences.

torch sends float32 products on x86 to MKL, which on processors of other makers runs at about half the speed of oneDNN
(kernels/README.md, "CPU products"). torch carries oneDNN as well and calls it for its own LSTM and for compiled code;
the operators used here are those that compiled code calls. Autograd is no concern: all this happens inside one node.
Whether oneDNN pays is decided once for a loop, not at each step.
"""

import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

# Below this many multiplications oneDNN's fixed cost of about 15 us is not earned back.
MIN_MULTIPLICATIONS = 2_000_000
# A weight gradient with fewer columns than this is a product of long rows and few results, which MKL does better.
MIN_GRADIENT_COLUMNS = 64
# Elements of input products computed ahead of the recurrence on a CPU.
MAX_BLOCK_ELEMENTS = 1 << 18
# Scratch beyond this many bytes is not kept from call to call.
MAX_SCRATCH_BYTES = 1 << 26

MAX_VIEWS = 8  # of a name's scratch, by shape: to make one takes as long as a small product

_memory = threading.local()


@cache
def _is_intel() -> bool:
    """Return whether this is the processor that MKL is made for; False where nobody says."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return "GenuineIntel" in file.read(1 << 12)
    except OSError:
        return False


def takes(like: Tensor) -> bool:
    """Return whether oneDNN multiplies tensors such as `like`; it pays from MIN_MULTIPLICATIONS."""
    return (
        like.dtype == torch.float32
        and like.device.type == "cpu"
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def bind_product(weight: Tensor, num_rows: int, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Return the function x (..., K) -> x @ weight (N, K).t() + bias (N,) for inputs of `num_rows` rows."""
    if num_rows * weight.numel() >= MIN_MULTIPLICATIONS and takes(weight):
        onednn = torch.ops.mkldnn._linear_pointwise.default
        return lambda x: onednn(x, weight, bias, "none", [], "")
    return partial(linear, weight=weight, bias=bias)


def bind_product_added(weight: Tensor, num_rows: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (x (B, K), addend (B, N)) -> x @ weight (N, K).t() + addend, which may overwrite `addend`."""
    if num_rows * weight.numel() >= MIN_MULTIPLICATIONS and takes(weight):
        onednn = torch.ops.mkldnn._linear_pointwise.binary
        return lambda x, addend: onednn(x, addend, weight, None, "add")
    weight_t = weight.t()
    return lambda x, addend: addend.addmm_(x, weight_t)


def blockwise(product: Callable[[Tensor], Tensor], x: Tensor, num_columns: int, reverse: bool) -> Iterator[Tensor]:
    """Yield `product(x)` step by step in the order of the recurrence, computed for as many steps at once as is good.

    On a CPU that is about a megabyte of results: they are still in cache when the recurrence reads them, and the memory
    allocator hands the same pages out again. Elsewhere it is all steps.
    """
    num_steps, batch = x.shape[:2]
    block = num_steps
    if x.device.type == "cpu":
        block = max(1, MAX_BLOCK_ELEMENTS // max(batch * num_columns, 1))
    for start in range(0, num_steps, block):
        stop = min(start + block, num_steps)
        if reverse:
            yield from reversed(product(x[num_steps - stop : num_steps - start]).unbind(0))
        else:
            yield from product(x[start:stop]).unbind(0)


def weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """Return dy (R, N).t() @ x (R, K): the gradient (N, K) of a weight, summed over all rows at once."""
    columns = x.shape[1]
    large = columns >= MIN_GRADIENT_COLUMNS and dy.numel() * columns >= MIN_MULTIPLICATIONS
    if large and not _is_intel() and takes(x):
        # The transposed product: oneDNN copies a transposed first factor, and x is the narrower of the two. Same sums.
        return torch.ops.mkldnn._linear_pointwise.default(x.t(), dy.t(), None, "none", [], "").t().contiguous()
    if x.device.type == "cpu":  # MKL, too, is faster at it the other way round
        return (x.t() @ dy).t().contiguous()
    return dy.t() @ x


def scratch(name: str, like: Tensor, *shape: int) -> Tensor:
    """Return uninitialised memory of dtype and device of `like` that no result may share.

    On a CPU it is kept for the next call of the same name in the same thread, up to MAX_SCRATCH_BYTES for each name and
    dtype: fresh memory of some megabytes comes as untouched pages, and touching them took a third of a layer's time.
    Tensors of modes (inference, fake tensors) are not kept: ordinary calls could not use them.
    """
    num_elements, dtype = prod(shape), like.dtype
    if not like.is_cpu or num_elements * dtype.itemsize > MAX_SCRATCH_BYTES:
        return like.new_empty(shape)
    kept: dict[Any, tuple[Tensor, dict[tuple[int, ...], Tensor]]] = _memory.__dict__
    key = (name, dtype)
    known = kept.get(key)
    if known is None or known[0].numel() < num_elements or type(like) not in (Tensor, torch.nn.Parameter):
        known = like.new_empty(num_elements), {}
        if type(known[0]) is Tensor and not known[0].is_inference():
            kept[key] = known
    buffer, views = known
    found = views.get(shape)
    if found is None:
        found = buffer[:num_elements].view(shape)
        if not torch.is_inference_mode_enabled():
            if len(views) >= MAX_VIEWS:
                views.clear()
            views[shape] = found
    return found
