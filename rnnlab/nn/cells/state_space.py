"""Cells from system identification: nonlinear state space and NARX.

Letters: T time, B batch, I inputs, H units, O outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from rnnlab.nn import checks
from rnnlab.nn.cells.base import (
    ChainCell,
    GateRowsCell,
    check_bias,
    check_name,
    check_size,
    present,
    uniform_parameters,
)
from rnnlab.nn.state import autocast_dtype
from rnnlab_kernels.cells.chain import Chain
from rnnlab_kernels.cells.elman import ACTIVATIONS
from rnnlab_kernels.cells.narx import narx
from rnnlab_kernels.cells.state_space import state_space


class StateSpaceCell(GateRowsCell):
    """h_t = f(x_t, h_{t-1}), y_t = g(h_t), f and g small networks (deep transition and output; Pascanu et al., 2014).

        h_t = act(U tanh(W x_t + b_ih + R h_{t-1} + b_hh) + c)
        y_t = V tanh(S h_t + d) + e

    The state is h (B, H), the output y (B, O). g runs outside of the recurrence.

    Args:
        output_size: O, H unless given.
        transition_size, observation_size: hidden units of f and of g, H unless given.
        nonlinearity: act: "tanh", "relu", "sigmoid" or "identity".
        bias: True for all of the above, "single" without b_hh, False for none.
    """

    gates = ("a",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        transition_size: int | None = None,
        observation_size: int | None = None,
        nonlinearity: str = "tanh",
        bias: bool | str = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = {"output_size": output_size, "transition_size": transition_size, "observation_size": observation_size}
        outputs, transition, observation = (
            hidden_size if size is None else check_size(name, size) for name, size in sizes.items()
        )
        super().__init__(input_size, hidden_size, bias, device, dtype, rows=transition)
        check_name("nonlinearity", nonlinearity, tuple(ACTIVATIONS))
        self.nonlinearity = nonlinearity
        self.weight_transition = self._empty(hidden_size, transition)
        self.bias_transition = self._empty(hidden_size) if bias else None
        self.observation = nn.Sequential(
            nn.Linear(hidden_size, observation, bool(bias), device, dtype),
            nn.Tanh(),
            nn.Linear(observation, outputs, bool(bias), device, dtype),
        )
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return state_space(self.nonlinearity)

    @property
    def output_size(self) -> int:
        return self.observation[-1].out_features  # type: ignore[return-value]

    def kernel_weights(self) -> dict[str, Tensor]:
        return super().kernel_weights() | present(uh=self.weight_transition, bias_uh=self.bias_transition)

    def outputs(self, y: Tensor) -> Tensor:
        """Return g of the states y (..., H): (..., O)."""
        return self.observation(y)


class NARXCell(ChainCell):
    """NARX network (Lin et al., 1996): past inputs and past outputs are all it remembers.

        y_t = V tanh(W_0 x_t + ... + W_p x_{t-p} + R_1 y_{t-1} + ... + R_q y_{t-q} + b) + c

    The state keeps, for k = 1 ... max(p, q), what the past adds to the hidden units in k steps, sk (B, H), rather than
    the past itself: so the products with all x run at once. Zeros mean zeros before the first step; for another past,
    give it to `forced` and go on from the state which that returns.

    weight_ih ((p+1)*H, I) holds W_0 ... W_p below each other, weight_hh (q*H, O) R_1 ... R_q.

    Args:
        output_size: O, H unless given.
        input_taps: p >= 0, past inputs beside x_t.
        output_taps: q >= 1, past outputs.
        bias: whether there are b and c; "single" is True.
    """

    gates = ("a",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        input_taps: int = 1,
        output_taps: int = 1,
        bias: bool | str = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        outputs = hidden_size if output_size is None else check_size("output_size", output_size)
        self.input_taps = check_size("input_taps", input_taps, least=0)
        self.output_taps = check_size("output_taps", output_taps)
        self.bias = check_bias(bias)

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight_ih = empty((input_taps + 1) * hidden_size, input_size)
        self.weight_hh = empty(output_taps * hidden_size, outputs)
        self.weight_out = empty(outputs, hidden_size)
        self.bias_ih = empty(hidden_size) if bias else None
        self.bias_out = empty(outputs) if bias else None
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return narx(max(self.input_taps, self.output_taps))

    @property
    def output_size(self) -> int:
        return self.weight_out.shape[0]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch does."""
        uniform_parameters(self)

    def kernel_weights(self) -> dict[str, Tensor]:
        hidden, taps = self.hidden_size, len(self.chain.states)
        return present(
            ih=pad(self.weight_ih, (0, 0, 0, (taps - self.input_taps) * hidden)),
            hh=pad(self.weight_hh, (0, 0, 0, (taps - self.output_taps) * hidden)),
            bias_ih=None if self.bias_ih is None else pad(self.bias_ih, (0, taps * hidden)),
            out=self.weight_out,
            bias_out=self.bias_out,
        )

    def forced(self, x: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Run with known outputs fed back (teacher forcing): no recurrence is left, all steps are computed at once.

        Args:
            x: (T, B, I).
            targets: (T, B, O), what stands for y_t in the steps after t.
            state: where to start; zeros if None.

        Returns:
            y (T, B, O), and the state after the last step, from which a free run can go on.

        Raises:
            ValueError: targets of another shape, x of another dtype than the weights.
            RuntimeError: x of another size or device.
        """
        if targets.shape != (*x.shape[:2], self.output_size):
            expected = (*x.shape[:2], self.output_size)
            raise ValueError(f"expected targets of shape {expected}, got {tuple(targets.shape)}")
        checks.check_input_tensor(x, self.weight_ih, self.input_size, autocast_dtype(x.device) is not None)
        if state is None:
            state = self.initial_state(x.shape[1], x.device, x.dtype)
        weights, num_steps, num_taps = self.kernel_weights(), len(x), len(state)
        from_x = linear(x, weights["ih"], weights.get("bias_ih")).chunk(num_taps + 1, -1)
        from_y = linear(targets, weights["hh"]).chunk(num_taps, -1)
        # What reaches the hidden units at each step, and at the m steps after the last: the new state.
        total = pad(torch.stack(tuple(state)), (0, 0, 0, 0, 0, num_steps))
        total = total + pad(from_x[0], (0, 0, 0, 0, 0, num_taps))
        for k, part in enumerate(map(torch.add, from_x[1:], from_y), start=1):
            total = total + pad(part, (0, 0, 0, 0, k, num_taps - k))
        y = linear(torch.tanh(total[:num_steps]), self.weight_out, self.bias_out)
        return y, self.state_type(*total[num_steps:])
