"""Beam search over anything that reads a symbol and says what it expects next, for many sources side by side.

Letters: B sources, W live hypotheses of each, K hypotheses of each at most, V vocabulary, N symbols. Hypothesis k of
source b is row b*W + k of what a step reads and returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnlab.decoding.sampling import mask_banned
from rnnlab.decoding.state import is_worth_dropping, select_rows

# (symbols int64 (B*W,), state of B*W rows, memory of B rows) to (logits (B*W, V), state)
Step = Callable[[Tensor, Any, Any], tuple[Tensor, Any]]


class Found(NamedTuple):
    """Hypotheses of B sources, by falling score; of equal scores, the one that was over first.

    Attributes:
        ids: int64 (B, K, N), their symbols, 0 behind the end.
        lengths: int64 (B, K), how many symbols; 0 where a source has fewer hypotheses than K.
        log_probs: float64 (B, K), in nats; minus infinity where there is none.
        scores: float64 (B, K), `log_probs` times `normalisation`; minus infinity where there is none.
    """

    ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    scores: Tensor


def normalisation(length: int, alpha: float) -> float:
    """Return the factor of the log-probability of n symbols: one over ((5 + n) / 6) ** alpha (Wu et al., 2016)."""
    return ((5 + length) / 6) ** -alpha


@torch.inference_mode()
def search(
    step: Step,
    logits: Tensor,
    state: Any,
    memory: Any,
    limits: Tensor,
    *,
    beam: int,
    n_best: int = 1,
    length_penalty: float = 0.0,
    ending: Sequence[int] | None = None,
    banned: Sequence[int] = (),
) -> Found:
    """Return likely sequences of symbols for each source.

    At each step the likeliest one-symbol extensions of all live hypotheses of a source go on, as many as the beam is
    wide; of equally likely ones, those of the better hypothesis, then the lower numbers. One that ends with `ending` is
    finished: it is set aside with its place in the beam and never extended. A source is settled when no place is left,
    at its limit, or when no live hypothesis can still get among the `n_best` finished ones; the live ones are then left
    out. Settled sources leave the batch: what is found depends on nothing beside a source, but
    for rounding in the model's products.

    Args:
        step: reads the last symbols, and the memory of the sources, which is not repeated for each hypothesis.
        logits: (B, V), of the first symbol. Log-probabilities are taken in float32 or wider, and summed in float64.
        state: behind them, in the forms of `select_rows`; the memory, too.
        limits: int64 (B,), on the CPU: symbols of a hypothesis that does not end before, at least 1.
        beam: K, hypotheses kept; it may be more than there are.
        n_best: how many hypotheses have to be certain.
        length_penalty: alpha of `normalisation`, at least 0.
        ending: symbols that end a hypothesis, and are part of it; None for none.
        banned: symbols never to be chosen. The probabilities of the others remain the model's own.

    Raises:
        ValueError: logits that are not finite, or every symbol is banned.
    """
    device, vocabulary = logits.device, logits.shape[-1]
    choices = vocabulary - len(set(banned))
    dtype = torch.promote_types(logits.dtype, torch.float32)
    out = torch.tensor(list(banned), dtype=torch.int64, device=device)
    tail = torch.tensor(list(ending or ()), dtype=torch.int64, device=device)
    ends, longest = set(limits.tolist()), int(limits.max())
    # A total only falls, and a source's limit divides it by the most.
    bounds = torch.tensor([normalisation(n, length_penalty) for n in limits.tolist()], dtype=torch.float64).to(device)
    rows, limits = torch.arange(len(limits), device=device), limits.to(device)
    totals = torch.zeros(len(rows), 1, dtype=torch.float64, device=device)  # minus infinity: not live
    recent = torch.empty(len(rows), 1, 0, dtype=torch.int64, device=device)  # symbols that an ending may begin with
    best = totals.new_full((len(rows), n_best), -math.inf)  # scores of finished ones
    finished, history = _Finished(len(rows), device), []
    for length in range(1, longest + 1):
        factor, width = normalisation(length, length_penalty), totals.shape[1]
        is_dead = totals == -math.inf
        log_probs = mask_banned(logits.log_softmax(-1, dtype), out, is_dead.flatten())
        extended = totals.unsqueeze(2) + log_probs.view(-1, width, vocabulary)
        extended.masked_fill_(is_dead.unsqueeze(2), -math.inf)  # whatever the model makes of it
        totals, places = largest(extended.flatten(1), min(beam, width * choices))
        parents, symbols = places // vocabulary, places % vocabulary
        history.append((rows, parents, symbols))
        is_beyond = torch.arange(totals.shape[1], device=device) >= beam - finished.counts[rows].unsqueeze(1)
        totals.masked_fill_(is_beyond, -math.inf)
        if ending is not None:
            recent = recent.gather(1, parents.unsqueeze(2).expand(-1, -1, recent.shape[2]))
            recent = torch.cat([recent, symbols.unsqueeze(2)], dim=2)
            if recent.shape[2] == len(tail):
                is_over = (recent == tail).all(2) & (totals > -math.inf)
                finished.add(rows, totals, is_over, length, factor)
                scores = (totals * factor).masked_fill(~is_over, -math.inf)
                best = torch.cat([best, scores], dim=1).topk(n_best).values
                totals.masked_fill_(is_over, -math.inf)
                totals.masked_fill_((best[:, -1] >= totals.amax(1) * bounds).unsqueeze(1), -math.inf)
                recent = recent[:, :, 1:]
        if length in ends:
            is_over = (limits == length).unsqueeze(1) & (totals > -math.inf)
            finished.add(rows, totals, is_over, length, factor)
            totals.masked_fill_(is_over, -math.inf)
        is_live = (totals > -math.inf).any(1)
        num_live = int(is_live.sum())
        if not num_live:
            break
        origins = torch.arange(len(rows), device=device).unsqueeze(1) * width + parents
        if is_worth_dropping(num_live, len(rows)):
            kept = is_live.nonzero().squeeze(1)
            rows, limits, bounds, best = rows[kept], limits[kept], bounds[kept], best[kept]
            totals, recent, symbols, origins = totals[kept], recent[kept], symbols[kept], origins[kept]
            memory = select_rows(memory, kept)
        logits, state = step(symbols.flatten(), select_rows(state, origins.flatten()), memory)
    return finished.sorted(history)


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest entries of each row of (B, N), by falling value, and their places.

    Of equal values above minus infinity the first ones come, and come first: on every device, with any `count`.
    """
    if count < values.shape[1]:
        found, places = values.topk(count + 1)  # one more, whose value may be that of the last
        has_ties = ((found[:, 1:] == found[:, :-1]) & (found[:, 1:] > -math.inf)).any()
        if not has_ties:
            return found[:, :count].contiguous(), places[:, :count]
    found, places = values.sort(dim=1, descending=True, stable=True)
    return found[:, :count].contiguous(), places[:, :count]


