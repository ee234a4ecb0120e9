"""How windows of series are brought to values of like size, and forecasts back to levels.

u is the level or its logarithm; B windows, W steps seen, K steps to forecast, C columns. What a model forecasts is v,
and u = loc + scale * v for each window, step and column, whatever is chosen: a quantile of v is one of u, and of the
level. So a difference is taken against a value that the window knows, not against the step before, itself a forecast.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.data.checks import check_choice, check_integer

SCALES = ("train", "window", "window_mean", "window_last", "none")
# How many roundings of a value two of them may differ by and still be taken for equal.
_ROUNDINGS = 8


class Scaled(NamedTuple):
    """Windows as models take them.

    Attributes:
        inputs: (B, W, C), NaN where a value is missing.
        loc, scale: (B, K, C).
    """

    inputs: Tensor
    loc: Tensor
    scale: Tensor


class PanelScaling:
    """Logarithm, differences and scale of windows.

    Args:
        transform: 'none' or 'log' (levels must be positive).
        difference: models see the change from step to step, and forecast that from the last known value.
        seasonal_difference: steps of a season: models see the change from one season before, and forecast that from the
            last known season. With both, the change of the change, and the forecast is one from the last known season
            moved by what changed over it.
        scale: 'train': mean and deviation of the series' training part, by column; 'window': of the window;
            'window_mean': divided by the window's mean size; 'window_last': less the window's last value, divided by
            the deviation of the training part; 'none'. A deviation of zero counts as one; where a window knows nothing
            of a column, the training part stands for it.

    Raises:
        ValueError: an argument is none of these, or 'window_last' goes with a difference, which it is.
    """

    def __init__(
        self,
        transform: str = "none",
        difference: bool = False,
        seasonal_difference: int | None = None,
        scale: str = "train",
    ) -> None:
        self.log = check_choice("transform", transform, ("none", "log")) == "log"
        self.difference = difference
        self.season = 0 if seasonal_difference is None else check_integer("seasonal_difference", seasonal_difference, 1)
        self.scale = check_choice("scale", scale, SCALES)
        if scale == "window_last" and self.context:
            raise ValueError("scale=window_last takes the last value away as a difference does: give one of them")

    @property
    def context(self) -> int:
        """How many values before a window its differences need."""
        return int(self.difference) + self.season

    def forward(self, levels: Tensor) -> Tensor:
        """Return u."""
        return levels.log() if self.log else levels

    def inverse(self, values: Tensor) -> Tensor:
        """Return levels of u."""
        return values.exp() if self.log else values

    def changes(self, values: Tensor) -> Tensor:
        """Return (..., R - context, C) of u (..., R, C)."""
        if self.difference:
            values = values.diff(dim=-2)
        if self.season:
            values = values[..., self.season :, :] - values[..., : -self.season, :]
        return values

    def statistics(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation (C,) of the changes of a training part u (R, C); 0 and 1 where there are none."""
        # Column by column: of a long table, what is made on the way is as large as a column, not as the table.
        parts = [_moments_of(self.changes(column)) for column in values.split(1, dim=1)]
        mean, deviation = (torch.tensor(side, dtype=values.dtype) for side in zip(*parts, strict=True))
        return mean, deviation

    def window(self, values: Tensor, mean: Tensor, deviation: Tensor, num_steps: int) -> Scaled:
        """Scale windows.

        Args:
            values: u (B, context + W, C), NaN where missing.
            mean, deviation: (B, C), of the series' training part.
            num_steps: K.
        """
        changes = self.changes(values)
        center, width = mean[:, None], deviation[:, None]  # (B, 1, C)
        if self.scale == "none":
            center, width = torch.zeros_like(center), torch.ones_like(width)
        elif self.scale != "train":
            of_window = self._of_window(changes, center, width)
            is_known = ~changes.isnan().all(dim=1, keepdim=True)  # of the others the training part is all that is known
            center, width = (new.where(is_known, old) for new, old in zip(of_window, (center, width), strict=True))
        reference, repeats = self._reference(values, num_steps)
        shape = (len(values), num_steps, values.shape[-1])
        loc = reference + center * repeats[:, None]
        return Scaled((changes - center) / width, loc.expand(shape), width.expand(shape))

    def _of_window(self, changes: Tensor, center: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Return what windows are scaled by (B, 1, C), by what is known of them."""
        if self.scale == "window":
            return _moments(changes)
        if self.scale == "window_last":
            return _last(changes), width
        return torch.zeros_like(center), _or_one(changes.abs().nanmean(dim=1, keepdim=True))

    def _reference(self, values: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
        """Return what forecasts are changes from, (B, K or 1, C), and how many mean changes lie between, (K,)."""
        steps = torch.arange(num_steps)
        last = values[:, -1:]
        if not self.season:
            if self.difference:
                return last, (steps + 1).to(values.dtype)
            return torch.zeros_like(last), torch.ones(num_steps, dtype=values.dtype)
        reference = values[:, steps % self.season - self.season]
        seasons = (steps // self.season + 1).to(values.dtype)
        if not self.difference:
            return reference, seasons
        moved = last - values[:, -1 - self.season, None]
        return reference + moved * seasons[:, None], torch.zeros(num_steps, dtype=values.dtype)


def _moments_of(values: Tensor) -> tuple[float, float]:
    """Return mean and population deviation of what is known among values; 0 and 1 where nothing is."""
    known = values[~values.isnan()]
    if not len(known):
        return 0.0, 1.0
    deviation, largest = float(known.std(correction=0)), max(-float(known.min()), float(known.max()))
    return float(known.mean()), deviation if deviation > _ROUNDINGS * _eps(values) * largest else 1.0


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population deviation (B, 1, C) over the steps of (B, R, C); 0 and 1 where nothing is known."""
    if not values.shape[1]:
        mean = values.new_zeros(len(values), 1, values.shape[2])
        return mean, torch.ones_like(mean)
    mean = values.nanmean(dim=1, keepdim=True).nan_to_num()
    deviation = (values - mean).square().nanmean(dim=1, keepdim=True).sqrt()
    rounding = _eps(values) * values.abs().nan_to_num().amax(dim=1, keepdim=True)
    return mean, torch.where(deviation > _ROUNDINGS * rounding, deviation, 1.0)


def _eps(values: Tensor) -> float:
    return torch.finfo(values.dtype).eps


def _or_one(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1.0)  # NaN too


def _last(values: Tensor) -> Tensor:
    """Return the last value (B, 1, C) of (B, W, C) that is known; 0 where none is."""
    steps = torch.arange(values.shape[1])[:, None].expand(values.shape)
    last = torch.where(values.isnan(), -1, steps).amax(dim=1, keepdim=True).clamp(min=0)
    return values.gather(1, last).nan_to_num()
