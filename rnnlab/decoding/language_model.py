"""Language models for searches among texts: what they are asked, and a trained character model that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rnnlab.decoding.sampling import advance, prime


class LanguageModel(Protocol):
    """What expects symbols from those before them, such as `rnnlab.baselines.NGram`; numbers are the search's."""

    def start(self) -> Any:
        """Return the state before the first symbol."""

    def score(self, state: Any, symbol: int) -> tuple[float, Any]:
        """Return the log-probability of a symbol, in nats, and the state behind it."""


class CharacterModel:
    """A model like `rnnlab.models.CharLM` as a language model; it reads a symbol when it is first asked what follows.

    Args:
        model: of a vocabulary with `START`; it is set to evaluation mode.
        numbers: for each symbol of the search its number in the model's vocabulary; that of the blank is never used.
        prompt: numbers in that vocabulary of what comes before each text, such as the end of a line.
    """

    def __init__(self, model: nn.Module, numbers: Sequence[int], prompt: Sequence[int] = ()) -> None:
        self.model, self.numbers, self.prompt = model.eval(), numbers, prompt
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def start(self) -> _Reading:
        """Return the state before the first symbol."""
        logits, state = prime(self.model, [self.prompt], self.device)
        return _Reading(None, 0, (_log_probs(logits), state))

    def score(self, state: _Reading, symbol: int) -> tuple[float, _Reading]:
        """Return the log-probability of a symbol, in nats, and the state behind it."""
        if state.read is None:
            ids = torch.tensor([state.number], device=self.device)
            logits, behind = advance(self.model, ids, state.before)
            state.read = _log_probs(logits), behind
        log_probs, behind = state.read
        number = self.numbers[symbol]
        return log_probs[number], _Reading(behind, number)


class _Reading:
    """The state before a symbol and its number, and what reading it gave: log-probabilities, state."""

    __slots__ = ("before", "number", "read")

    def __init__(self, before: Any, number: int, read: tuple[list[float], Any] | None = None) -> None:
        self.before, self.number, self.read = before, number, read


def _log_probs(logits: Tensor) -> list[float]:
    result: list[float] = logits[0].double().log_softmax(-1).tolist()
    return result
