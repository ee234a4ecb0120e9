"""Text from a language model, one symbol after the other, each drawn from what the model expects next.

A model is an nn.Module with `initial_state(batch_size)` and `forward(ids (B, T), state, lengths=, return_state=True)`,
which returns logits (B, T, V) and a state, as `rnnlab.models.CharLM` does. Letters: B batch, T time, V vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

UNKNOWN, START = 0, 1  # the first two numbers of a vocabulary of characters; never drawn
FINISHED = -1  # what `sample` yields for a row that is over

_BLOCK = 256  # steps for which random numbers are drawn at a time


def check_integer(name: str, value: Any, minimum: int, limit: int | None = None) -> None:
    """Raise ValueError unless a value is an integer, at least `minimum` and below `limit`."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < minimum or (limit is not None and value >= limit):
        below = "" if limit is None else f" and below {limit}"
        raise ValueError(f"{name} must be an integer of at least {minimum}{below}, got {value!r}")


def check_number(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a finite number of at least 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_not_empty(name: str, values: Sequence[Any] | None) -> None:
    """Raise ValueError if a sequence is given that holds nothing."""
    if values is not None and not len(values):
        raise ValueError(f"{name} must not be empty")


def check_sampling(
    length: int, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0
) -> None:
    """Raise ValueError, naming what was given and what is allowed, unless `sample` can take these arguments."""
    check_integer("length", length, 1)
    check_number("temperature", temperature)
    if top_k is not None:
        check_integer("top_k", top_k, 1)
    if top_p is not None and (not isinstance(top_p, int | float) or isinstance(top_p, bool) or not 0 < top_p <= 1):
        raise ValueError(f"top_p must be a number above 0 and at most 1, got {top_p!r}")
    check_integer("seed", seed, 0, 2**32)  # the generator uses no more bits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a block, and afterwards each of its parts back into the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.inference_mode()
def prime(model: nn.Module, prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Any]:
    """Read prompts, each behind START, in one forward pass.

    Args:
        model: in evaluation mode, if noise of training is not wanted.
        prompts: numbers of symbols of B prompts, of any lengths, zero included.
        device: where the model is.

    Returns:
        Logits (B, V) of the symbol that follows each prompt, and the state behind it.

    Raises:
        ValueError: there is no prompt.
    """
    check_not_empty("prompts", prompts)
    rows = [torch.tensor([START, *prompt]) for prompt in prompts]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    # Rows of one length take the route of whole sequences through the layers, which is faster.
    masks = {} if all(len(row) == ids.shape[1] for row in rows) else {"lengths": lengths}
    logits, state = model(ids, model.initial_state(len(rows)), return_state=True, **masks)
    return logits[torch.arange(len(rows), device=device), lengths - 1], state


@torch.inference_mode()
def advance(model: nn.Module, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Read one symbol a row, int64 (B,) where the model is; return the logits (B, V) of the next ones and the state."""
    logits, state = model(ids.unsqueeze(1), state, return_state=True)
    return logits[:, -1], state


def mask_banned(logits: Tensor, banned: Sequence[int] | Tensor, is_over: Tensor | None = None) -> Tensor:
    """Return logits or log-probabilities (B, V) with those of banned symbols at minus infinity.

    Args:
        logits: (B, V).
        banned: numbers of symbols.
        is_over: bool (B,), rows of which nothing is chosen any more, whatever stands in them; None for none.

    Raises:
        ValueError: another row has no finite maximum: its model diverged, or every symbol is banned.
    """
    if not isinstance(banned, Tensor):
        banned = torch.tensor(list(banned), dtype=torch.int64, device=logits.device)
    logits = logits.index_fill(-1, banned, -math.inf)
    can_choose = logits.amax(-1).isfinite()
    check_choice(can_choose if is_over is None else can_choose | is_over)
    return logits


def check_choice(can_choose: Tensor) -> None:
    """Raise ValueError unless there is a symbol to choose in every row."""
    if not can_choose.all():
        raise ValueError("no symbol to choose: the model's logits are not finite, or every symbol is banned")


def next_distribution(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    banned: Sequence[int] = (),
) -> Tensor:
    """Return the probabilities from which the next symbol is drawn.

    What is banned goes first, then the temperature is applied, then `top_k`, then `top_p` among what that has left. Of
    equally likely symbols, the first ones are kept.

    Args:
        logits: (B, V).
        temperature: divisor of the logits; 0 puts everything on the most likely symbol.
        top_k: how many of the most likely symbols to keep; None for all.
        top_p: keep the smallest set of the most likely symbols whose probability reaches this, at least one (nucleus
            sampling, Holtzman et al., 2020); None for all.
        banned: symbols never to be drawn.

    Returns:
        (B, V), float64; each row sums to one.

    Raises:
        ValueError: logits that are not finite, or nothing left to draw.
    """
    logits = mask_banned(logits.double(), banned)
    best, most_likely = logits.max(dim=-1, keepdim=True)
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, most_likely, 1.0)
    # Less the maximum before the division, or a small temperature would overflow.
    probabilities = ((logits - best) / temperature).softmax(-1)
    if top_k is None and top_p in (None, 1):
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = 0
    if top_p not in (None, 1):
        reached = ordered.cumsum(-1) >= top_p * ordered.sum(-1, keepdim=True)
        ordered[:, 1:].masked_fill_(reached[:, :-1], 0)
    kept = torch.zeros_like(ordered).scatter(-1, order, ordered)
    return kept / kept.sum(-1, keepdim=True)


def sample(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Sequence[int] | None = None,
    seed: int = 0,
    banned: Sequence[int] = (UNKNOWN, START),
) -> Iterator[Tensor]:
    """Continue prompts, all side by side, and hand out the symbols as they are drawn.

    The random numbers are a function of the seed, the row and the step: what a row becomes depends neither on what
    stands beside it, but for rounding in the model's products, nor on `length`. torch's global generators are not
    touched. The model is in evaluation mode from the first symbol until the iterator ends or is closed.

    Args:
        model: see the head of this file.
        prompts: numbers of symbols of B prompts; an empty one stands for the start of a document.
        length: symbols to draw a row, at most.
        temperature, top_k, top_p, banned: see `next_distribution`.
        stop: a row is over once it has drawn these symbols in a row. They are part of it; the prompt is not looked at.
        seed: of the random numbers, below 2**32.

    Returns:
        An iterator over steps, of int64 (B,) on the CPU: the symbol just drawn, or `FINISHED` in rows that were over
        before. It ends when all rows are.

    Raises:
        ValueError: an argument is out of range, at once; logits that are not finite, later on.
    """
    check_sampling(length, temperature, top_k, top_p, seed)
    check_not_empty("prompts", prompts)
    check_not_empty("stop", stop)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "banned": banned}
    return _steps(model, prompts, length, stop, seed, options)


def _steps(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    length: int,
    stop: Sequence[int] | None,
    seed: int,
    options: dict[str, Any],
) -> Iterator[Tensor]:
    # Inference mode ends with each call of the model: around a `yield` it would hold in the caller's code too.
    ending = None if stop is None else torch.tensor(list(stop))
    latest: deque[Tensor] = deque(maxlen=0 if stop is None else len(stop))
    is_over = torch.zeros(len(prompts), dtype=torch.bool)
    device = next(model.parameters()).device
    with evaluating(model):
        logits, state = prime(model, prompts, device)
        for step, numbers in zip(range(length), uniform_numbers(seed, len(prompts)), strict=False):
            # A few numbers: chosen on the CPU, where they have to go anyway, and alike for all devices.
            ids = draw(next_distribution(logits.cpu(), **options), numbers)
            yield ids.masked_fill(is_over, FINISHED)
            latest.append(ids)
            if ending is not None and len(latest) == len(ending):
                is_over = is_over | (torch.stack(list(latest), dim=1) == ending).all(1)
            if is_over.all() or step + 1 == length:
                return
            logits, state = advance(model, ids.to(device), state)


def uniform_numbers(seed: int, num_rows: int) -> Iterator[Tensor]:
    """Yield numbers in [0, 1), float64 (B,), without end: a function of the seed, the row and the step alone."""
    seeds = torch.randint(2**32, (num_rows,), generator=torch.Generator().manual_seed(seed)).tolist()
    rows = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        yield from torch.stack([torch.rand(_BLOCK, generator=row, dtype=torch.float64) for row in rows], dim=1)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return the symbols (B,) at which the cumulative probabilities (B, V) first exceed uniform numbers (B,)."""
    cumulative = probabilities.cumsum(-1)
    # Below the last entry, also when rounded, as a number below one is at most 1 - 2**-53; and "exceed" leaves out
    # symbols of probability zero.
    threshold = uniform.unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
