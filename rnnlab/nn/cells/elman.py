"""Cells with one gate: Elman's with any activation, Jordan's, IndRNN.

Letters: B batch, I inputs, H units, O outputs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rnnlab.nn.cells.base import (
    ChainCell,
    GateRowsCell,
    check_bias,
    check_name,
    check_size,
    present,
    state_tuple,
    uniform_parameters,
)
from rnnlab_kernels.cells import INDRNN
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.cells.elman import ACTIVATIONS
from rnnlab_kernels.cells.jordan import jordan
from rnnlab_kernels.schedules.layout import block_diagonal

_CHAINS = {name: as_chain(cell) for name, cell in ACTIVATIONS.items()}


class ElmanCell(GateRowsCell):
    """h_t = act(W x_t + b_ih + R h_{t-1} + b_hh) (Elman, 1990), `torch.nn.RNNCell` with any activation.

    Args:
        nonlinearity: "tanh", "relu", "sigmoid", "identity", or a function from (B, H) to (B, H), with which the cell
            runs on the plain loop only.
        bias: True for torch's two vectors, "single" for one, False for none.
        num_heads: N. Head n, of D = H/N units, has R_n h_n, of its own units, for each gate's recurrent product R h:
            weight_hh is (G*H, D), rows by gate, then unit (sLSTM in Beck et al., 2024, "xLSTM"; FlashRNN,
            arXiv 2412.07752).
    """

    gates = ("a",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: str | Callable[[Tensor], Tensor] = "tanh",
        bias: bool | str = True,
        num_heads: int = 1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, num_heads=num_heads)
        if not callable(nonlinearity):
            check_name("nonlinearity", nonlinearity, tuple(ACTIVATIONS))
        self.nonlinearity = nonlinearity
        self.reset_parameters()

    @property
    def chain(self) -> Chain | None:  # type: ignore[override]
        """The chain; None for a function of your own."""
        return _CHAINS[self.nonlinearity] if isinstance(self.nonlinearity, str) else None

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,)

    @property
    def state_type(self) -> Callable[..., Any]:
        return state_tuple(("h",))

    def forward(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Advance by one step: x_t (B, I) and a state to y_t (B, H) and the new state."""
        if isinstance(self.nonlinearity, str):
            return super().forward(x_t, state)
        if state is None:
            state = self.initial_state(x_t.shape[0], x_t.device, x_t.dtype)
        weights = self.kernel_weights()
        if self.num_heads > 1:
            weights["hh"] = block_diagonal(weights["hh"])
        input_part = linear(x_t, weights["ih"], weights.get("bias_ih"))
        h = self.nonlinearity(input_part + linear(state[0], weights["hh"], weights.get("bias_hh")))
        return h, self.state_type(h)


class IndRNNCell(ChainCell):
    """h_t = act(W x_t + b + u * h_{t-1}), one recurrent weight a unit (Li et al., 2018); state h.

    Parameters: weight_ih (H, I), bias_ih (H,), u (H,). u starts uniform in (0, 1): with relu, no unit's memory
    grows. The paper's bound for T steps is 2^(1/T).

    Args:
        nonlinearity: "relu", "tanh" or "identity".
        bias: whether there is b; "single" is True.
    """

    gates = ("a",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: str = "relu",
        bias: bool | str = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_name("nonlinearity", nonlinearity, tuple(INDRNN))
        self.nonlinearity, self.bias = nonlinearity, check_bias(bias)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype)) if bias else None
        self.u = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return INDRNN[self.nonlinearity]

    def reset_parameters(self) -> None:
        """Draw W and b from U(-1/sqrt(H), 1/sqrt(H)), u from U(0, 1)."""
        uniform_parameters(self)
        nn.init.uniform_(self.u)

    def kernel_weights(self) -> dict[str, Tensor]:
        return present(ih=self.weight_ih, bias_ih=self.bias_ih, u=self.u)


class JordanCell(GateRowsCell):
    """Jordan network: the recurrence goes through a running average of past outputs (Jordan, 1986).

        h_t = act(W x_t + b_ih + R m_{t-1} + b_hh)
        y_t = act_out(V h_t + c)
        m_t = a * m_{t-1} + (1 - a) * y_t

    The state is m (B, O), the output y.

    Args:
        output_size: O, H unless given.
        nonlinearity, output_nonlinearity: "tanh", "relu", "sigmoid" or "identity".
        decay: a, the same for all outputs, 0 <= a < 1; 0 feeds back the last output alone.
        learnable: learn an a of each output, in (0, 1), as the logistic function of a parameter; starts from `decay`.
        bias: as for ElmanCell; c is there unless False.
    """

    gates = ("a",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        nonlinearity: str = "tanh",
        output_nonlinearity: str = "identity",
        decay: float = 0.5,
        learnable: bool = False,
        bias: bool | str = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        outputs = hidden_size if output_size is None else check_size("output_size", output_size)
        super().__init__(input_size, hidden_size, bias, device, dtype, columns=outputs)
        check_name("nonlinearity", nonlinearity, tuple(ACTIVATIONS))
        check_name("output_nonlinearity", output_nonlinearity, tuple(ACTIVATIONS))
        if not 0 <= decay < 1 or learnable and decay == 0:
            raise ValueError(f"decay must be in {'(0, 1) to be learned' if learnable else '[0, 1)'}, got: {decay}")
        self.nonlinearity, self.output_nonlinearity = nonlinearity, output_nonlinearity
        self.first_decay = float(decay)
        self.weight_out = self._empty(outputs, hidden_size)
        self.bias_out = self._empty(outputs) if bias else None
        self.decay_logit = self._empty(outputs) if learnable else None
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return jordan(self.nonlinearity, self.output_nonlinearity)

    @property
    def output_size(self) -> int:
        return self.weight_out.shape[0]

    @property
    def decay(self) -> Tensor:
        """a (O,)."""
        if self.decay_logit is not None:
            return torch.sigmoid(self.decay_logit)
        # Made of the argument each time: a buffer outside the state_dict would be lost through the meta device.
        return self.weight_out.new_full((self.output_size,), self.first_decay)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.output_size,)

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-1/sqrt(H), 1/sqrt(H)); a learned decay starts over."""
        super().reset_parameters()
        if self.decay_logit is not None:
            nn.init.constant_(self.decay_logit, torch.logit(torch.tensor(self.first_decay, dtype=torch.float64)).item())

    def kernel_weights(self) -> dict[str, Tensor]:
        return super().kernel_weights() | present(out=self.weight_out, bias_out=self.bias_out, decay=self.decay)
