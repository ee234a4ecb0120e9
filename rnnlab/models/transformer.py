"""Sequence to sequence without recurrence: a transformer.

B batch, S source symbols, U target symbols, V symbols of the target vocabulary, E width, L layers of the decoder,
N = B*K rows that are decoded, K hypotheses of each source side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.decoding.symbols import PADDING
from rnnlab.models.layers import LockedDropout, check_shared, decoder_input
from rnnlab.models.transformer_layers import (
    ACTIVATIONS,
    DecoderLayer,
    EncoderLayer,
    LearnedPositions,
    linear,
    sinusoids,
    split_heads,
)

POSITIONS = ("sinusoidal", "learned")


class TransformerMemory(NamedTuple):
    """What the decoder reads of a source.

    Attributes:
        is_symbol: bool (S, B, 1), false in padding.
        keys_values: keys and values for each layer of the decoder, (L, S, B, 2*E).
    """

    is_symbol: Tensor
    keys_values: Tensor


class TransformerSeq2Seq(nn.Module):
    """Source -> encoder layers -> keys and values, read by decoder layers that write the target symbol by symbol.

    Vaswani et al. (2017), with the norm before each branch and one at the end of each side (Xiong et al., 2020).
    Embeddings are scaled by sqrt(E). Dropout acts on the embedded symbols and on what each branch adds, one mask a row
    for all its steps: on a CPU, to draw a mask for each step costs nearly as much as a product, and dropped attention
    weights keep torch from its fused attention.

    A batch is anything with the fields of `rnnlab.data.PairBatch`, of which the model reads source (B, S),
    source_lengths (B,) and target (B, U). A state is keys and values (U, N, 2*E) of the U symbols read so far for each
    layer of the decoder, rows at dimension -2 as `rnnlab.decoding.state.select_rows` takes them; how long they are is
    the position.

    Args:
        source_size: symbols of the source vocabulary, 0 being padding.
        target_size: V, 0 being padding and 2 the start.
        width: E.
        num_heads: heads of attention; each has E / num_heads features.
        num_layers: layers of the encoder, and of the decoder.
        feed_forward: hidden units of a layer's feed-forward branch.
        dropout: rate of dropout.
        activation: "gelu" or "relu".
        positions: "sinusoidal", or "learned" for up to `max_length` of them on each side.
        max_length: symbols that learned positions are there for; END counts in the target.
        share_embeddings: one table of embeddings for both sides, which have one vocabulary then.
        tie_embeddings: the read-out's weight is the target's embedding (Press and Wolf, 2017; Inan et al., 2017).
        shared_vocabulary: whether a number is the same symbol on both sides; None: where there are as many.

    Attributes:
        longest_target: symbols of the longest answer that can be written; None without a limit.

    Raises:
        ValueError: a size below 1, a width that heads cannot part, another name of positions or activation, a rate
            outside [0, 1), shared embeddings of unequal vocabularies. When called: a sequence longer than the learned
            positions.

    Example:
        >>> model = TransformerSeq2Seq(source_size=9, target_size=7, width=16, feed_forward=32)
        >>> memory = model.encode(torch.tensor([[4, 5, 8]]), torch.tensor([3]))
        >>> logits, state = model.step(torch.tensor([2]), model.initial_state(memory), memory)
        >>> logits.shape
        torch.Size([1, 7])
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        width: int = 256,
        num_heads: int = 4,
        num_layers: int = 3,
        feed_forward: int = 1024,
        dropout: float = 0.1,
        activation: str = "gelu",
        positions: str = "sinusoidal",
        max_length: int = 256,
        share_embeddings: bool = False,
        tie_embeddings: bool = False,
        shared_vocabulary: bool | None = None,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "num_heads": num_heads, "num_layers": num_layers, "feed_forward": feed_forward}
        for name, size in {**sizes, "max_length": max_length}.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"model.{name} must be an integer of at least 1, got {size!r}")
        if width % num_heads:
            raise ValueError(f"model.width must be a multiple of model.num_heads={num_heads}, got {width}")
        for name, value, allowed in (("positions", positions, POSITIONS), ("activation", activation, ACTIVATIONS)):
            if value not in allowed:
                raise ValueError(f"model.{name} must be {' or '.join(allowed)}, got {value!r}")
        self.scale = width**0.5
        self.longest_target = max_length if positions == "learned" else None
        self.source_embedding = _embedding(source_size, width)
        if share_embeddings:
            check_shared("model.share_embeddings", source_size, target_size, shared_vocabulary)
            self.target_embedding = self.source_embedding
        else:
            self.target_embedding = _embedding(target_size, width)
        is_learned = positions == "learned"
        self.source_positions = LearnedPositions(max_length, width) if is_learned else None
        self.target_positions = LearnedPositions(max_length, width) if is_learned else None
        self.dropout = LockedDropout(dropout)
        layer = width, num_heads, feed_forward, activation, dropout
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(num_layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.source_key_value = linear(width, num_layers * 2 * width, blocks=num_layers * 2, bias=False)
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(num_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.head = linear(width, target_size)
        if tie_embeddings:
            self.head.weight = self.target_embedding.weight

    def forward(self, batch: Any) -> Tensor:
        """Return logits (B, U, V) with teacher forcing: those of step u have read START and target[:, :u]."""
        memory = self.encode(batch.source, batch.source_lengths)
        state = self.initial_state(memory)
        x = self._embed_target(decoder_input(batch.target).t(), 0)
        for layer, past, source in zip(self.decoder, state, memory.keys_values, strict=True):
            x, _ = layer(x, past, source, memory.is_symbol)
        return self.head(self.decoder_norm(x)).transpose(0, 1)

    def encode(self, source: Tensor, lengths: Tensor) -> TransformerMemory:
        """Return what the decoder reads, one row a source.

        Args:
            source: int64 (B, S).
            lengths: int64 (B,), 1 to S; what stands beyond them is not read.
        """
        ids = source.t()
        is_symbol = (torch.arange(ids.shape[0], device=ids.device).unsqueeze(1) < lengths).unsqueeze(2)  # (S, B, 1)
        x = self._embed(self.source_embedding, self.source_positions, ids, is_symbol, 0)
        for layer in self.encoder:
            x = layer(x, is_symbol)
        keys_values = self.source_key_value(self.encoder_norm(x)).unflatten(-1, (len(self.decoder), -1))
        return TransformerMemory(is_symbol, keys_values.movedim(2, 0))

    def initial_state(self, memory: TransformerMemory) -> tuple[Tensor, ...]:
        """Return the state before START of one row a source: keys and values of no symbols."""
        _, _, rows, features = memory.keys_values.shape
        return tuple(memory.keys_values.new_empty(0, rows, features) for _ in self.decoder)

    def step(
        self, token: Tensor, state: tuple[Tensor, ...], memory: TransformerMemory
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read one symbol of each row.

        Args:
            token: int64 (N,), START at first.
            state: of N rows; row b*K + k belongs to source b.
            memory: of B sources, which K hypotheses each read without copies.

        Returns:
            Logits (N, V) of the next symbol, and the state behind this one.
        """
        x = self._embed_target(token.unsqueeze(0), len(state[0]))
        grown = []
        for layer, past, source in zip(self.decoder, state, memory.keys_values, strict=True):
            x, keys_values = layer(x, past, source, memory.is_symbol)
            grown.append(keys_values)
        return self.head(self.decoder_norm(x[0])), tuple(grown)

    @torch.no_grad()
    def attention_weights(self, batch: Any) -> Tensor:
        """Return how much each step of a target reads of each source symbol, for pictures.

        Args:
            batch: as for `forward`; the steps are those that write its target.

        Returns:
            (B, U, S), the mean over heads of the last layer's attention to the source; rows sum to 1, padding of the
            source has 0.
        """
        memory = self.encode(batch.source, batch.source_lengths)
        state = self.initial_state(memory)
        x = self._embed_target(decoder_input(batch.target).t(), 0)
        for layer, past, source in zip(self.decoder[:-1], state, memory.keys_values, strict=False):
            x, _ = layer(x, past, source, memory.is_symbol)
        last, rows = self.decoder[-1], x.shape[1]
        keys, _ = memory.keys_values[-1].chunk(2, dim=-1)
        query = last.ask(last.look_back(x, state[-1])[0])
        q, k = split_heads(query, last.num_heads, rows), split_heads(keys, last.num_heads, rows)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, heads, U, S)
        is_padding = ~memory.is_symbol.permute(1, 2, 0).unsqueeze(1)
        return scores.masked_fill(is_padding, -torch.inf).softmax(dim=-1).mean(dim=1)

    def _embed_target(self, ids: Tensor, start: int) -> Tensor:
        """Return (U, N, E) of target symbols (U, N) from step `start` on."""
        return self._embed(self.target_embedding, self.target_positions, ids, (ids != PADDING).unsqueeze(2), start)

    def _embed(
        self, table: nn.Embedding, positions: LearnedPositions | None, ids: Tensor, is_symbol: Tensor, start: int
    ) -> Tensor:
        x = table(ids).masked_fill(~is_symbol, 0.0) * self.scale
        stop = start + ids.shape[0]
        where = sinusoids(start, stop, like=x) if positions is None else positions(start, stop)
        return self.dropout(x + where.unsqueeze(1))


def _embedding(num_symbols: int, width: int) -> nn.Embedding:
    """Return a table N(0, 1/E), so that scaled by sqrt(E) it has the size of positions, with zeros for padding."""
    table = nn.Embedding(num_symbols, width, padding_idx=PADDING)
    with torch.no_grad():
        table.weight.normal_(0.0, width**-0.5)
        table.weight[PADDING] = 0
    return table
