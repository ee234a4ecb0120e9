"""What a forecaster says of a value: a point, quantiles, or the parameters of a distribution.

A head has no weights: a model gives it P raw numbers for each value, and it makes of them a loss, a mean, quantiles and
samples. Values v are scaled, a level is loc + scale * v. Letters: P raw numbers, L levels learnt, Q levels asked for;
"..." is any shape, that of the values.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, softplus

from rnnlab.models.distributions import negative_binomial_log_share, negative_binomial_quantiles, student_t_quantiles

# Every twentieth, and the ends of an interval of 95%.
LEVELS = (0.025, *(round(0.05 * k, 2) for k in range(1, 20)), 0.975)
_FLOOR = 1e-4  # of deviations, in units of the scaled values


class Head:
    """Base of the heads.

    Attributes:
        size: P.
        place: of the raw number that moves the forecast as a whole.
        has_distribution: whether there are quantiles.
    """

    size = 1
    place = 0
    has_distribution = True

    def check(self, loc: Tensor) -> None:
        """Raise ValueError if values that are scaled so cannot be said."""

    def check_levels(self, levels: Tensor) -> None:
        """Raise ValueError if these levels, NaN where missing, are not of the kind that the head can say."""

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """Return the loss (...) of raw numbers (..., P) and true values y (...), which are finite."""
        raise NotImplementedError

    def mean(self, raw: Tensor, scale: Tensor) -> Tensor:
        """Return the mean (...)."""
        raise NotImplementedError

    def quantiles(self, raw: Tensor, levels: Sequence[float], scale: Tensor) -> Tensor:
        """Return the quantiles (..., Q) at levels in (0, 1)."""
        raise NotImplementedError

    def sample(self, raw: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw (...) of each value."""
        raise NotImplementedError


