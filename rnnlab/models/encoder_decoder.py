"""A recurrent encoder and a recurrent decoder, with attention between them or without.

Letters: B batch, S source symbols, U target symbols, V symbols of the target vocabulary, N rows of a step (B, or B*K
for K hypotheses a source), E embedding, M width of the encoder's output, H of the decoder's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.models.attention import Attention, Diagonal
from rnnlab.models.bridge import Bridge
from rnnlab.models.layers import (
    LockedDropout,
    RecurrentFactory,
    check_shared,
    decoder_input,
    embedding_table,
    initialise_all,
    output_width,
)


class Memory(NamedTuple):
    """What a decoder knows of B sources.

    Attributes:
        start: the decoder's first state.
        keys, outputs: of the encoder's steps, (S, B, A) and (S, B, M), see `Attention`; None without attention.
        mask: bool (S, B, 1), the steps that count; None if all do, or without attention.
        last: number of each source's last step, int64 (1, B, 1); None without a window.
    """

    start: Any
    keys: Tensor | None
    outputs: Tensor | None
    mask: Tensor | None
    last: Tensor | None = None


class DecoderState(NamedTuple):
    """What moves from step to step.

    Attributes:
        rnn: the layer's state.
        fed: the vector that was read out, (N, F), with input feeding; else None.
        position: number of the step to come, int64 (N, 1), with a window; else None.
    """

    rnn: Any
    fed: Tensor | None
    position: Tensor | None = None


class EncoderDecoder(nn.Module):
    """Source symbols -> encoder -> bridge -> decoder, attending to the encoder's steps -> logits of the next symbol.

    Sutskever et al. (2014) without attention, where the last state says all; Luong et al. (2015) with it: the decoder's
    output and the context it asks for make a vector tanh(W [context; output]), which is read out and, with input
    feeding, joins the next symbol's embedding. As long as nothing of a step's output goes into the next step, neither
    this vector nor a symbol of the model's own, the decoder reads the whole target in one call of its layer.

    Args:
        rnn: factory of recurrent layers of `rnnlab.nn`, called with `input_size` for the encoder.
        source_size: symbols of the source vocabulary; None for a subclass whose sources are no symbols, see `embed`.
        target_size: V.
        decoder: the same for the decoder; None for a layer like the encoder's, in one direction.
        embedding_size: E.
        attention: "none", "additive", "dot", "general" or "concat", see `rnnlab.models.attention`.
        attention_size: see there.
        window: D, to attend near the diagonal alone, see `rnnlab.models.attention.Diagonal`; for answers that go along
            with their source. None for the whole source.
        input_feeding: feed what was attended to into the next step; needs attention.
        dropout: rate of dropout on embeddings and before the read-out, with one mask for all steps of a call.
        share_embeddings: one table of embeddings for both sides, which must have one vocabulary.
        tie_embeddings: the read-out's weight is the target's table (Press and Wolf, 2017). With attention, the vector
            that is read out gets its width; without, the decoder must have it.
        init: arguments of `rnnlab.nn.init.initialise` for both layers; None keeps torch's initialisation.
        shared_vocabulary: whether a number is the same symbol on both sides; None: where there are as many.

    Raises:
        ValueError: sides that do not fit together, each named; an option out of range.

    Example:
        >>> import functools, torch
        >>> from rnnlab.nn import GRU
        >>> model = EncoderDecoder(functools.partial(GRU, hidden_size=16), source_size=12, target_size=9)
        >>> memory = model.encode(torch.tensor([[4, 5, 6], [7, 8, 0]]), torch.tensor([3, 2]))
        >>> logits, state = model.step(torch.tensor([2, 2]), model.initial_state(memory), memory)
        >>> logits.shape
        torch.Size([2, 9])
    """

    reads_own = True  # in training, where it is asked to

    def __init__(
        self,
        rnn: RecurrentFactory,
        source_size: int | None,
        target_size: int,
        decoder: RecurrentFactory | None = None,
        embedding_size: int = 64,
        attention: str = "general",
        attention_size: int | None = None,
        window: int | None = None,
        input_feeding: bool = False,
        dropout: float = 0.0,
        share_embeddings: bool = False,
        tie_embeddings: bool = False,
        init: Mapping[str, Any] | None = None,
        shared_vocabulary: bool | None = None,
    ) -> None:
        super().__init__()
        if input_feeding and attention == "none":
            raise ValueError("model.input_feeding=true feeds what was attended to: it needs model.attention")
        if window is not None and attention == "none":
            raise ValueError("model.window bounds what is attended to: it needs model.attention")
        if decoder is not None and not callable(decoder):
            raise ValueError(f"model.decoder must be a recurrent layer or null, got {decoder!r}")
        if decoder is None:
            decoder = functools.partial(rnn, bidirectional=False)
        self.source_table = None if source_size is None else embedding_table(source_size, embedding_size)
        if share_embeddings:
            if source_size is None or self.source_table is None:
                raise ValueError("model.share_embeddings=true needs sources that are symbols")
            check_shared("model.share_embeddings", source_size, target_size, shared_vocabulary)
            self.target_table = self.source_table
        else:
            self.target_table = embedding_table(target_size, embedding_size)
        self.encoder = rnn(input_size=embedding_size)
        memory_width = output_width(self.encoder)
        # The widths of a layer do not depend on its input.
        width = output_width(decoder(input_size=embedding_size)) if input_feeding else None
        fed = 0 if width is None else (embedding_size if tie_embeddings else width)
        self.decoder = decoder(input_size=embedding_size + fed)
        self.bridge = Bridge(self.encoder, self.decoder)
        width = output_width(self.decoder)
        self.attention: Attention | None = None
        self.diagonal: Diagonal | None = None
        self.input_feeding = input_feeding
        if attention == "none":
            read = width
        else:
            self.attention = Attention(attention, width, memory_width, attention_size)
            read = embedding_size if tie_embeddings else width
            self.diagonal = None if window is None else Diagonal(window)
            self.combine = nn.Linear(memory_width + width, read, bias=False)
        self.read_size = read
        self.dropout = LockedDropout(dropout)
        self.head = nn.Linear(read, target_size)
        initialise_all([self.encoder, self.decoder], self.head, init)
        if tie_embeddings:
            if read != embedding_size:
                raise ValueError(
                    f"model.tie_embeddings=true without attention needs model.embedding_size={read}, the width of the "
                    f"decoder's output, got {embedding_size}"
                )
            self.head.weight = self.target_table.weight

    def embed(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder reads of sources (B, S), (S, B, E), and how many steps of it count, int64 (B,)."""
        assert self.source_table is not None
        return self.source_table(source.t()), lengths

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read sources, int64 (B, S), of these lengths (B,)."""
        x, lengths = self.embed(source, lengths)
        x = self.dropout(x)
        # Batches are made of sources of one length where that can be; on a GPU, to ask would be to wait.
        is_full = not torch.compiler.is_exporting() and not lengths.is_cuda and bool((lengths == x.shape[0]).all())
        outputs, state = self.encoder(x) if is_full else self.encoder(x, lengths=lengths)
        start = self.bridge(state, self.decoder.initial_state(source.shape[0]))
        if self.attention is None:
            return Memory(start, None, None, None)
        steps = torch.arange(x.shape[0], device=source.device)
        mask = None if is_full else (steps[:, None] < lengths).unsqueeze(2)
        last = None if self.diagonal is None else (lengths.to(source.device) - 1).view(1, -1, 1)
        return Memory(start, self.attention.keys(outputs), outputs, mask, last)

    def initial_state(self, memory: Memory) -> DecoderState:
        """Return the state before the first symbol of each source."""
        fed = None
        if self.input_feeding:
            assert memory.outputs is not None
            fed = memory.outputs.new_zeros(memory.outputs.shape[1], self.read_size)
        return DecoderState(memory.start, fed, None if memory.last is None else torch.zeros_like(memory.last[0]))

    def step(self, token: Tensor, state: DecoderState, memory: Memory) -> tuple[Tensor, DecoderState]:
        """Read one symbol.

        Args:
            token: int64 (N,); with N = B*K, rows b*K ... b*K+K-1 are hypotheses of source b.
            state: of N rows.
            memory: of B sources.

        Returns:
            Logits of the next symbol (N, V), and the state behind this one.
        """
        vector, _, state = self._advance(self.dropout(self.target_table(token)), state, memory)
        return self.head(self.dropout(vector)), state

    def forward(self, batch: Any, teacher_forcing: float = 1.0) -> Tensor:
        """Return the logits of each target symbol, given those before it.

        Args:
            batch: with `source`, `source_lengths` and `target`, as `rnnlab.data.PairBatch`.
            teacher_forcing: how likely each symbol that is read is the true one; the others are what the model itself
                thinks most likely (Bengio et al., 2015).

        Returns:
            Logits (B, U, V).
        """
        memory = self.encode(batch.source, batch.source_lengths)
        vectors = self._vectors(batch.target, memory, teacher_forcing)  # (U, B, F)
        return self.head(self.dropout(vectors)).transpose(0, 1)

    def attention_weights(self, batch: Any) -> Tensor:
        """Return what each target symbol attended to, (B, U, S), rows adding up to one.

        Raises:
            ValueError: the model has no attention.
        """
        if self.attention is None:
            raise ValueError("this model has no attention: model.attention=none")
        memory = self.encode(batch.source, batch.source_lengths)
        inputs, state = self.target_table(decoder_input(batch.target).t()), self.initial_state(memory)
        weights = []
        for x in inputs:
            _, found, state = self._advance(x, state, memory)
            weights.append(found)
        return torch.cat(weights, dim=1)

    def _vectors(self, target: Tensor, memory: Memory, teacher_forcing: float) -> Tensor:
        """Return what is read out at each step, (U, B, F)."""
        tokens = decoder_input(target).t()
        state = self.initial_state(memory)
        x = self.dropout(self.target_table(tokens))  # (U, B, E)
        if not self.input_feeding and teacher_forcing >= 1:
            hidden, _ = self.decoder(x, state.rnn)
            return self._attend(hidden, memory, torch.arange(x.shape[0], device=x.device).unsqueeze(1))[0]
        vectors: list[Tensor] = []
        for x_t in x:
            if vectors and teacher_forcing < 1:
                with torch.no_grad():
                    own = self.head(vectors[-1]).argmax(dim=1)
                is_true = torch.rand(len(own), 1, device=own.device) < teacher_forcing
                x_t = x_t.where(is_true, self.dropout(self.target_table(own)))
            vector, _, state = self._advance(x_t, state, memory)
            vectors.append(vector)
        return torch.stack(vectors)

    def _advance(self, x: Tensor, state: DecoderState, memory: Memory) -> tuple[Tensor, Any, DecoderState]:
        """Return what is read out (N, F) after the embedding x (N, E), what it attended to (B, K, S), and the state."""
        hidden, rnn = self.decoder.step(x if state.fed is None else torch.cat([x, state.fed], dim=1), state.rnn)
        # The K hypotheses of a source are K queries to one memory.
        num_sources = hidden.shape[0] if memory.outputs is None else memory.outputs.shape[1]
        steps = None if state.position is None else state.position.view(num_sources, -1).t()
        vectors, weights = self._attend(hidden.unflatten(0, (num_sources, -1)).transpose(0, 1), memory, steps)
        vector = vectors.transpose(0, 1).flatten(0, 1)
        position = None if state.position is None else state.position + 1
        return vector, weights, DecoderState(rnn, vector if self.input_feeding else None, position)

    def _attend(self, hidden: Tensor, memory: Memory, steps: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what is read out for outputs of the decoder (U, B, H), and the weights (B, U, S).

        Args:
            hidden: the outputs.
            memory: of the sources.
            steps: the number of each output, (U, B) or (U, 1), for a window.
        """
        if self.attention is None:
            return hidden, None
        assert memory.keys is not None and memory.outputs is not None
        mask = None if memory.mask is None else memory.mask.permute(1, 2, 0)
        bias = None
        if self.diagonal is not None:
            assert memory.last is not None and steps is not None
            near, bias = self.diagonal(steps, memory.last, memory.outputs.shape[0])
            mask = near if mask is None else near & mask
        context, weights = self.attention(hidden, memory.keys, memory.outputs, mask, bias)
        return torch.tanh(self.combine(torch.cat([context, hidden], dim=2))), weights
