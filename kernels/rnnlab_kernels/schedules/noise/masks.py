"""Masks of dropout and zoneout, and the seeds they are made of. N steps, B batch, H units."""

import torch
from torch import Tensor

from rnnlab_kernels.schedules.noise.draw import draw_mask


def draw_seed(generator: torch.Generator | None = None) -> int | Tensor:
    """Draw a seed in [0, 2^63 - 1) for `keep_mask`, from torch's default CPU generator unless another one is given.

    One draw, whatever the size of the masks made of it; after `torch.manual_seed` the same seeds come again. Under
    torch.compile it is a tensor (), since nobody knows its value there, and drawn as the compiler draws: inductor has
    numbers of its own, `torch._inductor.config.fallback_random` makes them those of eager mode.

    Raises:
        RuntimeError: under `vmap(..., randomness="different")`, which asks for a seed per example.
    """
    seed = torch.randint(torch.iinfo(torch.int64).max, (), generator=generator)
    if torch.compiler.is_compiling():
        return seed
    if torch._C._functorch.is_batchedtensor(seed):
        raise RuntimeError(
            'one seed is drawn for all examples of a vmap: randomness="same" works, randomness="different" does not'
        )
    return int(seed)


def keep_mask(
    seed: int | Tensor,
    stream: int,
    first: int,
    shape: tuple[int, int, int],
    p: float,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Tensor:
    """Return a mask (N, B, H): 1 where an element is kept, which has probability 1 - p, else 0. Nothing is scaled.

    Compiled by Numba on a CPU and by Triton on CUDA, else by torch's integer operators; all give the same bits.

    Args:
        seed: see `draw_seed`; a number, or under torch.compile a tensor.
        stream: in [0, 2^32); masks of one seed and different streams are independent: one for each layer and use.
        first: time step of the first of the N masks; steps end before 2^32.
        shape: (N, B, H).
        p: probability of 0.

    Raises:
        ValueError: p outside [0, 1], or a stream, step or size outside the counter.
    """
    if isinstance(seed, Tensor):
        from rnnlab_kernels.schedules.noise import operator

        return operator.keep_mask(seed, stream, first, shape, p, device, dtype)
    return draw_mask(seed, stream, first, shape, p, device, dtype)
