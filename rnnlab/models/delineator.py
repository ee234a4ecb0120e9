"""A network that says of each stretch of a signal whether a beat is there, and where its points are.

N samples, B batch, S samples of a frame, T frames, C channels, P points of a beat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rnnlab.models.layers import LockedDropout, RecurrentFactory, goes_onwards, initialise_all, output_width, streams

_KERNEL = 9  # samples that each convolution of the front end sees
_RARE = -4.0  # logit of a beat at the start: most frames have none
_WINDOW, _MARGIN = 60.0, 10.0  # seconds read at once of a network that goes both ways, and beside them on each side


class Delineator(nn.Module):
    """Two convolutions over samples -> frames of S -> recurrent layers -> linear read-out at each frame.

    Of a frame are told the logit of R being in it, and how far each point of that beat is from its middle, in units of
    20 ms (`rnnlab.decoding.beats`). A network that goes onwards alone says it of the frame `delay_ms` ago. With
    rnn=none three convolutions over frames stand in for the recurrent layers, which see a fixed window.

    Args:
        rnn: factory of recurrent layers, called with `input_size`; None for convolutions.
        num_points: P.
        sample_rate: samples a second.
        stack: S.
        channels: C, of the front end.
        delay_ms: how much of what follows a frame has been read when it is told of; of onwards layers alone.
        width: channels of the convolutions over frames, which stand in for units.
        window_ms: what they see together, at least; of convolutions alone.
        dropout: before and after the recurrent layers.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: a size below 1, a rate outside [0, 1), or an option that the kind of layers does not have.

    Attributes:
        ahead: samples behind a frame that have to be known for its scores, of layers that go onwards alone.

    Example:
        >>> import functools, torch
        >>> from rnnlab.nn import LSTM
        >>> rnn = functools.partial(LSTM, hidden_size=8, bidirectional=True)
        >>> Delineator(rnn, num_points=5, sample_rate=250)(torch.zeros(3, 102)).shape
        torch.Size([26, 3, 6])
    """

    def __init__(
        self,
        rnn: RecurrentFactory | None = None,
        num_points: int = 5,
        sample_rate: int = 250,
        stack: int = 4,
        channels: int = 16,
        delay_ms: float = 0,
        width: int = 36,
        window_ms: float = 400,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("stack", stack), ("channels", channels), ("width", width)):
            if type(size) is not int or size < 1:
                raise ValueError(f"model.{name} must be an integer of at least 1, got {size!r}")
        for name, value in (("delay_ms", delay_ms), ("window_ms", window_ms)):
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 10_000:
                raise ValueError(f"model.{name} must lie from 0 to 10000, got {value!r}")
        self.num_points, self.sample_rate, self.stack = num_points, sample_rate, stack
        self.first = nn.Conv1d(1, channels, _KERNEL)
        self.second = nn.Conv1d(channels, channels, _KERNEL)
        self.dropout = LockedDropout(dropout)
        self.rnn = None if rnn is None else rnn(input_size=channels * stack)
        self.convolutions = None
        if self.rnn is None:
            reach = max(1, round(window_ms * sample_rate / stack / 1000 / 2))  # frames on each side, in three layers
            reaches = [reach // 3 + (place < reach % 3) for place in range(3)]
            sizes = [channels * stack, width, width, width]
            self.convolutions = nn.ModuleList(
                nn.Conv1d(sizes[place], sizes[place + 1], 2 * one + 1, padding=one) for place, one in enumerate(reaches)
            )
        if delay_ms and (self.rnn is None or not goes_onwards(self.rnn)):
            kind = "convolutions see" if self.rnn is None else "rnn.bidirectional=true sees"
            raise ValueError(f"model.delay_ms is for layers that go onwards alone, {kind} what follows anyway")
        self.delay = round(delay_ms * sample_rate / stack / 1000)  # frames
        self.ahead = self.delay * stack + _KERNEL - 1  # samples beyond a frame that have to be known
        self.head = nn.Linear(width if self.rnn is None else output_width(self.rnn), 1 + num_points)
        if self.rnn is not None:
            initialise_all([self.rnn], self.head, init)
        with torch.no_grad():
            self.head.bias[0] += _RARE

    @property
    def frame_seconds(self) -> float:
        return self.stack / self.sample_rate

    @property
    def streams(self) -> bool:
        """Whether the network goes onwards alone and carries a state."""
        return self.rnn is not None and streams(self.rnn)

    def forward(self, signal: Tensor) -> Tensor:
        """Return scores (T, B, 1 + P), T = N / S rounded up, of a signal (B, N), N >= 1."""
        if signal.dim() != 2 or not signal.shape[1]:
            raise ValueError(f"signal must be (B, N) with N >= 1, got {tuple(signal.shape)}")
        padded = pad(signal, (_KERNEL - 1, _KERNEL - 1 + -signal.shape[1] % self.stack))
        frames = pad(self._frames(padded), (0, 0, 0, 0, 0, self.delay))
        return self.head(self.dropout(self._over_time(self.dropout(frames))[0]))[self.delay :]

    def _frames(self, padded: Tensor) -> Tensor:
        """Return what each frame holds, (T, B, C*S), of a signal with K - 1 samples more on both sides."""
        heard = self.second(self.first(padded.unsqueeze(1)).relu()).relu()  # (B, C, T*S)
        return heard.unflatten(2, (-1, self.stack)).permute(2, 0, 1, 3).flatten(2)

    def _over_time(self, frames: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return (T, B, H) of frames (T, B, I), and the state of recurrent layers."""
        if self.rnn is not None:
            return self.rnn(frames) if state is None else self.rnn(frames, state)
        assert self.convolutions is not None
        x = frames.permute(1, 2, 0)
        for layer in self.convolutions:
            x = layer(x).relu()
        return x.permute(2, 0, 1), None

    def stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the scores of one signal that comes in pieces (N_i,), in evaluation, (T_i, 1 + P).

        Layers that go onwards carry their state: the scores are those of the whole signal within rounding. Others read
        a minute at a time with ten seconds more on both sides, wherever pieces end; what convolutions say is that of
        the whole signal, and layers that go both ways have forgotten their start after ten seconds.
        """
        return self._onwards(pieces) if self.streams else self._in_windows(pieces)

    def _onwards(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        rest, state, skip = torch.zeros(_KERNEL - 1), None, self.delay
        border = 2 * (_KERNEL - 1)
        for piece, is_last in _with_end(pieces):
            rest = torch.cat([rest, piece])
            if is_last:
                rest = pad(rest, (0, _KERNEL - 1 + -(len(rest) - _KERNEL + 1) % self.stack))
            count = (len(rest) - border) // self.stack
            if count < 1:
                continue
            frames, rest = self._frames(rest[None, : count * self.stack + border]), rest[count * self.stack :]
            if is_last:
                frames = pad(frames, (0, 0, 0, 0, 0, self.delay))
            output, state = self._over_time(frames, state)
            scores = self.head(output[:, 0])
            yield scores[skip:]
            skip = max(0, skip - len(scores))

    def _in_windows(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        size, margin = (round(seconds * self.sample_rate) // self.stack * self.stack for seconds in (_WINDOW, _MARGIN))
        rest, before = torch.empty(0), 0  # samples of `rest` that were told of already
        for piece, is_last in _with_end(pieces):
            rest = torch.cat([rest, piece])
            while len(rest) >= before + size + margin or (is_last and len(rest) > before):
                stop = len(rest) if is_last and len(rest) <= before + size + margin else before + size
                scores = self(rest[None, : stop + margin])[:, 0]
                yield scores[before // self.stack : -(-stop // self.stack)]
                keep = max(0, stop - margin)
                rest, before = rest[keep:], stop - keep


def _with_end(pieces: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Yield each piece and whether it is the last one, which is an empty one behind all others."""
    for piece in pieces:
        yield piece, False
    yield torch.empty(0), True
