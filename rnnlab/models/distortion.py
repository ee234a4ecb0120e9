"""Random changes of sequences in training that leave their class as it is. T steps, B rows, I values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnnlab.models.layers import LockedDropout


class Distortion(nn.Module):
    """Move, stretch, scale and tilt sequences, and add noise, each row by numbers of its own; in training alone.

    Numbers come from torch's generator, as those of dropout.

    Args:
        roll: a row is moved by up to so many steps either way; what leaves at one end comes in at the other.
        warp: a row is read at up to that share faster or slower, about its middle, by linear interpolation; its ends
            are held.
        scale: values are multiplied by a number up to so far from 1.
        tilt: up to so much is added at the end of a row and taken away at its beginning, along a straight line.
        noise: deviation of white noise.
        column_dropout: rate at which a column is zero in all steps of a row (as Park et al., 2019, mask bands).

    Raises:
        ValueError: one is below 0, or `warp`, `scale` or `column_dropout` not below 1.
    """

    def __init__(
        self,
        roll: int = 0,
        warp: float = 0.0,
        scale: float = 0.0,
        tilt: float = 0.0,
        noise: float = 0.0,
        column_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        given = {"roll": roll, "warp": warp, "scale": scale, "tilt": tilt, "noise": noise}
        given["column_dropout"] = column_dropout
        for name, value in given.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            below_one = name not in ("warp", "scale", "column_dropout") or (is_number and value < 1)
            if not is_number or not 0 <= value < float("inf") or not below_one:
                allowed = "at least 0" if name in ("roll", "tilt", "noise") else "in [0, 1)"
                raise ValueError(f"model.distortion.{name} must be a number {allowed}, got {value!r}")
        if type(roll) is not int:
            raise ValueError(f"model.distortion.roll must be an integer, got {roll!r}")
        self.roll, self.warp, self.scale, self.tilt = roll, warp, scale, tilt
        self.noise, self.column_dropout = noise, LockedDropout(column_dropout)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return changed values (T, B, I); what stands in padding is of no meaning then.

        Args:
            values: (T, B, I).
            lengths: int64 (B,), steps of each row.
        """
        if not self.training:
            return values
        num_steps, batch, width = values.shape
        steps = torch.arange(num_steps, device=values.device).unsqueeze(1)  # (T, 1)
        if self.warp:
            middle = (lengths - 1) / 2
            values = _read_at(values, (steps - middle) * (1 + self.warp * _uniform(values, 1)) + middle, lengths)
        if self.roll:
            moved = torch.randint(-self.roll, self.roll + 1, (batch,), device=values.device)
            places = ((steps - moved) % lengths).unsqueeze(2).expand(-1, -1, width)
            values = values.gather(0, places)
        if self.scale:
            values = values * (1 + self.scale * _uniform(values, width).view(1, batch, width))
        if self.tilt:
            slope = 2 * steps / (lengths - 1).clamp(min=1) - 1  # from -1 to 1, (T, B)
            values = values + self.tilt * _uniform(values, width).view(1, batch, width) * slope.unsqueeze(2)
        if self.noise:
            values = values + self.noise * torch.randn_like(values)
        return self.column_dropout(values)


def _uniform(values: Tensor, width: int) -> Tensor:
    """Return numbers from -1 to 1, (B,) or (B, width)."""
    shape = (values.shape[1],) if width == 1 else (values.shape[1], width)
    return 2 * torch.rand(shape, device=values.device, dtype=values.dtype) - 1


def _read_at(values: Tensor, places: Tensor, lengths: Tensor) -> Tensor:
    """Return values (T, B, I) at places (T, B) between steps, by linear interpolation, the ends of each row held."""
    places = torch.minimum(places.clamp(min=0), (lengths - 1).to(places.dtype))
    lower = places.floor()
    share = (places - lower).unsqueeze(2)
    first = lower.long()
    second = torch.minimum(first + 1, lengths - 1)
    ends = (values.gather(0, index.unsqueeze(2).expand(-1, -1, values.shape[2])) for index in (first, second))
    return torch.lerp(*ends, share)
