"""A recurrent network that names each of a row of segments, as spoken words whose borders are known, or symbols.

B batch, T segments, F features of one, K tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.models.layers import LockedDropout, RecurrentFactory, initialise_all, output_width


class SegmentTagger(nn.Module):
    """Rectified linear layers -> recurrent layers over the segments -> linear read-out at each.

    A batch is anything with the fields of `rnnlab.data.SegmentBatch` or `StepBatch`, of which the model reads segments
    (T, B, F) and lengths (B,).

    Args:
        rnn: factory of recurrent layers, called with `input_size`; its layers take `lengths`.
        num_features: F.
        num_tags: K.
        projection: units of each of the linear layers; None for none, and recurrent layers that read segments as they
            are.
        depth: how many of them.
        skip: whether the read-out sees what the recurrent layers see, beside their output: what a segment sounds like
            need not go through them.
        dropout: of those units and of the recurrent layers' output, locked over the segments of a row.
        context: False for a network that hears each segment by itself, all else equal.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: a size below 1, a rate outside [0, 1), or a depth without a projection.

    Attributes:
        num_tags: K.
        crf: None: tags are scored each alone.
    """

    crf = None

    def __init__(
        self,
        rnn: RecurrentFactory,
        num_features: int,
        num_tags: int,
        projection: int | None = 256,
        depth: int = 1,
        skip: bool = False,
        dropout: float = 0.3,
        context: bool = True,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("projection", projection), ("depth", depth)):
            if not (name == "projection" and value is None) and (type(value) is not int or value < 1):
                raise ValueError(f"model.{name} must be an integer of at least 1, got {value!r}")
        if projection is None and depth > 1:
            raise ValueError(f"model.depth={depth} are linear layers of model.projection units, which is null")
        self.num_tags, self.skip, self.context = num_tags, skip, context
        width = num_features if projection is None else projection
        self.projection = None if projection is None else nn.Linear(num_features, width)
        self.deeper = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.dropout = LockedDropout(dropout)
        self.rnn = rnn(input_size=width)
        self.head = nn.Linear(output_width(self.rnn) + (width if skip else 0), num_tags)
        initialise_all([self.rnn], self.head, init)

    def forward(self, batch: Any) -> Tensor:
        """Return the score of each tag at each segment, (B, T, K); what stands in padding is of no meaning."""
        x = batch.segments
        for layer in () if self.projection is None else (self.projection, *self.deeper):
            x = self.dropout(layer(x).relu())
        if self.context:
            # Layers without lengths are faster on a CPU, and batches by length mostly need none.
            is_even = not torch.compiler.is_exporting() and int(batch.lengths.min()) == len(x)
            output = self.rnn(x)[0] if is_even else self.rnn(x, lengths=batch.lengths)[0]
        else:
            output = self.rnn(x.flatten(0, 1).unsqueeze(0))[0].view(*x.shape[:2], -1)
        output = self.dropout(output)
        return self.head(torch.cat([output, x], dim=-1) if self.skip else output).transpose(0, 1)

    def decode(self, batch: Any) -> Tensor:
        """Return the best tags, int64 (B, T); what stands in padding is of no meaning."""
        return self.best_tags(self(batch), batch.lengths)

    def best_tags(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return the tags that emissions (B, T, K) speak for."""
        return emissions.argmax(dim=-1)
