"""A NARX network that forecasts a series from its own last values, step after step.

Letters: B batch, T steps of the input, K steps to forecast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnnlab.nn.cells.base import check_size

FORMS = ("series_parallel", "parallel")


class NARXForecaster(nn.Module):
    """y_t = V tanh(R_1 y_{t-1} + ... + R_q y_{t-q} + b) + c, each forecast put where the last value was.

    The series itself is all that is fed back, there is no other input; `rnnlab.nn.NARX` is the layer with inputs. How
    it is trained is the `form` (Narendra and Parthasarathy, 1990): "series_parallel", one step from true values, at
    each of the K targets, whose gradient sees no recurrence; "parallel", as it is used, K steps from its own values,
    through which the gradient goes.

    Args:
        input_size: 1.
        output_size: K.
        hidden_size: hidden units.
        taps: q, at most T.
        form: one of `FORMS`.

    Raises:
        ValueError: another form, or more than one input.

    Attributes:
        reads_targets: whether training needs them.

    Example:
        >>> NARXForecaster(input_size=1, output_size=10, hidden_size=8, taps=20)(torch.zeros(4, 50, 1)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self, input_size: int, output_size: int, hidden_size: int, taps: int, form: str = "series_parallel"
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"model.form must be one of {', '.join(FORMS)}, got {form!r}")
        if input_size != 1:
            raise ValueError(f"a NARX forecaster feeds one series back, got {input_size} inputs at each step")
        self.num_targets, self.taps = output_size, check_size("model.taps", taps)
        self.reads_targets = form == "series_parallel"
        self.hidden = nn.Linear(taps, check_size("model.hidden_size", hidden_size))
        self.head = nn.Linear(hidden_size, 1)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return the forecasts (B, K) behind series (B, T, 1), fed its own values or, given targets (B, K), these.

        Raises:
            ValueError: a series is shorter than the taps.
        """
        if x.shape[1] < self.taps:
            raise ValueError(f"model.taps={self.taps} must be at most the {x.shape[1]} steps of a series")
        known = x[:, -self.taps :, 0]  # (B, q)
        if targets is not None:
            windows = torch.cat([known, targets[:, :-1]], dim=1).unfold(1, self.taps, 1)  # (B, K, q)
            return self._next(windows)[..., 0]
        forecasts: list[Tensor] = []
        for _ in range(self.num_targets):
            forecasts.append(self._next(known))
            known = torch.cat([known[:, 1:], forecasts[-1]], dim=1)
        return torch.cat(forecasts, dim=1)

    def _next(self, window: Tensor) -> Tensor:
        """Return what follows windows (..., q), (..., 1)."""
        return self.head(torch.tanh(self.hidden(window)))
