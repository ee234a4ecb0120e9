"""Search for the most likely continuation of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.decoding.sampling import (
    START,
    UNKNOWN,
    advance,
    check_integer,
    check_not_empty,
    check_number,
    evaluating,
    mask_banned,
    prime,
)
from rnnlab.decoding.state import select_rows


class Hypothesis(NamedTuple):
    """A continuation.

    Attributes:
        ids: its symbols, without the prompt.
        log_prob: their log-probability under the model, in nats.
        score: `log_prob` divided by the length penalty, see `normalisation`.
    """

    ids: tuple[int, ...]
    log_prob: float
    score: float


def normalisation(length: int, alpha: float) -> float:
    """Return the factor of the log-probability of n symbols: one over ((5 + n) / 6) ** alpha (Wu et al., 2016)."""
    return ((5 + length) / 6) ** -alpha


def check_beam(length: int, beam: int = 5, length_penalty: float = 0.0) -> None:
    """Raise ValueError, naming what was given and what is allowed, unless `beam_search` can take these arguments."""
    check_integer("length", length, 1)
    check_integer("beam", beam, 1)
    check_number("length_penalty", length_penalty)


@torch.inference_mode()
def beam_search(
    model: nn.Module,
    prompt: Sequence[int],
    length: int,
    *,
    beam: int = 5,
    length_penalty: float = 0.0,
    stop: Sequence[int] | None = None,
    banned: Sequence[int] = (UNKNOWN, START),
) -> list[Hypothesis]:
    """Return likely continuations of a prompt, the best one first.

    At each step the likeliest one-symbol extensions of all live hypotheses go on, as many as the beam is wide. One that
    ends with `stop` is finished: it is set aside with its place in the beam and never extended. The search is over when
    no place is left, at `length` symbols, or when no live hypothesis can still become better than the best finished
    one; the live ones are then left out. With beam=1 this is the greedy continuation.

    Args:
        model: as for `sample`; all hypotheses go through it as one batch.
        prompt: numbers of symbols; an empty one stands for the start of a document.
        length: symbols of a hypothesis that does not end before.
        beam: hypotheses kept.
        length_penalty: alpha of `normalisation`; 0 compares log-probabilities, more favours longer hypotheses. It
            matters only where `stop` lets lengths differ.
        stop: symbols that end a hypothesis, and are part of it; the prompt is not looked at.
        banned: symbols never to be chosen. The probabilities of the others remain the model's own.

    Returns:
        At least one hypothesis and at most `beam`, all different, by falling score.

    Raises:
        ValueError: an argument is out of range, or logits that are not finite.
    """
    check_beam(length, beam, length_penalty)
    check_not_empty("stop", stop)
    ending = None if stop is None else torch.tensor(list(stop))
    finished: list[Hypothesis] = []
    ids, totals = torch.empty(1, 0, dtype=torch.int64), torch.zeros(1, dtype=torch.float64)  # of the live ones
    device = next(model.parameters()).device
    with evaluating(model):
        logits, state = prime(model, [prompt], device)
        for step in range(length):
            log_probs = mask_banned(logits.cpu().double().log_softmax(-1), banned)  # (K, V)
            totals, parents, symbols = _best(totals.unsqueeze(1) + log_probs, beam - len(finished))
            ids = torch.cat([ids[parents], symbols.unsqueeze(1)], dim=1)
            if ending is not None and step + 1 >= len(ending):
                is_over = (ids[:, -len(ending) :] == ending).all(1)
                finished += _hypotheses(ids[is_over], totals[is_over], length_penalty)
                ids, totals, parents = ids[~is_over], totals[~is_over], parents[~is_over]
                if not len(ids) or _is_settled(finished, float(totals[0]), length, length_penalty):
                    return _sorted(finished)
            if step + 1 < length:
                logits, state = advance(model, ids[:, -1].to(device), select_rows(state, parents))
    return _sorted([*finished, *_hypotheses(ids, totals, length_penalty)])


def _best(totals: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the totals, rows and symbols of the `width` best entries of (K, V), by falling total, first ones first."""
    values, places = totals.flatten().sort(descending=True, stable=True)
    width = min(width, int((values > -torch.inf).sum()))
    return values[:width], places[:width] // totals.shape[1], places[:width] % totals.shape[1]


def _hypotheses(ids: Tensor, totals: Tensor, alpha: float) -> list[Hypothesis]:
    """Return the hypotheses with symbols (K, N) and log-probabilities (K,)."""
    factor = normalisation(ids.shape[1], alpha)
    return [
        Hypothesis(tuple(row), total, total * factor) for row, total in zip(ids.tolist(), totals.tolist(), strict=True)
    ]


def _is_settled(finished: list[Hypothesis], best_live: float, length: int, alpha: float) -> bool:
    """Tell whether no live hypothesis can win: a total only falls, and the full length divides it by the most."""
    bound = best_live * normalisation(length, alpha)
    return any(hypothesis.score >= bound for hypothesis in finished)


def _sorted(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)
