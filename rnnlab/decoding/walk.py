"""One answer of an encoder-decoder model to each source, a symbol after the other.

A model is an nn.Module with `encode(source (B, S), lengths (B,))`, which returns a memory, `initial_state(memory)` and
`step(symbols (N,), state, memory)`, which returns logits (N, V) and a state; N is B or B*K, K hypotheses of each row of
the memory side by side. Memory and state are in the forms of `select_rows`. Letters: B batch, S source symbols, K
hypotheses, V target vocabulary, N target symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.decoding.sampling import check_choice, check_integer, evaluating
from rnnlab.decoding.state import is_worth_dropping, select_rows
from rnnlab.decoding.symbols import END, PADDING, START

Limit = int | Sequence[int] | Tensor
Choose = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits (R, V), numbers of rows (R,), over (R,) to symbols (R,)


class Walk(NamedTuple):
    """An answer to each of B sources.

    Attributes:
        ids: int64 (B, N), symbols, END, then `PADDING`; no END in an answer that came to its limit before.
        lengths: int64 (B,), how many symbols, END among them.
        log_probs: float64 (B,), in nats; zero where they were not asked for.
    """

    ids: Tensor
    lengths: Tensor
    log_probs: Tensor


@torch.no_grad()  # not inference_mode: what is chosen can be trained on
def walk(
    model: nn.Module,
    source: Tensor,
    lengths: Tensor,
    limits: Tensor,
    choose: Choose,
    banned: Sequence[int],
    scored: bool = False,
) -> Walk:
    """Choose symbols until each answer has END or as many as its limit; rows that are over leave the batch.

    Args:
        model, source, lengths, banned: see `rnnlab.decoding.translate`.
        limits: int64 (B,), on the CPU.
        choose: given logits with those of banned symbols at minus infinity; what it takes in rows that are over is
            dropped.
        scored: whether log-probabilities are wanted.

    Raises:
        ValueError: logits that are not finite, or every symbol is banned.
    """
    device, longest = source.device, int(limits.max())
    look_every = steps_between_looks(device)
    out = torch.tensor(list(banned), dtype=torch.int64, device=device)
    rows, limits = torch.arange(len(limits), device=device), limits.to(device)
    symbols, is_over = torch.full_like(rows, START), torch.zeros_like(rows, dtype=torch.bool)
    ids = torch.full((len(rows), longest), PADDING, device=device)
    counts, totals = torch.zeros_like(rows), torch.zeros(len(rows), dtype=torch.float64, device=device)
    can_choose = torch.ones_like(is_over)
    with evaluating(model):
        memory = model.encode(source, lengths)
        state = model.initial_state(memory)
        for step in range(longest):
            logits, state = model.step(symbols, state, memory)
            allowed = logits.index_fill(1, out, -torch.inf)
            symbols = choose(allowed, rows, is_over)
            chosen = allowed.gather(1, symbols.unsqueeze(1)).squeeze(1)
            can_choose = can_choose & (chosen.isfinite() | is_over)
            ids[rows, step] = symbols.masked_fill(is_over, PADDING)
            counts[rows] += is_over.logical_not()
            if scored:
                wide = torch.promote_types(logits.dtype, torch.float32)
                log_probs = chosen.to(wide) - logits.to(wide).logsumexp(1)
                totals[rows] += log_probs.double().masked_fill(is_over, 0)
            is_over = is_over | (symbols == END) | (limits <= step + 1)
            if (step + 1) % look_every and step + 1 < longest:
                continue
            check_choice(can_choose)
            num_live = len(rows) - int(is_over.sum())
            if not num_live:
                break
            if is_worth_dropping(num_live, len(rows)):
                kept = is_over.logical_not().nonzero().squeeze(1)
                rows, limits, symbols = rows[kept], limits[kept], symbols[kept]
                is_over, can_choose = is_over[kept], can_choose[kept]
                state, memory = select_rows(state, kept), select_rows(memory, kept)
    return Walk(ids[:, : int(counts.max())], counts, totals)


def steps_between_looks(device: torch.device) -> int:
    """Return after how many steps a walk looks at what is over, which on a GPU means to wait for it."""
    return 1 if device.type == "cpu" else 8


def likeliest(logits: Tensor, rows: Tensor, is_over: Tensor) -> Tensor:
    """Choose the likeliest symbol of each row; of equals, the first."""
    return logits.argmax(-1)


def check_max_length(max_length: Limit) -> None:
    """Raise ValueError unless limits are integers of at least 1."""
    given = torch.atleast_1d(max_length).tolist() if isinstance(max_length, Tensor) else max_length
    for limit in given if isinstance(given, Sequence) else [given]:
        check_integer("max_length", limit, 1)


def row_limits(max_length: Limit, num_rows: int) -> Tensor:
    """Return how many symbols each row may have, int64 (B,) on the CPU.

    Raises:
        ValueError: a limit below 1, or as many as there are not rows.
    """
    check_max_length(max_length)
    if isinstance(max_length, int):
        return torch.full((num_rows,), max_length)
    limits = torch.as_tensor(max_length, dtype=torch.int64).cpu()
    if limits.shape != (num_rows,):
        raise ValueError(
            f"max_length must be a number, or one for each of {num_rows} sources, got shape {tuple(limits.shape)}"
        )
    return limits
