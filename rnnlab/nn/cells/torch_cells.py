"""Drop-in replacements of torch.nn.RNNCell, LSTMCell and GRUCell, and the single step the layers share with them.

Letters: B batch, I input_size, H hidden_size.
"""

from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.nn import checks
from rnnlab.nn.backend import Call, choose, is_torchs_step, schedule
from rnnlab.nn.state import attributes, autocast_dtype, autocast_to, without_autocast
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.layout import Weights
from rnnlab_kernels.schedules.library.aten import cell_step

Tensors = tuple[Tensor, ...]


class Cell(nn.RNNCellBase):
    """What the three cells share. torch's base class keeps parameters, initialisation and repr."""

    mode: str
    backend: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
    ) -> None:
        checks.check_cell_sizes(input_size, hidden_size)
        checks.check_backend_name(backend)
        super().__init__(input_size, hidden_size, bias, len(CELLS[self.mode.lower()].gates), device, dtype)
        self.backend = backend

    def backend_call(self, input: Tensor | None = None, lengths: None = None) -> Call:
        """Return what the choice of a backend depends on; see `explain_backend`. A cell has no use for lengths."""
        device = self.weight_ih.device if input is None else input.device
        batch = 32 if input is None else 1 if input.dim() == 1 else input.shape[0]
        return self._call(self.weight_ih, device, batch, autocast_dtype(device))

    def _call(self, weight: Tensor, device: torch.device, batch: int, cast_to: torch.dtype | None) -> Call:
        dtype = weight.dtype if cast_to is None else autocast_to(cast_to, weight.new_empty(0)).dtype
        differentiated = torch.is_grad_enabled() and weight.requires_grad
        return Call(self.mode, self.hidden_size, 0, device, dtype, batch, "step", differentiated, self.training)

    def initial_state(self, batch_size: int) -> Tensor | Tensors:
        """Return zeros in the form of `hx`: (B, H), for an LSTM two of them."""
        return self._as_hidden(self._zeros(self.weight_hh, batch_size))

    def _zeros(self, like: Tensor, batch: int) -> Tensors:
        return tuple(like.new_zeros(batch, self.hidden_size) for _ in CELLS[self.mode.lower()].states)

    def _as_hidden(self, states: Tensors) -> Any:
        return states if self.mode == "LSTM" else states[0]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Advance by one step.

        Args:
            input: (B, I) or (I,).
            hx: (B, H) or (H,), for an LSTM a tuple (h, c) of such; zeros if None.

        Returns:
            The new state in the form of `hx`.
        """
        name, num_states = type(self).__name__, 2 if self.mode == "LSTM" else 1
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        states = None if hx is None else checks.split_states(hx, num_states, name)
        for k, state in enumerate(states or ()):
            if state.dim() not in (1, 2):
                label = f"hx[{k}]" if self.mode == "LSTM" else "hidden"
                raise ValueError(f"{name}: Expected {label} to be 1D or 2D, got {state.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if states is None:
            states = self._zeros(x, x.shape[0])
        elif not batched:
            states = tuple(state.unsqueeze(0) for state in states)
        cast_to = autocast_dtype(x.device)
        weights = attributes(self, ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if self.bias else 2])
        checks.check_cell_call(x, states, weights[0], self.input_size, self.hidden_size, cast_to is not None)
        backend = "aten"
        if not is_torchs_step(self.backend, is_plain=True):
            backend = choose(self.backend, self._call(weights[0], x.device, x.shape[0], cast_to)).backend
        with without_autocast(x.device, cast_to):
            if cast_to is not None:
                x, states = autocast_to(cast_to, x), tuple(autocast_to(cast_to, state) for state in states)
                weights = [autocast_to(cast_to, weight) for weight in weights]
            if backend == "aten":
                new = cell_step(self.mode, x, states, *weights)
            else:
                new = schedule(backend)(CELLS[self.mode.lower()], x.unsqueeze(0), states, Weights(*weights))[1]
        return self._as_hidden(new if batched else tuple(state.squeeze(0) for state in new))


class RNNCell(Cell):
    """One step of an Elman network; arguments as torch.nn.RNNCell, `backend` as rnnlab.nn.RNN."""

    nonlinearity: str
    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
    ) -> None:
        checks.check_nonlinearity(nonlinearity)
        self.mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(input_size, hidden_size, bias, device, dtype, backend=backend)
        self.nonlinearity = nonlinearity


class LSTMCell(Cell):
    """One step of an LSTM; arguments as torch.nn.LSTMCell, `backend` as rnnlab.nn.LSTM."""

    mode = "LSTM"


class GRUCell(Cell):
    """One step of a GRU; arguments as torch.nn.GRUCell, `backend` as rnnlab.nn.GRU."""

    mode = "GRU"
