"""A mask drawn by whatever is fastest for its device: the same bits from Numba, Triton and torch."""

from collections.abc import Callable

import torch
from torch import Tensor

from rnnlab_kernels import launch
from rnnlab_kernels.schedules.noise.counter import WORD, fill, keep_threshold


def draw_mask(
    seed: int,
    stream: int,
    first: int,
    shape: tuple[int, int, int],
    p: float,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Tensor:
    """Return `masks.keep_mask` of a number."""
    threshold = keep_threshold(p)
    if not 0 <= stream <= WORD:
        raise ValueError(f"a stream is a number in [0, 2^32), got: {stream}")
    if first < 0 or min(shape) < 0 or first + shape[0] > WORD + 1 or shape[1] > WORD:
        raise ValueError(f"steps and rows of a mask lie in [0, 2^32), got first step {first} and shape {tuple(shape)}")
    out = torch.empty(shape, device=device, dtype=dtype)
    _filler(out)(out, seed, stream, first, threshold)
    return out


def _filler(out: Tensor) -> Callable[..., None]:
    if torch._C._functorch.is_functorch_wrapped_tensor(out):
        return fill  # inside a transform there is no memory to write to
    if type(out) is Tensor and out.device.type == "cpu" and launch.has_numba():
        from rnnlab_kernels.schedules.noise import by_numba

        return by_numba.fill
    if out.device.type == "cuda" and launch.supported(out.device, torch.float32)[0]:
        from rnnlab_kernels.schedules.noise import by_triton

        return by_triton.fill
    return fill
