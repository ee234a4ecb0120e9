"""A recurrent network that says of a whole sequence which class it is.

T steps, B batch, I values of a step, S steps of a stack, H features of the recurrent layers, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.models.distortion import Distortion
from rnnlab.models.layers import (
    LockedDropout,
    RecurrentFactory,
    initialise_all,
    last_output,
    output_width,
    stack_frames,
)

POOLINGS = ("last", "mean", "max", "attention")


class Classifier(nn.Module):
    """Values, stacked -> projection, if asked for -> recurrent layers -> one vector -> linear read-out of K classes.

    The vector is, by `pooling`: "last", where each direction ended; "mean" and "max" over the steps of the sequence;
    "attention", a mean by weights that the network learns, softmax over steps of v tanh(W h) (Lin et al., 2017).
    Padding has no part in any of them.

    Args:
        rnn: factory of recurrent layers, called with `input_size`; its layers take `lengths`.
        input_size: I.
        num_classes: K.
        pooling: one of `POOLINGS`.
        stack: S, steps read in one; a last stack that is not full is filled with zeros.
        projection: units of a rectified linear layer before the recurrent ones; None for no such layer.
        dropout: of the projection's units, locked over the steps of a row, and of the pooled vector.
        distortion: arguments of `Distortion`, by which sequences are varied in training; None for none.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: another pooling, a size below 1, or a rate outside [0, 1).

    Attributes:
        num_classes: K.

    Example:
        >>> import functools, torch
        >>> from rnnlab.nn import GRU
        >>> model = Classifier(functools.partial(GRU, hidden_size=8), input_size=5, num_classes=4)
        >>> model(torch.zeros(7, 2, 5), torch.tensor([7, 3])).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        input_size: int,
        num_classes: int,
        pooling: str = "mean",
        stack: int = 1,
        projection: int | None = None,
        dropout: float = 0.0,
        distortion: Mapping[str, float] | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"model.pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        for name, size in (("stack", stack), ("projection", projection)):
            if not (name == "projection" and size is None) and (type(size) is not int or size < 1):
                raise ValueError(f"model.{name} must be an integer of at least 1, got {size!r}")
        self.input_size, self.num_classes, self.pooling, self.stack = input_size, num_classes, pooling, stack
        self.distortion = Distortion(**(distortion or {}))
        self.projection = None if projection is None else nn.Linear(input_size * stack, projection)
        self.locked_dropout, self.dropout = LockedDropout(dropout), nn.Dropout(dropout)
        self.rnn = rnn(input_size=projection or input_size * stack)
        width = output_width(self.rnn)
        self.attention = None
        if pooling == "attention":
            self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        self.head = nn.Linear(width, num_classes)
        initialise_all([self.rnn], self.head, init)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the score of each class, (B, K).

        Args:
            values: (T, B, I).
            lengths: int64 (B,), steps of each row, at least 1; what stands beyond them is not read.

        Raises:
            ValueError: another shape.
        """
        if values.dim() != 3 or values.shape[-1] != self.input_size or not values.shape[0]:
            raise ValueError(f"values must be (T, B, {self.input_size}) with T >= 1, got {tuple(values.shape)}")
        x = self.distortion(values, lengths)
        if self.stack > 1:
            x = x.masked_fill(beyond(lengths, x.shape[0]).unsqueeze(2), 0.0)  # a stack may reach into padding
            x = stack_frames(x, self.stack)  # (T / S rounded up, B, S*I)
            lengths = (lengths + self.stack - 1) // self.stack
        if self.projection is not None:
            x = self.locked_dropout(self.projection(x).relu())
        is_even = False
        if not torch.compiler.is_exporting():  # where lengths have no values
            shortest, longest = int(lengths.min()), int(lengths.max())
            x, is_even = x[:longest], shortest == longest
        # Layers without lengths are faster on a CPU, and batches by length mostly need none.
        output = self.rnn(x)[0] if is_even else self.rnn(x, lengths=lengths)[0]  # (T', B, H)
        return self.head(self.dropout(self._pooled(output, lengths)))

    def _pooled(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector a sequence (B, H) of outputs (T', B, H)."""
        if self.pooling == "last":
            return last_output(output, self.rnn, lengths)
        outside = beyond(lengths, output.shape[0]).unsqueeze(2)  # (T', B, 1)
        if self.pooling == "max":
            return output.masked_fill(outside, -torch.inf).amax(dim=0)
        if self.attention is None:
            return output.masked_fill(outside, 0.0).sum(dim=0) / lengths.unsqueeze(1)
        weights = self.attention(output).masked_fill(outside, -torch.inf).softmax(dim=0)
        return (weights * output.masked_fill(outside, 0.0)).sum(dim=0)


def beyond(lengths: Tensor, num_steps: int) -> Tensor:
    """Return which steps are padding, bool (T, B)."""
    return torch.arange(num_steps, device=lengths.device).unsqueeze(1) >= lengths
