"""Layers that see a fixed window of the past, in the place of recurrent ones: time-delay networks and TCNs.

Letters: T steps, B batch, I inputs, H units.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rnnlab.nn.cells.base import check_name, check_size

_NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


class FiniteMemory(nn.Module):
    """Base of layers (T, B, I) -> (T, B, H) whose output at a step is a function of the last `receptive_field` inputs.

    They stand where a recurrent layer may: called with its arguments, they answer with None for a state, since they
    carry none. What lies before the first step is zero in each layer. A subclass sets `receptive_field` and writes
    `over_time`.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: at least 1.
        dropout: of units between layers, at each step anew.
        bidirectional: False, as recurrent layers may be told.

    Raises:
        TypeError, ValueError: a size that is no integer of at least 1, a rate outside [0, 1), two directions.

    Attributes:
        receptive_field: steps that an output depends on, its own among them.
    """

    bidirectional = False
    carries_state = False
    receptive_field: int

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float, bidirectional: bool) -> None:
        super().__init__()
        if bidirectional:
            raise ValueError(f"{type(self).__name__} sees the past alone: rnn.bidirectional must be false")
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"rnn.dropout must lie in [0, 1), got {dropout!r}")
        self.dropout = nn.Dropout(dropout)
        self.output_sizes = (hidden_size,) * num_layers

    def over_time(self, x: Tensor) -> Tensor:
        """Return (B, H, T) of (B, I, T)."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: Any = None, *, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """Return the outputs (T, B, H), zero beyond the length of a row, and None.

        Args:
            x: (T, B, I).
            state: None.
            lengths: int64 (B,), steps of each row; None where all have T.

        Raises:
            ValueError: there is a state.
        """
        if state is not None:
            self.initial_state(x.shape[1])
        output = self.over_time(x.permute(1, 2, 0)).permute(2, 0, 1)
        if lengths is not None:
            beyond = torch.arange(len(x), device=x.device)[:, None] >= torch.as_tensor(lengths, device=x.device)
            output = output.masked_fill(beyond.unsqueeze(2), 0.0)
        return output, None

    def initial_state(self, batch_size: int) -> Any:
        """Raise ValueError: there is none."""
        raise ValueError(
            f"{type(self).__name__} carries no state, it sees {self.receptive_field} steps at once: it cannot go on "
            "where it stopped, as data.tbptt_steps, sampling and decoders ask for; rnn=lstm, gru, rnn or cells/NAME can"
        )


class TimeDelay(FiniteMemory):
    """Time-delay network (Waibel et al., 1989): y_t = act(W_0 x_t + ... + W_{p-1} x_{t-p+1} + b), in each layer.

    Args:
        input_size, hidden_size, num_layers, dropout, bidirectional: as of `FiniteMemory`.
        taps: p, steps that each layer sees.
        nonlinearity: act: 'tanh', 'relu' or 'sigmoid'.

    Example:
        >>> layer = TimeDelay(3, 8, taps=5, num_layers=2)
        >>> layer(torch.zeros(20, 4, 3))[0].shape, layer.receptive_field
        (torch.Size([20, 4, 8]), 9)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        taps: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        nonlinearity: str = "tanh",
        bidirectional: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout, bidirectional)
        self.taps = check_size("taps", taps)
        check_name("nonlinearity", nonlinearity, tuple(_NONLINEARITIES))
        self.nonlinearity = nonlinearity
        self.receptive_field = 1 + num_layers * (taps - 1)
        sizes = (input_size, *self.output_sizes)
        self.layers = nn.ModuleList(nn.Conv1d(*pair, taps) for pair in zip(sizes, sizes[1:], strict=False))

    def over_time(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.layers):
            x = _NONLINEARITIES[self.nonlinearity](_causal(layer, x if place == 0 else self.dropout(x)))
        return x


class TCN(FiniteMemory):
    """Temporal convolutional network (Bai et al., 2018): residual blocks, the n-th with a dilation of 2^n, n from 0.

    A block is x + relu(conv(relu(conv(x)))), rectified, x by a linear map where its width is another; both convolutions
    see k steps, 2^n apart, of the past. There is no normalisation of weights. The receptive field is
    1 + 2 (k - 1) (2^N - 1) with N blocks.

    Args:
        input_size, hidden_size, bidirectional: as of `FiniteMemory`.
        num_layers: N, blocks.
        kernel_size: k.
        dropout: of units behind each convolution, at each step anew.

    Example:
        >>> layer = TCN(3, 8, num_layers=4)
        >>> layer(torch.zeros(20, 4, 3))[0].shape, layer.receptive_field
        (torch.Size([20, 4, 8]), 61)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 4,
        kernel_size: int = 3,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout, bidirectional)
        self.kernel_size = check_size("kernel_size", kernel_size)
        self.receptive_field = 1 + 2 * (kernel_size - 1) * (2**num_layers - 1)
        sizes = (input_size, *self.output_sizes)
        make = partial(nn.Conv1d, out_channels=hidden_size, kernel_size=kernel_size)
        self.blocks = nn.ModuleList(
            nn.ModuleList(make(size, dilation=2**place) for size in sizes[place : place + 2])
            for place in range(num_layers)
        )
        self.widen = nn.Conv1d(input_size, hidden_size, 1) if input_size != hidden_size else nn.Identity()

    def over_time(self, x: Tensor) -> Tensor:
        for place, (first, second) in enumerate(self.blocks):
            inner = self.dropout(_causal(first, x).relu())
            inner = self.dropout(_causal(second, inner).relu())
            x = (inner + (self.widen(x) if place == 0 else x)).relu()
        return x


def _causal(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Return the convolution of x (B, C, T) and of zeros before it, whose output at a step sees no later one."""
    return layer(pad(x, (layer.dilation[0] * (layer.kernel_size[0] - 1), 0)))
