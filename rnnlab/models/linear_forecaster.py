"""Linear maps from a window to what follows it, trained as networks are: autoregression, NLinear and DLinear.

Letters: B batch, T steps of the input, W steps that are seen, I inputs, K steps to forecast.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, pad

from rnnlab.nn.cells.base import check_size

KINDS = ("ar", "nlinear", "dlinear")


class LinearMap(nn.Module):
    """W steps of a series to K numbers: one linear map, or one of what is left beside the level.

    By `kind`: "ar", a linear map with intercepts: autoregression, each forecast step on its own. "nlinear", the same of
    the differences from the last value, which is added to the forecast. "dlinear", two maps, of a moving average and of
    what is left without it; beyond its ends the window is continued with its outermost values. The latter two are of
    Zeng et al. (2023).

    Args:
        window: W.
        num_outputs: K.
        kind: one of `KINDS`.
        moving_average: steps of the mean of "dlinear", odd.

    Raises:
        TypeError, ValueError: a size out of range, an unknown kind.
    """

    def __init__(self, window: int, num_outputs: int, kind: str = "ar", moving_average: int = 25) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"model.kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if check_size("model.moving_average", moving_average) % 2 == 0:
            raise ValueError(f"model.moving_average must be odd, got {moving_average}")
        self.kind, self.moving_average = kind, moving_average
        self.linear = nn.Linear(check_size("model.window", window), num_outputs)
        self.trend = nn.Linear(window, num_outputs) if kind == "dlinear" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., K) of windows (..., W)."""
        if self.kind == "nlinear":
            return self.linear(x - x[..., -1:]) + x[..., -1:]
        if self.trend is None:
            return self.linear(x)
        level = self.level(x)
        return self.linear(x - level) + self.trend(level)

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
        forecast = self.map(seen[:, :, 0])
        return forecast if self.others is None else forecast + self.others(seen[:, :, 1:].flatten(1))
