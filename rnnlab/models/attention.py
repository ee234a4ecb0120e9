"""Attention of a decoder to what an encoder has read.

Letters: S source steps, U queries, B batch, H width of a query, M width of what is attended to, A attention_size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = ("none", "additive", "dot", "general", "concat")


class Attention(nn.Module):
    """Weigh the steps of a source by how well they fit a query, and return their weighted mean.

    The score of query q and step m, by `kind`:

    - "additive": v . tanh(W q + U m) (Bahdanau et al., 2015, equation in A.1.2; here of the present state, not the one
      before, so that a whole target is attended to at once)
    - "dot": q . m; "general": q . W m; "concat": v . tanh(W [q; m]) (Luong et al., 2015, equation 8)

    Args:
        kind: one of these.
        query_size: H.
        memory_size: M.
        attention_size: A, rows of W and U in "additive" and "concat"; None for H.

    Raises:
        ValueError: another kind; "dot" where H and M differ; an attention_size that is not positive.
    """

    def __init__(self, kind: str, query_size: int, memory_size: int, attention_size: int | None = None) -> None:
        super().__init__()
        size = query_size if attention_size is None else attention_size
        if kind not in KINDS[1:]:
            raise ValueError(f"model.attention must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {kind!r}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"model.attention_size must be an integer of at least 1 or null, got {attention_size!r}")
        if kind == "dot" and query_size != memory_size:
            raise ValueError(
                f"model.attention=dot needs an encoder as wide as the decoder, got {memory_size} and {query_size}; "
                "general takes any widths"
            )
        self.kind = kind
        self.query: nn.Linear | None = None
        self.key: nn.Linear | None = None
        if kind in ("additive", "concat"):
            self.query = nn.Linear(query_size, size, bias=False)
            self.key = nn.Linear(memory_size, size, bias=kind == "concat")
            self.score = nn.Linear(size, 1, bias=False)
        elif kind == "general":
            self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Return what queries are compared with, once a source: (S, B, A), or (S, B, H) for products."""
        return memory if self.key is None else self.key(memory)

    def forward(
        self, query: Tensor, keys: Tensor, memory: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            query: (U, B, H).
            keys: of `keys(memory)`.
            memory: (S, B, M).
            mask: bool (B, U, S), or one for all queries (B, 1, S), the steps that count, at least one a query; None for
                all.
            bias: (B, U, S), what is added to the scores; None for nothing.

        Returns:
            Contexts (U, B, M), and the weights (B, U, S), which add up to one over S.
        """
        if self.query is None:
            scores = torch.bmm(query.transpose(0, 1), keys.permute(1, 2, 0))  # (B, U, S)
        else:
            asked = self.query(query).transpose(0, 1).unsqueeze(2)  # (B, U, 1, A)
            scores = self.score(torch.tanh(asked + keys.transpose(0, 1).unsqueeze(1))).squeeze(3)
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(dim=2)
        return torch.bmm(weights, memory.transpose(0, 1)).transpose(0, 1), weights


class Diagonal(nn.Module):
    """Keep the attention of query t to the steps t - D ... t + D; behind its source's end, to those around the last.

    The monotonic local attention of Luong et al. (2015, section 3.2), whose Gaussian (equation 10) is learnt here: the
    score of a step has a bias for its distance n from the centre, -n**2 at the start.

    Args:
        window: D.

    Raises:
        ValueError: it is not an integer of at least 0.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        if not isinstance(window, int) or isinstance(window, bool) or window < 0:
            raise ValueError(f"model.window must be an integer of at least 0 or null, got {window!r}")
        self.window = window
        self.bias = nn.Parameter(-(torch.arange(-window, window + 1.0) ** 2))

    def forward(self, steps: Tensor, last: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
        """Return which steps are near enough, bool (B, U, S), and what is added to their scores, (B, U, S).

        Args:
            steps: t of each query, int64 (U, B) or (U, 1).
            last: the last step of each source, int64 (1, B, 1).
            num_steps: S.
        """
        centre = torch.minimum(steps, last[..., 0]).t().unsqueeze(2)  # (B, U, 1)
        offset = torch.arange(num_steps, device=steps.device) - centre
        near = offset.abs() <= self.window
        return near, self.bias[offset.clamp(-self.window, self.window) + self.window]