class PointHead(Head):
    """A number, without a distribution: no quantiles, and a sample is the number itself.

    Args:
        loss: 'mse', 'mae', or 'huber' (squared up to an error of 1, straight beyond).
    """

    has_distribution = False

    def __init__(self, loss: str = "mse") -> None:
        if loss not in ("mse", "mae", "huber"):
            raise ValueError(f"model.head.loss must be mse, mae or huber, got {loss!r}")
        self.kind = loss

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        value = raw[..., 0]
        if self.kind == "huber":
            return huber_loss(value, y, reduction="none")
        return (value - y).square() if self.kind == "mse" else (value - y).abs()

    def mean(self, raw: Tensor, scale: Tensor) -> Tensor:
        return raw[..., 0]

    def quantiles(self, raw: Tensor, levels: Sequence[float], scale: Tensor) -> Tensor:
        return raw[..., :0]

    def sample(self, raw: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return raw[..., 0]


class QuantileHead(Head):
    """Quantiles by the pinball loss (Koenker and Bassett, 1978), which never cross.

    The median is a raw number; each further quantile lies a step away from its neighbour nearer to the median, and
    steps are softplus of raw numbers, of such a size that raw zeros mean the standard normal distribution. Between the
    levels learnt quantiles lie on a straight line, beyond the outermost on the line through the outermost two. Twice
    the pinball loss, mean over levels, is what is minimised: at many even levels the CRPS.

    Args:
        levels: L shares in (0, 1), increasing, 0.5 among them and some on both sides of it.
    """

    def __init__(self, levels: Sequence[float] = LEVELS) -> None:
        levels = [levels] if isinstance(levels, int | float) else list(levels)
        are_numbers = all(isinstance(level, int | float) and 0 < level < 1 for level in levels)
        if not are_numbers or sorted(set(levels)) != levels or 0.5 not in levels[1:-1]:
            raise ValueError(
                "model.head.levels must be shares between 0 and 1, increasing, with 0.5 and some on both sides of it, "
                f"got {levels}"
            )
        self.levels = tuple(map(float, levels))
        self.size = len(levels)
        self.place = levels.index(0.5)
        normal = torch.special.ndtri(torch.tensor(self.levels, dtype=torch.float64))
        self._gaps = [0.0, *(normal.diff() / math.log(2)).tolist()]  # softplus(0) = log 2
        # The mean of the quantiles at all levels is a mean of those learnt, with these weights.
        grid = torch.tensor([0.0, *self.levels, 1.0], dtype=torch.float64)
        at_grid = self._at(torch.eye(self.size, dtype=torch.float64), grid)  # (L, L + 2)
        self._weights = ((at_grid[:, 1:] + at_grid[:, :-1]) / 2 @ grid.diff()).tolist()

    def values(self, raw: Tensor) -> Tensor:
        """Return the quantiles learnt (..., L), never falling, of raw numbers (..., L)."""
        # From the lowest up: so sums of steps never fall, rounded as they are.
        below, median, above = raw.split([self.place, 1, self.size - self.place - 1], dim=-1)
        steps = softplus(torch.cat([median, below, above], dim=-1)) * raw.new_tensor(self._gaps)
        lowest = median - steps[..., 1 : self.place + 1].sum(dim=-1, keepdim=True)
        return lowest + steps.cumsum(dim=-1)

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        error, slant = y.unsqueeze(-1) - self.values(raw), 2 * raw.new_tensor(self.levels) - 1
        return error.abs().mean(dim=-1) + error @ slant / self.size  # 2 max(level e, (level - 1) e) = |e| + slant e

    def mean(self, raw: Tensor, scale: Tensor) -> Tensor:
        return self.values(raw) @ raw.new_tensor(self._weights)

    def quantiles(self, raw: Tensor, levels: Sequence[float], scale: Tensor) -> Tensor:
        values = self.values(raw)
        if tuple(levels) == self.levels:
            return values
        return self._at(values, torch.tensor(levels, dtype=raw.dtype, device=raw.device))

    def sample(self, raw: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> Tensor:
        share = torch.rand(raw.shape[:-1], generator=generator, dtype=raw.dtype, device=raw.device)
        return self._at(self.values(raw), share.unsqueeze(-1))[..., 0]

    def _at(self, values: Tensor, levels: Tensor) -> Tensor:
        """Return the quantiles (..., Q) at levels (Q,) or (..., Q), by those learnt (..., L)."""
        known = torch.tensor(self.levels, dtype=levels.dtype, device=levels.device)
        right = torch.searchsorted(known, levels.contiguous()).clamp(1, self.size - 1)
        share = (levels - known[right - 1]) / (known[right] - known[right - 1])
        right = right.expand(*values.shape[:-1], right.shape[-1])
        low, high = values.gather(-1, right - 1), values.gather(-1, right)
        return torch.lerp(low, high, share.to(values.dtype).expand(low.shape))


class GaussianHead(Head):
    """A normal distribution: mean, and deviation softplus(.) + 1e-4; minimised is -log p."""

    size = 2

    def parameters(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation (...)."""
        return raw[..., 0], softplus(raw[..., 1]) + _FLOOR

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        mean, deviation = self.parameters(raw)
        return ((y - mean) / deviation).square() / 2 + deviation.log() + math.log(2 * math.pi) / 2

    def mean(self, raw: Tensor, scale: Tensor) -> Tensor:
        return raw[..., 0]

    def quantiles(self, raw: Tensor, levels: Sequence[float], scale: Tensor) -> Tensor:
        mean, deviation = self.parameters(raw)
        normal = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).to(raw)
        return mean.unsqueeze(-1) + deviation.unsqueeze(-1) * normal

    def sample(self, raw: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, deviation = self.parameters(raw)
        return mean + deviation * torch.randn(mean.shape, generator=generator, dtype=raw.dtype, device=raw.device)


class StudentTHead(Head):
    """Student's t: mean, width softplus(.) + 1e-4, and degrees of freedom 2 + softplus(.) + 1e-4.

    Minimised is -log p; the variance is finite.
    """

    size = 3

    def parameters(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, width and degrees of freedom (...)."""
        return raw[..., 0], softplus(raw[..., 1]) + _FLOOR, 2 + softplus(raw[..., 2]) + _FLOOR

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        mean, width, freedom = self.parameters(raw)
        log_constant = torch.lgamma((freedom + 1) / 2) - torch.lgamma(freedom / 2) - (freedom * math.pi).log() / 2
        squares = ((y - mean) / width).square() / freedom
        return (freedom + 1) / 2 * squares.log1p() + width.log() - log_constant

    def mean(self, raw: Tensor, scale: Tensor) -> Tensor:
        return raw[..., 0]

    def quantiles(self, raw: Tensor, levels: Sequence[float], scale: Tensor) -> Tensor:
        mean, width, freedom = self.parameters(raw)
        return mean.unsqueeze(-1) + width.unsqueeze(-1) * student_t_quantiles(freedom, levels)

    def sample(self, raw: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, width, freedom = self.parameters(raw)
        normal = torch.randn(mean.shape, generator=generator, dtype=raw.dtype, device=raw.device)
        chi_square = 2 * torch._standard_gamma(freedom / 2, generator=generator)
        return mean + width * normal * (freedom / chi_square).sqrt()


class NegativeBinomialHead(Head):
    """Counts: their mean is scale * (softplus(.) + 1e-4), their variance mean + dispersion * mean^2.

    The dispersion is (softplus(.) + 1e-4) / sqrt(scale) (Salinas et al., 2020). Levels must be whole numbers from 0 and
    loc 0: data.scale=none or window_mean, no logarithm and no difference. Minimised is -log p of the count.
    Quantiles are found by counting: they are for counts in the thousands at most.
    """

    size = 2

    def check(self, loc: Tensor) -> None:
        if bool((loc != 0).any()):
            raise ValueError(
                "model.head.name=negative_binomial is for counts as they are: data.scale=none or window_mean, with no "
                "transform and no difference"
            )

    def check_levels(self, levels: Tensor) -> None:
        known = levels[~levels.isnan()]
        others = known[(known < 0) | (known != known.round())]
        if len(others):
            raise ValueError(
                "model.head.name=negative_binomial is for counts, whole numbers from 0, and the targets have "
                f"{float(others[0]):g}"
            )

    def parameters(self, raw: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and shape, 1 / dispersion, of the counts, float64 (...): a large shape needs the digits."""
        mean, dispersion = (softplus(raw.double()) + _FLOOR).unbind(-1)
        scale = scale.double()
        return scale * mean, scale.sqrt() / dispersion

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        mean, shape = self.parameters(raw, scale)
        count = (y.double() * scale.double()).round()
        return -negative_binomial_log_share(count, mean, shape).to(raw.dtype)

    def mean(self, raw: Tensor, scale: Tensor) -> Tensor:
        return softplus(raw[..., 0]) + _FLOOR

    def quantiles(self, raw: Tensor, levels: Sequence[float], scale: Tensor) -> Tensor:
        counts = negative_binomial_quantiles(*self.parameters(raw, scale), levels)
        return (counts / scale.double().unsqueeze(-1)).to(raw.dtype)

    def sample(self, raw: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, shape = self.parameters(raw, scale)
        rate = torch._standard_gamma(shape, generator=generator) * mean / shape
        return (torch.poisson(rate, generator=generator) / scale.double()).to(raw.dtype)


HEADS: dict[str, type[Head]] = {
    "point": PointHead,
    "quantile": QuantileHead,
    "gaussian": GaussianHead,
    "student_t": StudentTHead,
    "negative_binomial": NegativeBinomialHead,
}


def make_head(head: str | Mapping[str, Any]) -> Head:
    """Return a head of `HEADS`, by its name or as a mapping of `name` and its options.

    Raises:
        ValueError: there is no such head, or it has no such option.

    Example:
        >>> make_head({"name": "quantile", "levels": [0.1, 0.5, 0.9]}).size
        3
    """
    options = {"name": head} if isinstance(head, str) else dict(head)
    name = options.pop("name", None)
    if name not in HEADS:
        near = get_close_matches(str(name), HEADS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"model.head.name must be one of {', '.join(HEADS)}, got {name!r}{hint}")
    known = [] if HEADS[name].__init__ is object.__init__ else [*inspect.signature(HEADS[name]).parameters]
    for option in options:
        if option not in known:
            raise ValueError(f"model.head.name={name} has no option {option!r}, it has {' and '.join(known) or 'none'}")
    return HEADS[name](**options)
