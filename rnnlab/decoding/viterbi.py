"""The best path through a lattice of tags, for a batch of sentences at once.

B batch, T time, K tags.
"""

from __future__ import annotations

import torch
from torch import Tensor


def viterbi(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the sequence of tags with the highest score for each sentence (Viterbi, 1967).

    The score of tags y_1 ... y_n is start[y_1] + emissions[1, y_1] + transitions[y_1, y_2] + emissions[2, y_2] + ... +
    end[y_n]. Scores may be -inf, which forbids. Of sequences with equal scores the one with the lowest last tag is
    taken, of these the one with the lowest tag before it, and so on.

    Args:
        emissions: (B, T, K), floating point, T >= 1. Whatever stands beyond a sentence's length has no influence.
        transitions: (K, K), from the tag of the row to that of the column.
        start: (K,), of the first tag.
        end: (K,), of the last tag.
        lengths: (B,) integers from 1 to T.

    Returns:
        Tags, int64 (B, T), 0 beyond each length; and their scores (B,), in float32 or wider, as all sums are.

    Raises:
        ValueError: shapes that do not fit, or lengths that are no integers from 1 to T.
    """
    check_lattice(emissions, transitions, start, end, lengths)
    num_steps, num_tags = emissions.shape[1:]
    unmoved = torch.arange(num_tags, device=emissions.device)
    dtype = torch.promote_types(emissions.dtype, torch.float32)
    emissions, transitions, start, end = (part.to(dtype) for part in (emissions, transitions, start, end))
    best = start + emissions[:, 0]  # (B, K), score of the best path that ends in each tag
    origins = []
    for t in range(1, num_steps):
        inside = (t < lengths).unsqueeze(1)
        # max gives the first of equal values.
        through, origin = (best.unsqueeze(2) + transitions).max(dim=1)  # (B, K)
        best = torch.where(inside, through + emissions[:, t], best)
        origins.append(torch.where(inside, origin, unmoved))
    scores, tag = (best + end).max(dim=1)
    path = [tag]
    for origin in reversed(origins):
        tag = origin.gather(1, tag.unsqueeze(1)).squeeze(1)
        path.append(tag)
    tags = torch.stack(path[::-1], dim=1)
    steps = torch.arange(num_steps, device=lengths.device)
    return tags.masked_fill(steps >= lengths.unsqueeze(1), 0), scores


def check_lattice(emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor) -> None:
    """Raise ValueError unless the parts of a lattice fit together, and lengths are integers from 1 to T."""
    if emissions.dim() != 3 or not emissions.shape[1]:
        raise ValueError(f"emissions must be (B, T, K) with T >= 1, got {tuple(emissions.shape)}")
    batch, _, num_tags = emissions.shape
    expected = {"transitions": (num_tags, num_tags), "start": (num_tags,), "end": (num_tags,), "lengths": (batch,)}
    for (name, shape), given in zip(expected.items(), (transitions, start, end, lengths), strict=True):
        if tuple(given.shape) != shape:
            raise ValueError(f"{name} must be {shape} for emissions {tuple(emissions.shape)}, got {tuple(given.shape)}")
    if lengths.dtype.is_floating_point or lengths.dtype.is_complex or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    fits = (lengths >= 1) & (lengths <= emissions.shape[1])
    rule = f"lengths must be from 1 to T = {emissions.shape[1]}"
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():  # where looking would mean waiting
        if lengths.device.type != "meta":
            torch._assert_async(fits.all(), rule)
    elif not fits.all():
        row = int((~fits).nonzero()[0])
        raise ValueError(f"{rule}, got {int(lengths[row])} in row {row}")
