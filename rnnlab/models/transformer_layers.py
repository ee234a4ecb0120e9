"""What a transformer is made of: attention by heads, layers with the norm before each branch, positions.

S source symbols, U target symbols, B sources, N = B*K rows of targets, K to each source, E width, D = E / heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rnnlab.models.layers import LockedDropout

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def linear(inputs: int, outputs: int, blocks: int = 1, bias: bool = True) -> nn.Linear:
    """Return a linear map that starts Glorot-uniform, each of its `blocks` of outputs by itself, and without bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    for block in layer.weight.detach().chunk(blocks):
        nn.init.xavier_uniform_(block)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def split_heads(x: Tensor, num_heads: int, rows: int) -> Tensor:
    """Return x (T, rows*K, E) as (rows, num_heads, T*K, D), a view."""
    return x.unflatten(-1, (num_heads, -1)).unflatten(1, (rows, -1)).permute(1, 3, 0, 2, 4).flatten(2, 3)


def attend(
    query: Tensor, keys_values: Tensor, num_heads: int, is_symbol: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Return what queries read, head by head.

    Args:
        query: (U, N, E); rows b*K to b*K + K - 1 read row b of what follows.
        keys_values: keys and values side by side, (S, B, 2*E).
        num_heads: heads that E is parted into.
        is_symbol: bool (S, B, 1), where there is something to be read; None for everywhere.
        causal: query u reads steps 0 to u alone.

    Returns:
        (U, N, E).
    """
    steps, rows = query.shape[0], keys_values.shape[1]
    q, k, v = (split_heads(x, num_heads, rows) for x in (query, *keys_values.chunk(2, dim=-1)))
    mask = None if is_symbol is None else is_symbol.permute(1, 2, 0).unsqueeze(1)  # (B, 1, 1, S)
    read = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)  # (B, heads, U*K, D)
    return read.unflatten(2, (steps, -1)).permute(2, 0, 3, 1, 4).reshape(query.shape)


class FeedForward(nn.Sequential):
    """Norm, linear, activation, linear: a branch of a layer."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__(nn.LayerNorm(width), linear(width, hidden), ACTIVATIONS[activation](), linear(hidden, width))


class SelfAttention(nn.Module):
    """Norm, attention of a sequence to itself, linear: a branch of a layer.

    Queries, keys and values have no bias: that of the norm goes before, and one of keys would shift all scores alike.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.width, self.num_heads = width, num_heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = linear(width, 3 * width, blocks=3, bias=False)
        self.out = linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (T, N, E), and keys and values (T, N, 2*E)."""
        query, keys_values = self.query_key_value(self.norm(x)).split([self.width, 2 * self.width], dim=-1)
        return query, keys_values


class EncoderLayer(nn.Module):
    """Attention to the source, feed-forward; each added to what it read.

    Args:
        width: E.
        num_heads: heads that E is parted into.
        feed_forward: hidden units of the feed-forward branch.
        activation: a name in `ACTIVATIONS`.
        dropout: rate of dropout on what each branch adds.
    """

    def __init__(self, width: int, num_heads: int, feed_forward: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, num_heads)
        self.feed_forward = FeedForward(width, feed_forward, activation)
        self.dropout = LockedDropout(dropout)

    def forward(self, x: Tensor, is_symbol: Tensor) -> Tensor:
        """Return x (S, B, E) after this layer; `is_symbol` bool (S, B, 1) is false in padding."""
        query, keys_values = self.attention.project(x)
        read = attend(query, keys_values, self.attention.num_heads, is_symbol)
        x = x + self.dropout(self.attention.out(read))
        return x + self.dropout(self.feed_forward(x))


class DecoderLayer(nn.Module):
    """Attention to the target so far, attention to the source, feed-forward; each added to what it read.

    Arguments are those of `EncoderLayer`. Keys and values of the source are handed in.
    """

    def __init__(self, width: int, num_heads: int, feed_forward: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention = SelfAttention(width, num_heads)
        self.source_norm = nn.LayerNorm(width)
        self.source_query = linear(width, width, bias=False)
        self.source_out = linear(width, width)
        self.feed_forward = FeedForward(width, feed_forward, activation)
        self.dropout = LockedDropout(dropout)

    def look_back(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Do the layer's first part, and that alone.

        Args:
            x: new steps (U, N, E): all from the beginning, or one behind the past.
            past: keys and values of the steps before, (P, N, 2*E); P is 0 at the beginning.

        Returns:
            x after attention to the target, and keys and values of all steps, (P + U, N, 2*E).
        """
        query, keys_values = self.attention.project(x)
        keys_values = torch.cat([past, keys_values])
        read = attend(query, keys_values, self.num_heads, causal=torch.compiler.is_exporting() or x.shape[0] > 1)
        return x + self.dropout(self.attention.out(read)), keys_values

    def ask(self, x: Tensor) -> Tensor:
        """Return the queries (U, N, E) to the source, of x after `look_back`."""
        return self.source_query(self.source_norm(x))

    def forward(self, x: Tensor, past: Tensor, source: Tensor, is_symbol: Tensor) -> tuple[Tensor, Tensor]:
        """Return x after this layer, and keys and values of all steps.

        Args:
            x, past: as for `look_back`.
            source: keys and values of the source for this layer, (S, B, 2*E).
            is_symbol: bool (S, B, 1), false in padding of the source.
        """
        x, keys_values = self.look_back(x, past)
        x = x + self.dropout(self.source_out(attend(self.ask(x), source, self.num_heads, is_symbol)))
        return x + self.dropout(self.feed_forward(x)), keys_values


def sinusoids(start: int, stop: int, like: Tensor) -> Tensor:
    """Return sines and cosines of steps `start` to `stop` - 1, wavelengths 2 pi to 20,000 pi (Vaswani et al., 2017).

    Args:
        start, stop: steps.
        like: a tensor (..., E) whose width, dtype and device are taken.

    Returns:
        (stop - start, E): the sines, then the cosines.
    """
    width, dtype = like.shape[-1], torch.promote_types(like.dtype, torch.float32)
    half = (width + 1) // 2
    rates = 10_000.0 ** (-torch.arange(half, dtype=dtype, device=like.device) / half)
    angles = torch.arange(start, stop, dtype=dtype, device=like.device).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


class LearnedPositions(nn.Module):
    """A vector for each step, as large at the start as an embedding times sqrt(E).

    Args:
        max_length: steps.
        width: E.
    """

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_length, width) * width**-0.5)

    def forward(self, start: int, stop: int) -> Tensor:
        """Return the vectors (stop - start, E) of steps `start` to `stop` - 1.

        Raises:
            ValueError: there are not as many.
        """
        max_length, width = self.weight.shape
        if stop > max_length:
            raise ValueError(
                f"a sequence of {stop} symbols is longer than model.max_length={max_length}, the number of learned "
                "positions; model.positions=sinusoidal has no limit"
            )
        return self.weight[start:stop] * width**0.5
