"""An encoder and a decoder that reads frames of sound: attention in place of CTC's alignments.

T frames, B batch, F features of a frame, S frames of a stack, V classes, the blank being number 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.decoding.symbols import END
from rnnlab.models.encoder_decoder import EncoderDecoder
from rnnlab.models.layers import LockedDropout, RecurrentFactory, stack_frames

SHIFT = END  # class 1 of the data is the first symbol behind the special ones


class Listener(EncoderDecoder):
    """Frames, stacked -> linear -> encoder; all else as in `EncoderDecoder`, after Chan et al. (2016).

    Sources are (B, T, F) and lengths those in frames. Target symbols are the classes of the data plus `SHIFT`: before
    them stand padding, unknown, start and end.

    Args:
        rnn: factory of recurrent layers of `rnnlab.nn`, called with `input_size` for the encoder.
        num_features: F.
        num_classes: V.
        stack: S, frames read in one step.
        band_dropout: rate at which a feature is zero in all frames of a row, in training.
        embedding_size: of stacks and of target symbols.
        decoder, attention, attention_size, input_feeding, dropout, init: see `EncoderDecoder`.

    Raises:
        ValueError: as `EncoderDecoder`, or a size below 1.
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        num_features: int,
        num_classes: int,
        stack: int = 1,
        band_dropout: float = 0.0,
        decoder: RecurrentFactory | None = None,
        embedding_size: int = 64,
        attention: str = "general",
        attention_size: int | None = None,
        input_feeding: bool = False,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        if type(stack) is not int or stack < 1:
            raise ValueError(f"model.stack must be an integer of at least 1, got {stack!r}")
        super().__init__(
            rnn,
            None,
            num_classes + SHIFT,
            decoder=decoder,
            embedding_size=embedding_size,
            attention=attention,
            attention_size=attention_size,
            input_feeding=input_feeding,
            dropout=dropout,
            init=init,
        )
        self.num_features, self.stack = num_features, stack
        self.band_dropout = LockedDropout(band_dropout, "band_dropout")
        self.projection = nn.Linear(num_features * stack, embedding_size)

    def embed(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder reads of frames (B, T, F), (T', B, E), T' = T / S rounded up, and its steps (B,)."""
        if source.dim() != 3 or source.shape[-1] != self.num_features or not source.shape[1]:
            raise ValueError(f"sources must be (B, T, {self.num_features}) with T >= 1, got {tuple(source.shape)}")
        steps = (lengths + self.stack - 1) // self.stack
        x = stack_frames(self.band_dropout(source.transpose(0, 1)), self.stack)
        if not torch.compiler.is_exporting():  # where lengths have no values
            x = x[: int(steps.max())]
        return self.projection(x), steps
