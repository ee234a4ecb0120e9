"""Copying of source symbols: a read-out that mixes what a decoder writes with what it looks at.

Letters: S source steps, U target steps, B batch, F width of what is read out, V symbols of both vocabularies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

_NOTHING = 1e-30  # the probability of copying a symbol that the source lacks, so that its logarithm is finite


class CopyGate(nn.Module):
    """Write a symbol with probability 1 - g, or copy the one attended to with g = sigmoid(w . vector + b).

    The pointer-generator of See et al. (2017), equations 8 and 9, for one vocabulary: the probability of v is (1 - g)
    softmax(logits)_v and g times the attention to the steps whose symbol is v.

    Args:
        width: F.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 1)
        # Writing first: a gate that starts open takes the place of what has to be learnt about symbols.
        nn.init.constant_(self.gate.bias, -3.0)

    def forward(self, logits: Tensor, vectors: Tensor, weights: Tensor, source: Tensor) -> Tensor:
        """Return log-probabilities (U, B, V), which are logits too.

        Args:
            logits: of what is written, (U, B, V).
            vectors: what is read out, (U, B, F).
            weights: attention (B, U, S), zero in padding.
            source: symbols of the source, int64 (S, B, 1).
        """
        dtype = torch.promote_types(logits.dtype, torch.float32)
        gate = self.gate(vectors).to(dtype)
        index = source.permute(1, 2, 0).expand(weights.shape)  # (B, U, S)
        seen = weights.new_zeros((*weights.shape[:2], logits.shape[2]), dtype=dtype)
        seen = seen.scatter_add(2, index, weights.to(dtype)).transpose(0, 1)
        written = logsigmoid(-gate) + logits.to(dtype).log_softmax(dim=2)
        return torch.logaddexp(written, logsigmoid(gate) + seen.clamp(min=_NOTHING).log())
