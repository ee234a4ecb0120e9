"""Search for the most likely continuation of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    prime,
)
from rnnlab.decoding.search import Found, search


class Hypothesis(NamedTuple):
    """A continuation.

    Attributes:
        ids: its symbols, without the prompt.
        log_prob: their log-probability under the model, in nats.
        score: `log_prob` divided by the length penalty, see `rnnlab.decoding.search.normalisation`.
    """

    ids: tuple[int, ...]
    log_prob: float
    score: float


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
    device = next(model.parameters()).device

    def step(symbols: Tensor, state: Any, memory: None) -> tuple[Tensor, Any]:
        logits, state = advance(model, symbols.to(device), state)
        return logits.cpu().double(), state

    with evaluating(model):
        logits, state = prime(model, [prompt], device)
        found = search(
            step,
            logits.cpu().double(),
            state,
            None,
            torch.tensor([length]),
            beam=beam,
            length_penalty=length_penalty,
            ending=stop,
            banned=banned,
        )
    return hypotheses(found)[0]


def hypotheses(found: Found) -> list[list[Hypothesis]]:
    """Return the hypotheses of each source as lists."""
    rows = zip(*(part.tolist() for part in found), strict=True)
    return [
        [Hypothesis(tuple(ids[:n]), log_prob, score) for ids, n, log_prob, score in zip(*row, strict=True) if n]
        for row in rows
    ]
