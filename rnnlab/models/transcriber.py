"""A recurrent network that says of each stretch of sound which symbol it is, or none: the network of CTC.

T frames, B batch, F features of a frame, S frames of a stack, V classes, the blank being number 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.models.layers import (
    LockedDropout,
    RecurrentFactory,
    initialise_all,
    output_width,
    stack_frames,
    streams,
)


class Transcriber(nn.Module):
    """Frames, stacked -> norm and projection, if asked for -> recurrent layers -> linear read-out of V classes.

    The network of Graves et al. (2006). Stacking S frames makes sequences S times as short, and recurrences as fast.

    Args:
        rnn: factory of recurrent layers, called with `input_size`; its layers take `lengths`.
        num_features: F.
        num_classes: V.
        stack: S, frames read in one step; a last stack that is not full is filled with zeros.
        layer_norm: normalise each stack of frames (`LayerNorm`).
        projection: units of a rectified linear layer before the recurrent ones; None for no such layer.
        band_dropout: rate at which a feature is zero in all frames of a row, in training (as Park et al., 2019, mask).
        dropout: locked dropout before and after the recurrent layers.
        blank_bias: of the blank at the start; below zero, symbols are likelier than it at first.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: a size below 1, or a rate outside [0, 1).

    Example:
        >>> import functools, torch
        >>> from rnnlab.nn import LSTM
        >>> model = Transcriber(functools.partial(LSTM, hidden_size=8), num_features=5, num_classes=4, stack=3)
        >>> logits, lengths = model(torch.zeros(7, 2, 5), torch.tensor([7, 3]))
        >>> logits.shape, lengths
        (torch.Size([3, 2, 4]), tensor([3, 1]))
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        num_features: int,
        num_classes: int,
        stack: int = 1,
        layer_norm: bool = False,
        projection: int | None = None,
        band_dropout: float = 0.0,
        dropout: float = 0.0,
        blank_bias: float = 0.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("stack", stack), ("projection", projection)):
            if not (name == "projection" and size is None) and (type(size) is not int or size < 1):
                raise ValueError(f"model.{name} must be an integer of at least 1, got {size!r}")
        if not isinstance(blank_bias, int | float) or isinstance(blank_bias, bool):
            raise ValueError(f"model.blank_bias must be a number, got {blank_bias!r}")
        self.num_features, self.num_classes, self.stack = num_features, num_classes, stack
        width = num_features * stack
        self.norm = nn.LayerNorm(width) if layer_norm else None
        self.projection = None if projection is None else nn.Linear(width, projection)
        self.band_dropout = LockedDropout(band_dropout, "band_dropout")
        self.dropout = LockedDropout(dropout)
        self.rnn = rnn(input_size=projection or width)
        self.head = nn.Linear(output_width(self.rnn), num_classes)
        initialise_all([self.rnn], self.head, init)
        with torch.no_grad():
            self.head.bias[0] += blank_bias

    @property
    def streams(self) -> bool:
        """Whether the network goes onwards alone and carries a state, so that `step` is there."""
        return streams(self.rnn)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score of each class in each step.

        Args:
            features: (T, B, F), zero beyond each length.
            lengths: int64 (B,), frames of each row, at least 1.

        Returns:
            Logits (T', B, V), T' = T / S rounded up, of no meaning in padding; and the steps of each row, int64 (B,).
        """
        lengths = self.output_lengths(lengths)
        # Padding is cut off: a layer with lengths wants the longest of them.
        x = self._stacked(features)
        if not torch.compiler.is_exporting():  # where lengths have no values
            x = x[: int(lengths.max())]
        output = self.rnn(self.dropout(x), lengths=lengths)[0]  # (T', B, H)
        return self.head(self.dropout(output)), lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return how many steps rows of so many frames (B,) are."""
        return (lengths + self.stack - 1) // self.stack

    def initial_state(self, batch_size: int) -> Any:
        """Return the recurrent layer's state before the first step of B rows; None, for zeros, if it makes none."""
        make = getattr(self.rnn, "initial_state", None)  # torch's own layers have none
        return None if make is None else make(batch_size)

    def step(self, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read on where the last call ended; in evaluation, calls on parts of a row equal one on the whole.

        Args:
            features: (T, B, F), whole stacks of frames but for the last call of a row.
            state: as the last call returned it, or of `initial_state`.

        Returns:
            Logits (T / S rounded up, B, V), and the new state.

        Raises:
            ValueError: some layer goes backwards, or carries no state.
        """
        if not self.streams:
            raise ValueError(
                "such a network cannot read step by step: rnn.bidirectional=true starts at the end, and time-delay "
                "networks and TCNs carry no state"
            )
        x = self.dropout(self._stacked(features))
        if len(x) == 1 and not self.training and hasattr(self.rnn, "step"):
            output, state = self.rnn.step(x[0], state)
            output = output.unsqueeze(0)
        else:
            output, state = self.rnn(x, state)
        return self.head(self.dropout(output)), state

    def _stacked(self, features: Tensor) -> Tensor:
        """Return what the recurrent layers read of frames (T, B, F), (T', B, I)."""
        if features.dim() != 3 or features.shape[-1] != self.num_features or not features.shape[0]:
            raise ValueError(f"features must be (T, B, {self.num_features}) with T >= 1, got {tuple(features.shape)}")
        x = stack_frames(self.band_dropout(features), self.stack)  # (T', B, S*F)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.projection is None else self.projection(x).relu()
