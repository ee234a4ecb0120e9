"""Alignments of a text with frames in connectionist temporal classification (Graves et al., 2006).

Letters: T frames, B rows, U symbols of a target, V classes with the blank, S = 2U + 1 positions.

An alignment names a class in every frame. It spells a target once repeats are merged and blanks are dropped, so it
walks through the positions blank, l_1, blank, l_2, ... l_U, blank: from frame to frame it stays, goes one on, or goes
two on, which leaves out a blank between different symbols. It begins at one of the first two, and ends at one of the
last two. With y_t(k) the probability of class k in frame t, and l' the classes of the positions:

    alpha_t(s) = y_t(l'_s) (alpha_{t-1}(s) + alpha_{t-1}(s-1) + alpha_{t-1}(s-2))     what leads to s in frame t
    beta_t(s)  = sum over s' in s, s+1, s+2 of y_{t+1}(l'_s') beta_{t+1}(s')          what may follow it
    p(l | x)   = sum over s of alpha_t(s) beta_t(s), in any frame t

Here these are logarithms in double precision, for tests and pictures: training takes torch's `ctc_loss`. The gradient
of -ln p(l | x) in the logits is the softmax less the occupancies. `align` is for training too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

BLANK = 0

_MOVES = 2**24  # of an alignment's search, kept at once


def needed_frames(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return how many frames each target takes at least: one a symbol, and a blank between two equal ones.

    Args:
        targets: integers (B, U), anything beyond each length.
        target_lengths: integers (B,).

    Returns:
        int64 (B,).
    """
    inside = torch.arange(targets.shape[1], device=targets.device)[1:] < target_lengths.unsqueeze(1)
    repeats = (targets[:, 1:] == targets[:, :-1]) & inside
    return target_lengths.long() + repeats.sum(1)


def check_fits(
    lengths: Tensor, targets: Tensor, target_lengths: Tensor, row_names: Sequence[object] | None = None
) -> None:
    """Raise ValueError unless each row has the frames its target needs.

    Args:
        lengths: integers (B,), frames.
        targets: integers (B, U).
        target_lengths: integers (B,).
        row_names: what to call a row in the message, a file for example; "row 3" if None.
    """
    needed = needed_frames(targets, target_lengths)
    short = (needed > lengths).nonzero().flatten().tolist()
    if short:
        row = short[0]
        symbols, frames = int(target_lengths[row]), int(needed[row])
        repeats = f" and {frames - symbols} repeats" if frames > symbols else ""
        others = f"; {len(short) - 1} more rows are too short" if len(short) > 1 else ""
        raise ValueError(
            f"{f'row {row}' if row_names is None else row_names[row]}: a target of {symbols} symbols{repeats} needs "
            f"{frames} frames, got {int(lengths[row])}{others}"
        )


def check_targets(num_classes: int, targets: Tensor, target_lengths: Tensor) -> None:
    """Raise ValueError unless symbols are from 1 to V - 1: 0 is the blank, which is in no text.

    Args:
        num_classes: V, with the blank.
        targets: integers (B, U), anything beyond each length.
        target_lengths: integers (B,).
    """
    if num_classes < 2:
        raise ValueError(f"CTC needs the blank and one symbol at least, got {num_classes} classes")
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths.unsqueeze(1)
    bad = (inside & ((targets <= BLANK) | (targets >= num_classes))).nonzero().tolist()
    if bad:
        row, place = bad[0]
        symbol = int(targets[row, place])
        reason = "which is the blank" if symbol == BLANK else f"of {num_classes} classes"
        raise ValueError(
            f"symbols of a target must be from 1 to {num_classes - 1}, got {symbol}, {reason}, at place {place} of row "
            f"{row}"
        )