class _Finished:
    """Hypotheses that are over, each with its source, its place among those of the source, and where it ended."""

    def __init__(self, num_sources: int, device: torch.device) -> None:
        self.counts = torch.zeros(num_sources, dtype=torch.int64, device=device)
        self.parts: list[tuple[Tensor, ...]] = []

    def add(self, rows: Tensor, totals: Tensor, is_over: Tensor, length: int, factor: float) -> None:
        """Add those of (B, W) that are over, in their order; `rows` (B,) are the numbers of their sources."""
        source, slot = is_over.nonzero(as_tuple=True)
        row, log_probs = rows[source], totals[source, slot]
        place = self.counts[row] + is_over.cumsum(1)[source, slot] - 1
        self.counts[rows] += is_over.sum(1)
        self.parts.append((row, place, slot, torch.full_like(row, length), log_probs, log_probs * factor))

    def sorted(self, history: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Found:
        """Return them by falling score, with the symbols that lead to them.

        Args:
            history: for each step the numbers of the sources (B,), and of their W hypotheses the ones (B, W) they
                extend and by which symbol (B, W). W never falls, so that a place remains one in later steps.
        """
        row, place, slot, length, log_prob, score = (torch.cat(parts) for parts in zip(*self.parts, strict=True))
        table = log_prob.new_full((len(self.counts), int(self.counts.max())), -math.inf)
        at = row, place
        scores, order = table.index_put(at, score).sort(dim=1, descending=True, stable=True)
        log_probs = table.index_put(at, log_prob).gather(1, order)
        lengths, slots = (torch.zeros_like(order).index_put(at, part).gather(1, order) for part in (length, slot))
        ids = lengths.new_zeros(*lengths.shape, len(history))
        for t, (rows, parents, symbols) in reversed(list(enumerate(history))):
            is_inside, slot = t < lengths[rows], slots[rows]
            ids[rows, :, t] = symbols.gather(1, slot).masked_fill(~is_inside, 0)
            slots[rows] = torch.where(is_inside, parents.gather(1, slot), slot)
        return Found(ids, lengths, log_probs, scores)
