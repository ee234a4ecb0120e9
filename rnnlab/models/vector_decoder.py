"""One vector to a sequence of symbols: a recurrent decoder that knows all it is told from its first step on.

Letters: B batch, S source symbols, U target symbols, V symbols of the target vocabulary, N rows of a step (B, or B*K
for K hypotheses a source), C numbers of the vector, E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from rnnlab.decoding.symbols import END, PADDING
from rnnlab.models.bridge import FirstState
from rnnlab.models.layers import (
    LockedDropout,
    RecurrentFactory,
    decoder_input,
    embedding_table,
    initialise_all,
    output_width,
)

_NUM_SPECIAL = END + 1


class Told(NamedTuple):
    """What a decoder knows of B sources.

    Attributes:
        start: its first state.
        vector: (B, C), read at each step; None if it is not.
    """

    start: Any
    vector: Tensor | None


class VectorDecoder(nn.Module):
    """A source's symbols as one vector -> first state -> recurrent layers -> logits of the next symbol.

    The vector is the source's symbols, one-hot, side by side: nothing is read one after the other. Each part of the
    first state is a linear map of it; with `each_step`, the vector joins the embedding of every symbol read as well.
    An unknown symbol is zeros, as are the places behind the end of a source.

    Args:
        rnn: factory of recurrent layers of `rnnlab.nn`, called with `input_size`.
        source_size: symbols of the source vocabulary.
        target_size: V.
        source_length: S, symbols of a source at most.
        embedding_size: E.
        each_step: see above.
        dropout: rate of dropout on embeddings and before the read-out, with one mask for all steps of a call.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.
        shared_vocabulary: of the data, and of no meaning here.

    Raises:
        ValueError: a layer in both directions, or one whose state cannot be set; an option out of range.

    Example:
        >>> import functools, torch
        >>> from rnnlab.nn import GRU
        >>> rnn = functools.partial(GRU, hidden_size=16)
        >>> model = VectorDecoder(rnn, source_size=14, target_size=9, source_length=3)
        >>> memory = model.encode(torch.tensor([[4, 5, 6], [7, 8, 0]]), torch.tensor([3, 2]))
        >>> logits, state = model.step(torch.tensor([2, 2]), model.initial_state(memory), memory)
        >>> logits.shape
        torch.Size([2, 9])
    """

    reads_own = False  # in training
    attention = None  # there is nothing to look at

    def __init__(
        self,
        rnn: RecurrentFactory,
        source_size: int,
        target_size: int,
        source_length: int,
        embedding_size: int = 32,
        each_step: bool = True,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
        shared_vocabulary: bool | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(source_length, int) or isinstance(source_length, bool) or source_length < 1:
            raise ValueError(f"model.source_length must be an integer of at least 1, got {source_length!r}")
        self.source_size, self.source_length, self.each_step = source_size, source_length, each_step
        width = source_length * (source_size - _NUM_SPECIAL)
        self.target_table = embedding_table(target_size, embedding_size)
        self.rnn = rnn(input_size=embedding_size + (width if each_step else 0))
        self.first_state = FirstState(width, self.rnn)
        self.dropout = LockedDropout(dropout)
        self.head = nn.Linear(output_width(self.rnn), target_size)
        initialise_all([self.rnn], self.head, init)

    def encode(self, source: Tensor, lengths: Tensor) -> Told:
        """Read sources, int64 (B, S), of these lengths (B,).

        Raises:
            ValueError: one has more symbols than a vector has place for.
        """
        length = source.shape[1]
        if length > self.source_length:
            raise ValueError(f"a source of {length} symbols does not fit model.source_length={self.source_length}")
        steps = torch.arange(length, device=source.device)
        source = source.where(steps < lengths.to(source.device).unsqueeze(1), PADDING)
        source = pad(source, (0, self.source_length - length), value=PADDING)
        vector = one_hot(source, self.source_size)[..., _NUM_SPECIAL:].flatten(1).to(self.head.weight.dtype)
        start = self.first_state(vector, self.rnn.initial_state(source.shape[0]))
        return Told(start, vector if self.each_step else None)

    def initial_state(self, memory: Told) -> Any:
        """Return the state before the first symbol of each source."""
        return memory.start

    def step(self, token: Tensor, state: Any, memory: Told) -> tuple[Tensor, Any]:
        """Read a symbol of each row, int64 (N,), as `EncoderDecoder.step`: logits of the next (N, V), and the state."""
        output, state = self.rnn.step(self._input(token.unsqueeze(0), memory)[0], state)
        return self.head(self.dropout(output)), state

    def forward(self, batch: Any) -> Tensor:
        """Return the logits (B, U, V) of each target symbol, given those before it.

        Args:
            batch: with `source`, `source_lengths` and `target`, as `rnnlab.data.PairBatch`.
        """
        memory = self.encode(batch.source, batch.source_lengths)
        output, _ = self.rnn(self._input(decoder_input(batch.target).t(), memory), memory.start)
        return self.head(self.dropout(output)).transpose(0, 1)

    def _input(self, tokens: Tensor, memory: Told) -> Tensor:
        """Return what is read with symbols (U, N): their embeddings and, with `each_step`, the vectors, (U, N, ...)."""
        x = self.dropout(self.target_table(tokens))
        if memory.vector is None:
            return x
        vector = memory.vector.repeat_interleave(tokens.shape[1] // memory.vector.shape[0], dim=0)
        return torch.cat([x, vector.expand(x.shape[0], -1, -1)], dim=2)
