"""A recurrent language model over characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import one_hot

from rnnlab.models.layers import LockedDropout, RecurrentFactory, initialise_all, output_width


class CharLM(nn.Module):
    """Characters -> embedding or one-hot -> recurrent layers -> logits of the next character, at every step.

    Args:
        rnn: factory of recurrent layers, called with `input_size`.
        vocab_size: V, number of symbols.
        embedding_size: E; None feeds characters as one-hot vectors, as char-rnn does.
        tie_weights: the read-out's weight is the embedding's (Press and Wolf, 2017; Inan et al., 2017).
        dropout: locked dropout on the embedding and on the output of the layers.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: tied weights of different widths, a bidirectional layer, which would have read the answer, a size
            below 1, or a rate outside [0, 1).

    Example:
        >>> import functools, torch
        >>> model = CharLM(functools.partial(torch.nn.LSTM, hidden_size=16), vocab_size=12)
        >>> model(torch.zeros(2, 7, dtype=torch.int64)).shape
        torch.Size([2, 7, 12])
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        vocab_size: int,
        embedding_size: int | None = None,
        tie_weights: bool = False,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if embedding_size is not None and (not isinstance(embedding_size, int) or embedding_size < 1):
            raise ValueError(f"model.embedding_size must be an integer of at least 1 or null, got {embedding_size!r}")
        self.vocab_size = vocab_size
        self.embedding = None if embedding_size is None else nn.Embedding(vocab_size, embedding_size)
        self.rnn = rnn(input_size=vocab_size if embedding_size is None else embedding_size)
        if self.rnn.bidirectional:
            raise ValueError(
                "a language model needs rnn.bidirectional=false: the reverse direction has read the answer"
            )
        width = output_width(self.rnn)
        self.dropout = LockedDropout(dropout)
        self.head = nn.Linear(width, vocab_size)
        initialise_all([self.rnn], self.head, init)
        if tie_weights:
            if self.embedding is None or embedding_size != width:
                raise ValueError(
                    f"tie_weights=true needs model.embedding_size={width}, the width of the layer's output, got "
                    f"{embedding_size}"
                )
            # The read-out's scale: rows of N(0, 1), an embedding's start, would make the first logits large.
            self.embedding.weight = self.head.weight

    def initial_state(self, batch_size: int) -> Any:
        """Return the recurrent layer's state before the first step of B rows; None, for zeros, if it makes none."""
        make = getattr(self.rnn, "initial_state", None)  # torch's own layers have none
        return None if make is None else make(batch_size)

    def forward(
        self,
        ids: Tensor,
        state: Any = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the logits of the character after each one read.

        Args:
            ids: int64 (B, T).
            state: the recurrent layer's state before the first step, in the form of its `hx`; zeros if None.
            lengths: int64 (B,), steps of each row; the state is that behind the last of them, logits beyond are of no
                meaning.
            reset: bool (B, T), steps before which the state is set to zero.
            return_state: return the state after the last step too.

        Returns:
            Logits (B, T, V); with `return_state`, a pair of these and the state.
        """
        ids = ids.t()
        if self.embedding is None:
            x = one_hot(ids, self.vocab_size).to(self.head.weight.dtype)  # (T, B, V)
        else:
            x = self.dropout(self.embedding(ids))
        masks = {"lengths": lengths, "reset": None if reset is None else reset.t()}
        given = {name: mask for name, mask in masks.items() if mask is not None}
        if len(x) == 1 and not given and not self.training and hasattr(self.rnn, "step"):
            # While sampling: oneDNN packs the weights of a layer anew at each call, at several times a step's cost.
            output, state = self.rnn.step(x[0], state)
            output = output.unsqueeze(0)
        else:
            output, state = self.rnn(x, state, **given)
        output = self.dropout(output)  # (T, B, H)
        logits = self.head(output).transpose(0, 1)
        return (logits, state) if return_state else logits
