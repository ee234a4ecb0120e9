"""A recurrent network that reads a window of a series and tells all steps that follow at once.

Letters as in `rnnlab.models.distribution_forecaster`; H features of the recurrent layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rnnlab.models.distribution_forecaster import DirectForecaster, SeriesEmbedding
from rnnlab.models.layers import (
    LockedDropout,
    RecurrentFactory,
    at_least_float32,
    initialise_all,
    last_output,
    output_width,
    stack_frames,
)


class SeriesForecaster(DirectForecaster):
    """Window -> recurrent layers -> where they ended -> linear read-out of K steps, C targets, P numbers each.

    Where covariates of the future are known, a layer of tanh units, the same for all steps, reads those of a step
    beside where the recurrent layers ended, and is added to that step's numbers: a global and a local read-out, as in
    Wen et al. (2017).

    Args:
        rnn: factory of recurrent layers, in one direction or both, called with `input_size`.
        input_size: I.
        future_size: F.
        num_targets: C.
        horizon: K.
        num_series: series that training has.
        head: name of a head, or a mapping of `name` and its options, see `rnnlab.models.heads`.
        stack: steps read in one; a first stack that is not full is filled with zeros. A long window of a season of S
            steps is read faster, and as well, by stacks of S.
        future_units: of the layer that reads known covariates.
        series_size: of the vector that is learnt of each series; 0 for none.
        series_dropout: share of the training windows that forget their series, so that one never seen can be forecast.
        dropout: before the read-out.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import functools
        >>> from rnnlab.nn import GRU
        >>> sizes = {"input_size": 2, "future_size": 0, "num_targets": 2, "horizon": 6, "num_series": 1}
        >>> model = SeriesForecaster(functools.partial(GRU, hidden_size=8), **sizes, head={"name": "gaussian"})
        >>> model.readout.out_features
        24
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        input_size: int,
        future_size: int,
        num_targets: int,
        horizon: int,
        num_series: int,
        head: str | Mapping[str, Any],
        stack: int = 1,
        future_units: int = 32,
        series_size: int = 0,
        series_dropout: float = 0.1,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(horizon, head)
        if type(stack) is not int or stack < 1:
            raise ValueError(f"model.stack must be an integer of at least 1, got {stack!r}")
        self.stack = stack
        self.num_targets, self.future_size = num_targets, future_size
        self.embedding = SeriesEmbedding(num_series, series_size, series_dropout)
        self.rnn = rnn(input_size=(input_size + series_size) * stack)
        self.dropout = LockedDropout(dropout)
        width, numbers = output_width(self.rnn), num_targets * self.head.size
        self.readout = nn.Linear(width, horizon * numbers)
        if future_size:
            self.from_state = nn.Linear(width, future_units)
            self.from_future = nn.Linear(future_size, future_units, bias=False)
            self.local = nn.Linear(future_units, numbers, bias=False)
        initialise_all([self.rnn], self.readout, init)

    def raw(self, batch: Any, num_steps: int) -> Tensor:
        x = self.embedding(batch.past, batch.series).transpose(0, 1)  # (W, B, I)
        if self.stack > 1:
            x = stack_frames(pad(x, (0, 0, 0, 0, -x.shape[0] % self.stack, 0)), self.stack)
        state = self.dropout(last_output(self.rnn(x)[0], self.rnn).unsqueeze(0))[0]  # (B, H)
        numbers = self.readout(state).unflatten(1, (self.horizon, -1))[:, :num_steps]  # (B, K, C*P)
        if self.future_size:
            units = self.from_state(state).unsqueeze(1) + self.from_future(batch.future[:, :num_steps])
            numbers = numbers + self.local(torch.tanh(units))
        return at_least_float32(numbers).unflatten(2, (self.num_targets, self.head.size))
