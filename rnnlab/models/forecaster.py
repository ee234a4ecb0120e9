"""A recurrent network that reads a series and forecasts what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rnnlab.models.layers import RecurrentFactory, initialise_all, last_output, output_width


class Forecaster(nn.Module):
    """Series -> recurrent layers -> linear read-out, at the last step or at every step.

    Args:
        rnn: factory of recurrent layers, called with `input_size`.
        input_size: I, values at each step.
        output_size: K, steps to forecast.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.
        head: with False the layer's own output is the forecast, which then needs K units.
        all_steps: forecast at every step, not only at the last one.

    Raises:
        ValueError: no head and a width other than K, or a bidirectional layer that would forecast at every step, where
            its reverse direction has seen the answer.

    Example:
        >>> import functools, torch
        >>> gru = functools.partial(torch.nn.GRU, hidden_size=20, num_layers=2)
        >>> model = Forecaster(gru, input_size=1, output_size=10)
        >>> model(torch.zeros(4, 50, 1)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        input_size: int,
        output_size: int,
        init: Mapping[str, Any] | None = None,
        head: bool = True,
        all_steps: bool = False,
    ) -> None:
        super().__init__()
        self.all_steps = all_steps
        self.rnn = rnn(input_size=input_size)
        width = output_width(self.rnn)
        if not head and width != output_size:
            raise ValueError(
                f"head=False makes the layer's output the forecast: it must have {output_size} features, got {width}"
            )
        if all_steps and self.rnn.bidirectional:
            raise ValueError("all_steps=True needs bidirectional=False: the reverse direction has seen the future")
        self.head = nn.Linear(width, output_size) if head else None
        initialise_all([self.rnn], self.head, init)

    def initial_state(self, batch_size: int) -> Any:
        """Return the recurrent layer's state before the first step of B series; None, for zeros, if it makes none."""
        make = getattr(self.rnn, "initial_state", None)  # torch's own layers have none
        return None if make is None else make(batch_size)

    def forward(self, x: Tensor, state: Any = None, return_state: bool = False) -> Tensor | tuple[Tensor, Any]:
        """Return the forecasts.

        Args:
            x: series (B, T, I), or the next steps of series that began in former calls.
            state: the recurrent layer's state before the first step, in the form of its `hx`; its own if None.
            return_state: return the state after the last step too, for the call that goes on.

        Returns:
            (B, K) from the last step, or (B, T, K) if `all_steps`; with `return_state`, a pair of these and the state.
        """
        output, state = self.rnn(x.transpose(0, 1), state)  # (T, B, H)
        output = output.transpose(0, 1) if self.all_steps else last_output(output, self.rnn)
        forecast = output if self.head is None else self.head(output)
        return (forecast, state) if return_state else forecast
