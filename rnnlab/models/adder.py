"""Encoder and decoder that read a question and write its answer, all characters at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import one_hot

from rnnlab.models.layers import RecurrentFactory, initialise_all, last_output, output_width


class Adder(nn.Module):
    """One-hot question -> encoder -> its last output, repeated -> decoder -> one character per step.

    The network of the Keras example addition_rnn.py. The decoder sees the same code at every step and none of its own
    characters.

    Args:
        rnn: factory of recurrent layers, called with `input_size` for the encoder and again for the decoder.
        vocab_size: V, number of characters.
        answer_length: A, characters of an answer, padding included.
        init: arguments of `rnnlab.nn.init.initialise` for both layers; None keeps torch's initialisation.

    Example:
        >>> import functools, torch
        >>> model = Adder(functools.partial(torch.nn.LSTM, hidden_size=16), vocab_size=12, answer_length=4)
        >>> model(torch.zeros(2, 7, dtype=torch.int64)).shape
        torch.Size([2, 4, 12])
    """

    def __init__(
        self, rnn: RecurrentFactory, vocab_size: int, answer_length: int, init: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size, self.answer_length = vocab_size, answer_length
        self.encoder = rnn(input_size=vocab_size)
        self.decoder = rnn(input_size=output_width(self.encoder))
        self.head = nn.Linear(output_width(self.decoder), vocab_size)
        initialise_all([self.encoder, self.decoder], self.head, init)

    def forward(self, questions: Tensor) -> Tensor:
        """Return the logits of the answer's characters.

        Args:
            questions: character ids, int64 (B, T).

        Returns:
            Logits (B, A, V).
        """
        # Time-major from here: ids are cheaper to transpose than what follows from them.
        x = one_hot(questions.t(), self.vocab_size).to(self.head.weight.dtype)  # (T, B, V)
        encoded, _ = self.encoder(x)
        code = last_output(encoded, self.encoder)  # (B, H)
        decoded, _ = self.decoder(code.expand(self.answer_length, *code.shape))  # (A, B, H)
        return self.head(decoded).transpose(0, 1)