def ctc_forward(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln alpha, and ln p of each target from its end.

    Args:
        log_probs: (T, B, V) of the classes; whatever stands beyond a row's length has no influence.
        lengths: integers (B,) from 0 to T.
        targets: integers (B, U), symbols from 1 to V - 1, anything beyond each length.
        target_lengths: integers (B,) from 0 to U.

    Returns:
        float64 (T, B, S), minus infinity where no path leads, in padding, and at positions the row has not; and float64
        (B,), minus infinity where the target does not fit into the frames.

    Raises:
        ValueError: shapes, lengths or symbols that do not fit.
    """
    return _forward(_lattice(log_probs, lengths, targets, target_lengths))


def ctc_backward(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln beta, and ln p of each target from its beginning; arguments, shapes and errors of `ctc_forward`."""
    return _backward(_lattice(log_probs, lengths, targets, target_lengths))


def occupancies(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the probability of each class in each frame, given that the row spells its target.

    Arguments and errors are those of `ctc_forward`.

    Returns:
        float64 (T, B, V): 1 in sum over a frame's classes, 0 in padding and in rows whose target has no probability.
    """
    lattice = _lattice(log_probs, lengths, targets, target_lengths)
    (alpha, log_p), (beta, _) = _forward(lattice), _backward(lattice)
    log_p = log_p.masked_fill(log_p == -math.inf, 0.0)  # 0 / 1 where it would be 0 / 0
    share = (alpha + beta - log_p.unsqueeze(1)).exp()
    return share.new_zeros(log_probs.shape).scatter_add(2, lattice.classes.expand(share.shape), share)


def ctc_loss_reference(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return -ln p(l | x) of each row in nats, float64 (B,), infinite where the target does not fit.

    Arguments and errors are those of `ctc_forward`. Autograd goes through it; an infinite loss has no gradient.
    """
    return -ctc_forward(log_probs, lengths, targets, target_lengths)[1]


@torch.no_grad()
def align(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Find the likeliest alignment of each target (Viterbi, 1967), in float32 or wider.

    Of equally likely ones, the one that is furthest in its target in the last frame, of these the one before it, and so
    on.

    Args:
        log_probs: (T, B, V); logits will do, since what is added to a whole frame favours no alignment. An alignment
            comes out even if it has no probability.
        lengths: integers (B,) from 0 to T.
        targets: integers (B, U), symbols from 1 to V - 1, anything beyond each length.
        target_lengths: integers (B,) from 0 to U.

    Returns:
        int64 (T, B), the class of each frame; the blank in padding.

    Raises:
        ValueError: a target does not fit into its frames; shapes, lengths or symbols that do not fit.
    """
    dtype = torch.promote_types(log_probs.dtype, torch.float32)
    lattice = _lattice(log_probs, lengths, targets, target_lengths, dtype)
    check_fits(lengths, targets, target_lengths)
    size = _block_size(len(log_probs), lattice.start.numel())
    best, begins = lattice.start, []  # the scores before each block
    for begin in range(0, len(log_probs), size):
        begins.append(best)
        if begin + size < len(log_probs):
            best, _ = _viterbi(lattice, best, begin, begin + size)
    place, places = None, []
    for number, before in reversed(list(enumerate(begins))):
        begin = number * size
        best, moves = _viterbi(lattice, before, begin, min(begin + size, len(log_probs)))
        if place is None:
            ends = best.masked_fill(~lattice.is_end, -math.inf).flip(1)  # the last of equal values, as on the way
            place = ends.shape[1] - 1 - ends.argmax(1, keepdim=True)
        for t in reversed(range(len(moves))):
            places.append(place)
            inside = (begin + t < lattice.lengths).unsqueeze(1)
            place = place - torch.where(inside, moves[t].gather(1, place), 0)
    if not places:
        return lattice.lengths.new_zeros(0, len(lattice.lengths))
    path = lattice.classes.gather(1, torch.cat(places[::-1], 1)).t()
    beyond = torch.arange(len(path), device=path.device).unsqueeze(1) >= lattice.lengths
    return path.masked_fill(beyond, BLANK)


def _block_size(num_frames: int, num_places: int) -> int:
    """Return of how many frames the moves are kept at once: of all, or where that is much, of their square root.

    That is twice the work. An hour of sound with its text would else take tens of gigabytes.
    """
    return max(1, num_frames if num_frames * num_places <= _MOVES else math.isqrt(num_frames))


def _viterbi(lattice: _Lattice, best: Tensor, begin: int, end: int) -> tuple[Tensor, list[Tensor]]:
    """Return the best scores (B, S) behind some frames, from those before, and by how much each frame moved (B, S)."""
    moves = []
    # Impossible and forbidden must differ: what the frames rule out still has to be a way through the positions.
    for t, emission in enumerate(lattice.emissions(begin, end, floor=-1e9), begin):
        through, move = torch.stack(_from(best, lattice.may_skip)).max(0)  # the first of equal values
        best = torch.where((t < lattice.lengths).unsqueeze(1), through + emission, best)
        moves.append(move)
    return best, moves


class _Lattice(NamedTuple):
    """What a walk through the positions needs: log_probs (T, B, V), lengths (B,), the rest (B, S).

    `classes` are l', `may_skip` the positions reached from two before, `start` the state before the first frame.
    """

    log_probs: Tensor
    classes: Tensor
    lengths: Tensor
    start: Tensor
    may_skip: Tensor
    is_position: Tensor
    is_end: Tensor

    def emissions(self, begin: int = 0, end: int | None = None, floor: float = -math.inf) -> Tensor:
        """Return the log-probabilities (T, B, S) of the positions in some frames, -inf where a row has none."""
        frames = self.log_probs[begin:end]
        found = frames.gather(2, self.classes.expand(len(frames), -1, -1)).to(self.start.dtype)
        return found.clamp(min=floor).masked_fill(~self.is_position, -math.inf)


def _lattice(
    log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, dtype: torch.dtype = torch.float64
) -> _Lattice:
    _check_shapes(log_probs, lengths, targets, target_lengths)
    check_targets(log_probs.shape[2], targets, target_lengths)
    lengths, target_lengths = lengths.to(log_probs.device), target_lengths.to(log_probs.device)
    classes = _positions(targets.to(log_probs.device), target_lengths)
    last = 2 * target_lengths.unsqueeze(1)
    position = torch.arange(classes.shape[1], device=log_probs.device)
    is_position, is_end = position <= last, (position <= last) & (position >= last - 1)
    may_skip = (classes != BLANK) & (classes != pad(classes, (2, 0), value=BLANK)[:, :-2]) & (position > 1)
    start = log_probs.new_zeros(classes.shape, dtype=dtype).masked_fill(position > 0, -math.inf)
    return _Lattice(log_probs, classes, lengths, start, may_skip, is_position, is_end)


def _forward(lattice: _Lattice) -> tuple[Tensor, Tensor]:
    # Before the first frame stands one path, at the first position: to stay and to go on are the two ways to begin.
    current, alphas = lattice.start, []
    for t, emission in enumerate(lattice.emissions()):
        inside = (t < lattice.lengths).unsqueeze(1)
        new = _logsumexp(torch.stack(_from(current, lattice.may_skip)), 0) + emission
        current = torch.where(inside, new, current)
        alphas.append(new.masked_fill(~inside, -math.inf))
    alpha = torch.stack(alphas) if alphas else current.new_empty(0, *current.shape)
    return alpha, _logsumexp(current.masked_fill(~lattice.is_end, -math.inf), 1)


def _backward(lattice: _Lattice) -> tuple[Tensor, Tensor]:
    current = torch.zeros_like(lattice.start).masked_fill(~lattice.is_end, -math.inf)
    emissions, betas = lattice.emissions(), []
    for t in reversed(range(len(emissions))):
        inside = (t < lattice.lengths).unsqueeze(1)
        betas.append(current.masked_fill(~inside, -math.inf))
        ahead = current + emissions[t]
        skipped = pad(ahead.masked_fill(~lattice.may_skip, -math.inf), (0, 2), value=-math.inf)[:, 2:]
        new = _logsumexp(torch.stack((ahead, pad(ahead, (0, 1), value=-math.inf)[:, 1:], skipped)), 0)
        current = torch.where(inside, new, current)
    beta = torch.stack(betas[::-1]) if betas else current.new_empty(0, *current.shape)
    return beta, current[:, 0]


def _positions(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return l', int64 (B, S): the target's symbols with a blank around each; blanks beyond its length."""
    classes = torch.full((targets.shape[0], 2 * targets.shape[1] + 1), BLANK, device=targets.device)
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths.unsqueeze(1)
    classes[:, 1::2] = torch.where(inside, targets.long(), BLANK)
    return classes


def _from(state: Tensor, may_skip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the state (B, S) that reaches each position by staying, by one on, by two on."""
    one, two = (pad(state, (step, 0), value=-math.inf)[:, :-step] for step in (1, 2))
    return state, one, two.masked_fill(~may_skip, -math.inf)


def _logsumexp(values: Tensor, dim: int) -> Tensor:
    """`torch.logsumexp`, with a gradient of 0 instead of NaN where all is minus infinity."""
    is_dead = (values == -math.inf).all(dim)
    return values.masked_fill(is_dead.unsqueeze(dim), 0.0).logsumexp(dim).masked_fill(is_dead, -math.inf)


def _check_shapes(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> None:
    check_lengths(log_probs, lengths)
    num_rows = log_probs.shape[1]
    if targets.dim() != 2 or len(targets) != num_rows or tuple(target_lengths.shape) != (num_rows,):
        raise ValueError(
            f"targets must be ({num_rows}, U) and target_lengths ({num_rows},) for log_probs {tuple(log_probs.shape)}, "
            f"got {tuple(targets.shape)} and {tuple(target_lengths.shape)}"
        )
    _check_range("target_lengths", target_lengths, targets.shape[1], "U")


def check_lengths(logits: Tensor, lengths: Tensor) -> None:
    """Raise ValueError unless logits are (T, B, V), and lengths (B,) integers from 0 to T."""
    if logits.dim() != 3 or not logits.dtype.is_floating_point:
        raise ValueError(f"logits must be floating point (T, B, V), got {logits.dtype} {tuple(logits.shape)}")
    if tuple(lengths.shape) != (logits.shape[1],):
        raise ValueError(
            f"lengths must be ({logits.shape[1]},) for logits {tuple(logits.shape)}, got {tuple(lengths.shape)}"
        )
    _check_range("lengths", lengths, len(logits), "T")


def _check_range(name: str, lengths: Tensor, limit: int, letter: str) -> None:
    if lengths.dtype.is_floating_point or lengths.dtype.is_complex or lengths.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {lengths.dtype}")
    bad = ((lengths < 0) | (lengths > limit)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"{name} must be from 0 to {letter} = {limit}, got {int(lengths[bad[0]])} in row {bad[0]}")
