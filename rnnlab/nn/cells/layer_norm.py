"""Cells with layer norm inside the step (Ba et al., 2016). Letters: B batch, I inputs, H units.

Weights start as torch's do, gains at 1, shifts and the biases that act as shifts at 0. The norm divides by the square
root of variance + 1e-5. What a norm of the sum or of one of its parts is, see rnnlab_kernels.cells.layer_norm.
"""

from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from rnnlab.nn.cells.base import GateRowsCell, check_name
from rnnlab_kernels.cells.chain import EPS, Chain
from rnnlab_kernels.cells.elman import ACTIVATIONS
from rnnlab_kernels.cells.gru import GRU
from rnnlab_kernels.cells.layer_norm import LAYER_NORM_GRU, LAYER_NORM_LSTM, LAYER_NORM_RNN
from rnnlab_kernels.cells.lstm import LSTM

NORM_CELL = (True, False, "output", "state")


class LayerNormRNNCell(GateRowsCell):
    """h_t = act(gain * LN(W x_t + b_ih + R h_{t-1} + b_hh) + shift) (Ba et al., 2016, equation 4).

    Args:
        nonlinearity: "tanh", "relu", "sigmoid" or "identity".
        bias: True for torch's two vectors, "single" for one, False for none; gain and shift (H,) stay.
    """

    gates, further = ("a",), ("gain", "shift")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: str = "tanh",
        bias: bool | str = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        check_name("nonlinearity", nonlinearity, tuple(ACTIVATIONS))
        self.nonlinearity = nonlinearity
        self.gain, self.shift = self._empty(hidden_size), self._empty(hidden_size)
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return LAYER_NORM_RNN[self.nonlinearity]

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-1/sqrt(H), 1/sqrt(H)); gain 1, shift 0."""
        super().reset_parameters()
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.shift)


class _NormedParts(GateRowsCell):
    """A cell whose input part and recurrent part of the gates are normalised apart, each over all G*H columns."""

    further: ClassVar[tuple[str, ...]] = ("gain_hh",)
    gain_ih: nn.Parameter | None
    gain_hh: nn.Parameter | None

    def _add_gains(self, norm_input: bool, norm_recurrent: bool) -> None:
        rows = len(self.gates) * self.hidden_size
        self.gain_ih = self._empty(rows) if norm_input else None
        self.gain_hh = self._empty(rows) if norm_recurrent else None

    def reset_parameters(self) -> None:
        """Draw weights from U(-1/sqrt(H), 1/sqrt(H)); gains 1, all that is added 0."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("gain"):
                nn.init.ones_(parameter)
            elif not name.startswith("weight"):
                nn.init.zeros_(parameter)

    def inputs(self, x: Tensor) -> Tensor:
        """Return the normalised input part of the gates (..., G*H); x itself without that norm."""
        if self.gain_ih is None:
            return x
        weight, shift = cast(Tensor, self.weight_ih), cast(Tensor, self.bias_ih) if self.bias else None
        return layer_norm(linear(x, weight), self.gain_ih.shape, self.gain_ih, shift, EPS)

    def kernel_weights(self) -> dict[str, Tensor]:
        weights = super().kernel_weights()
        if self.gain_ih is not None:
            weights.pop("bias_ih", None)
            del weights["ih"]
        return weights


class LayerNormLSTMCell(_NormedParts):
    """LSTM with layer norms (Ba et al., 2016, equations 20 to 22), gate order i f g o, state (h, c).

        gates = (gain_ih * LN(W x_t) + bias_ih) + (gain_hh * LN(R h_{t-1}) + bias_hh)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(gain_c * LN(c_t) + shift_c)

    Args:
        norm_input, norm_recurrent: whether W x_t and R h_{t-1} are normalised.
        norm_cell: where the cell state is normalised. "output" or True: inside tanh, c_t itself is carried on (the
            paper, haste). "state": the normalised value is carried on (TensorFlow's LayerNormBasicLSTMCell). False:
            nowhere.
        bias: True for bias_ih and bias_hh, the shifts of the two norms (the paper's third vector is part of their sum),
            "single" for one, False for none; shift_c stays.

    Raises:
        ValueError: another `norm_cell`.
    """

    gates, further = LSTM.gates, ("gain_hh", "gain_c", "shift_c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        norm_input: bool = True,
        norm_recurrent: bool = True,
        norm_cell: bool | str = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        check_name("norm_cell", norm_cell, NORM_CELL)
        self.norm_cell = "output" if norm_cell is True else norm_cell or None
        self._add_gains(norm_input, norm_recurrent)
        self.gain_c = self._empty(hidden_size) if norm_cell else None
        self.shift_c = self._empty(hidden_size) if norm_cell else None
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return LAYER_NORM_LSTM[self.gain_hh is not None, self.norm_cell]


class LayerNormGRUCell(_NormedParts):
    """GRU with both parts of its gates normalised, reset after the product, gate order r z n (Ba et al., 2016).

        r, z, n_x | n_h from a = gain_ih * LN(W x_t) + bias_ih and b = gain_hh * LN(R h_{t-1}) + bias_hh
        r, z = sigmoid(a + b)   n = tanh(a_n + r * b_n)   h_t = (1 - z) * n + z * h_{t-1}

    Args:
        bias: True for both shifts, "single" for bias_ih alone, False for none.
    """

    gates = GRU.gates
    chain = LAYER_NORM_GRU

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool | str = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self._add_gains(norm_input=True, norm_recurrent=True)
        self.reset_parameters()
