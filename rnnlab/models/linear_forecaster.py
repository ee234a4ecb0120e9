"""Linear maps from a window to what follows it, trained as networks are: autoregression, NLinear and DLinear.

Letters: B batch, T steps of the input, W steps that are seen, I inputs, K steps to forecast, C targets, P raw numbers
of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, pad

from rnnlab.models.distribution_forecaster import DirectForecaster
from rnnlab.models.layers import at_least_float32
from rnnlab.nn.cells.base import check_size

KINDS = ("ar", "nlinear", "dlinear")


class LinearMap(nn.Module):
    """W steps of a series to K steps of P numbers: one linear map, or one of what is left beside the level.

    By `kind`: "ar", a linear map with intercepts: autoregression, each forecast step on its own. "nlinear", the same of
    the differences from the last value, which is added to the forecast. "dlinear", two maps, of a moving average and of
    what is left without it; beyond its ends the window is continued with its outermost values. The latter two are of
    Zeng et al. (2023).

    Args:
        window: W.
        num_steps: K.
        kind: one of `KINDS`.
        moving_average: steps of the mean of "dlinear", odd.
        num_numbers: P.
        place: of the number among P that is the forecast, to which the last value is added.

    Raises:
        TypeError, ValueError: a size out of range, an unknown kind.
    """

    def __init__(
        self,
        window: int,
        num_steps: int,
        kind: str = "ar",
        moving_average: int = 25,
        num_numbers: int = 1,
        place: int = 0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"model.kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if check_size("model.moving_average", moving_average) % 2 == 0:
            raise ValueError(f"model.moving_average must be odd, got {moving_average}")
        self.kind, self.moving_average = kind, moving_average
        self.num_numbers, self.place = num_numbers, place
        self.linear = nn.Linear(check_size("model.window", window), num_steps * num_numbers)
        self.trend = nn.Linear(window, num_steps * num_numbers) if kind == "dlinear" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., K, P) of windows (..., W)."""
        if self.kind == "nlinear":
            numbers = self._apart(self.linear(x - x[..., -1:]))
            is_forecast = torch.arange(self.num_numbers, device=x.device) == self.place
            return numbers + x[..., -1:, None] * is_forecast
        if self.trend is None:
            return self._apart(self.linear(x))
        level = self.level(x)
        return self._apart(self.linear(x - level) + self.trend(level))

    def _apart(self, numbers: Tensor) -> Tensor:
        return numbers.unflatten(-1, (-1, self.num_numbers))

    def level(self, x: Tensor) -> Tensor:
        """Return the moving average (..., W) of windows (..., W)."""
        reach = self.moving_average // 2
        longer = pad(x.reshape(-1, 1, x.shape[-1]), (reach, reach), mode="replicate")
        return avg_pool1d(longer, self.moving_average, stride=1).reshape(x.shape)


class LinearForecaster(nn.Module):
    """The last W steps of a series -> `LinearMap` -> forecasts.

    Inputs beside the first, which is the series, enter "ar"'s way, whatever the kind.

    Args:
        input_size: I, values at each step.
        output_size: K, steps to forecast.
        window: W, at most T: with 2 and "ar", x_t = w_0 x_{t-1} + w_1 x_{t-2} + w_2.
        kind, moving_average: as of `LinearMap`.

    Raises:
        TypeError, ValueError: as of `LinearMap`.

    Example:
        >>> LinearForecaster(input_size=1, output_size=10, window=50, kind="nlinear")(torch.zeros(4, 50, 1)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self, input_size: int, output_size: int, window: int, kind: str = "ar", moving_average: int = 25
    ) -> None:
        super().__init__()
        self.map = LinearMap(window, output_size, kind, moving_average)
        self.window = window
        self.others = nn.Linear(window * (input_size - 1), output_size, bias=False) if input_size > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the forecasts (B, K) behind series (B, T, I).

        Raises:
            ValueError: a series is shorter than the window.
        """
        if x.shape[1] < self.window:
            raise ValueError(f"model.window={self.window} must be at most the {x.shape[1]} steps of a series")
        seen = x[:, -self.window :]
        forecast = self.map(seen[:, :, 0])[..., 0]
        return forecast if self.others is None else forecast + self.others(seen[:, :, 1:].flatten(1))


class LinearSeriesForecaster(DirectForecaster):
    """The window of each target -> `LinearMap`, the same for all targets and series -> K steps, P numbers each.

    Covariates are not read, nor which series a window is of.

    Args:
        input_size, future_size, num_series: not used.
        num_targets: C.
        horizon: K.
        head: name of a head, or a mapping of `name` and its options, see `rnnlab.models.heads`.
        window: W.
        kind, moving_average: as of `LinearMap`.

    Raises:
        TypeError, ValueError: as of `LinearMap`, or there is no such head.
    """

    def __init__(
        self,
        input_size: int,
        future_size: int,
        num_targets: int,
        horizon: int,
        num_series: int,
        head: str | Mapping[str, Any],
        window: int,
        kind: str = "dlinear",
        moving_average: int = 25,
    ) -> None:
        super().__init__(horizon, head)
        self.num_targets, self.window = num_targets, window
        self.map = LinearMap(window, horizon, kind, moving_average, self.head.size, self.head.place)

    def raw(self, batch: Any, num_steps: int) -> Tensor:
        if batch.past.shape[1] < self.window:
            raise ValueError(f"model.window={self.window} must be at most data.window={batch.past.shape[1]}")
        seen = batch.past[:, -self.window :, : self.num_targets].transpose(1, 2)  # (B, C, W)
        return at_least_float32(self.map(seen)[:, :, :num_steps]).transpose(1, 2)
