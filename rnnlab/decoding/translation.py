"""Answers of encoder-decoder models: greedy, drawn at random, or the best of a beam.

What a model has to have: see the head of `rnnlab.decoding.walk`, also for the letters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rnnlab.decoding.beam import Hypothesis, hypotheses
from rnnlab.decoding.sampling import (
    check_integer,
    check_number,
    check_sampling,
    draw,
    evaluating,
    next_distribution,
    uniform_numbers,
)
from rnnlab.decoding.search import Found, normalisation, search
from rnnlab.decoding.symbols import END, PADDING, START, UNKNOWN
from rnnlab.decoding.walk import Limit, check_max_length, likeliest, row_limits, walk

BANNED = (PADDING, UNKNOWN, START)


def check_translation(max_length: Limit, beam: int = 1, n_best: int = 1, length_penalty: float = 0.0) -> None:
    """Raise ValueError, naming what was given and what is allowed, unless `translate` can take these arguments."""
    check_max_length(max_length)
    check_integer("beam", beam, 1)
    check_integer("n_best", n_best, 1)
    if n_best > beam:
        raise ValueError(f"n_best must be at most the width of the beam, {beam}, got {n_best}")
    check_number("length_penalty", length_penalty)


def translate(
    model: nn.Module,
    source: Tensor,
    lengths: Tensor,
    *,
    max_length: Limit,
    beam: int = 1,
    n_best: int = 1,
    length_penalty: float = 0.0,
    banned: Sequence[int] = BANNED,
) -> list[list[Hypothesis]]:
    """Return the likeliest answers to each source that a beam finds; see `rnnlab.decoding.search.search`.

    Answers to a source depend on nothing beside it, but for rounding in the model's products. With beam=1 they are the
    greedy ones. The model is put into evaluation mode meanwhile.

    Args:
        model: see the head of this file.
        source: (B, S), where the model is, int64, or (B, S, F) if it reads vectors; anything in padding.
        lengths: int64 (B,), symbols of each source.
        max_length: symbols of an answer at most, END among them; or one number for each source.
        beam: hypotheses kept for each source.
        n_best: answers to each source.
        length_penalty: alpha of `rnnlab.decoding.search.normalisation`; END counts.
        banned: symbols never to be chosen. The probabilities of the others remain the model's own.

    Returns:
        For each source at least one hypothesis and at most `n_best`, all different, by falling score: `ids` without
        END, `log_prob` with that of END. One that has `max_length` symbols and no END stands among them by its score.

    Raises:
        ValueError: an argument is out of range, or logits that are not finite.
    """
    check_translation(max_length, beam, n_best, length_penalty)
    limits = row_limits(max_length, len(source))
    if beam == 1:
        ids, counts, totals = (
            part.cpu() for part in walk(model, source, lengths, limits, likeliest, banned, scored=True)
        )
        factors = torch.tensor([normalisation(n, length_penalty) for n in counts.tolist()], dtype=torch.float64)
        found = Found(*(part.unsqueeze(1) for part in (ids, counts, totals, totals * factors)))
        return [[_without_end(hypothesis) for hypothesis in row] for row in hypotheses(found)]
    with torch.inference_mode(), evaluating(model):
        memory = model.encode(source, lengths)
        logits, state = model.step(
            torch.full((len(source),), START, device=source.device), model.initial_state(memory), memory
        )
        found = search(
            model.step,
            logits,
            state,
            memory,
            limits,
            beam=beam,
            n_best=n_best,
            length_penalty=length_penalty,
            ending=(END,),
            banned=banned,
        )
    found = Found(*(part[:, :n_best].cpu() for part in found))
    return [[_without_end(hypothesis) for hypothesis in row] for row in hypotheses(found)]


def greedy(
    model: nn.Module, source: Tensor, lengths: Tensor, *, max_length: Limit, banned: Sequence[int] = BANNED
) -> Tensor:
    """Return the answer to each source that takes the likeliest symbol at each step; of equals, the first.

    Args:
        model, source, lengths, max_length, banned: see `translate`.

    Returns:
        int64 (B, N), where the source is: symbols, END, then `PADDING`, as wide as the longest; no END in an answer
        that came to `max_length` symbols before.

    Raises:
        ValueError: an argument is out of range, or logits that are not finite.
    """
    return walk(model, source, lengths, row_limits(max_length, len(source)), likeliest, banned).ids


def sample_translations(
    model: nn.Module,
    source: Tensor,
    lengths: Tensor,
    *,
    max_length: Limit,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    banned: Sequence[int] = BANNED,
) -> Tensor:
    """Return an answer to each source, each symbol drawn from what the model expects next.

    The random numbers are a function of the seed, the row and the step, as those of `rnnlab.decoding.sample`.

    Args:
        model, source, lengths, max_length: see `translate`.
        temperature, top_k, top_p, banned: see `next_distribution`.
        seed: of the random numbers, below 2**32.

    Returns:
        int64 (B, N), in the form of `greedy`.

    Raises:
        ValueError: an argument is out of range, or logits that are not finite.
    """
    check_sampling(1, temperature, top_k, top_p, seed)
    limits, numbers = row_limits(max_length, len(source)), uniform_numbers(seed, len(source))

    def choose(logits: Tensor, rows: Tensor, is_over: Tensor) -> Tensor:
        # On the CPU, so that all devices draw alike.
        logits = logits.masked_fill(is_over.unsqueeze(1), 0).cpu()
        symbols = draw(next_distribution(logits, temperature, top_k, top_p), next(numbers)[rows.cpu()])
        return symbols.to(rows.device)

    return walk(model, source, lengths, limits, choose, banned).ids


def _without_end(hypothesis: Hypothesis) -> Hypothesis:
    ids = hypothesis.ids
    return hypothesis._replace(ids=ids[:-1]) if ids[-1] == END else hypothesis
