"""LSTM and its variants: projection, coupled gates, peepholes.

Letters: B batch, I inputs, H units, P projected units.
"""

from typing import Any

import torch
from torch import Tensor

from rnnlab.nn.cells.base import GateRowsCell, check_size, present
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.cells.cifg import CIFG
from rnnlab_kernels.cells.lstm import LSTM
from rnnlab_kernels.cells.peephole import DENSE_PEEPHOLE_LSTM, PEEPHOLE_LSTM

_PLAIN, _PROJECTED = as_chain(LSTM), as_chain(LSTM, projection=True)


class GatedLSTMCell(GateRowsCell):
    """`torch.nn.LSTMCell` for `Recurrent`, with the projection of `torch.nn.LSTM` (Sak et al., 2014).

        i, f, o = sigmoid(.)   g = tanh(.)   c_t = f * c_{t-1} + i * g   h_t = weight_hr (o * tanh(c_t))

    Gate order i f g o and parameters are torch's; state (h, c).

    Args:
        bias: True for torch's two vectors, "single" for one, False for none.
        proj_size: P, columns of h, with weight_hr (P, H); less than H. 0 for h_t = o * tanh(c_t), (B, H).
        num_heads: N. Head n, of D = H/N units, has R_n h_n, of its own units, for each gate's recurrent product R h:
            weight_hh is (G*H, D), rows by gate, then unit (sLSTM in Beck et al., 2024, "xLSTM"; FlashRNN,
            arXiv 2412.07752). Not with proj_size.
    """

    gates, further = LSTM.gates, ("weight_hr",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        proj_size: int = 0,
        num_heads: int = 1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if check_size("proj_size", proj_size, least=0) and proj_size >= hidden_size:
            raise ValueError(f"proj_size must be smaller than hidden_size, got: {proj_size} and {hidden_size}")
        super().__init__(input_size, hidden_size, bias, device, dtype, columns=proj_size, num_heads=num_heads)
        if proj_size and num_heads > 1:
            raise ValueError(f"heads have no projection: num_heads={num_heads} goes with proj_size=0, got: {proj_size}")
        self.proj_size = proj_size
        self.weight_hr = self._empty(proj_size, hidden_size) if proj_size else None
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return _PROJECTED if self.proj_size else _PLAIN

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size


class CIFGCell(GateRowsCell):
    """LSTM whose input gate is 1 - f (Greff et al., 2017), a quarter fewer weights.

        f, o = sigmoid(.)   g = tanh(.)   c_t = f * c_{t-1} + (1 - f) * g   h_t = o * tanh(c_t)

    Gate order f g o, state (h, c).

    Args:
        bias: True for torch's two vectors, "single" for one, False for none.
        num_heads: N. Head n, of D = H/N units, has R_n h_n, of its own units, for each gate's recurrent product R h:
            weight_hh is (G*H, D), rows by gate, then unit (sLSTM in Beck et al., 2024, "xLSTM"; FlashRNN,
            arXiv 2412.07752).
    """

    gates = CIFG.gates
    chain = as_chain(CIFG)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        num_heads: int = 1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, num_heads=num_heads)
        self.reset_parameters()


class PeepholeLSTMCell(GateRowsCell):
    """LSTM whose gates see the cell state: i and f the old one, o the new one (Gers & Schmidhuber, 2000).

        i, f = sigmoid(. + p * c_{t-1})   g = tanh(.)   c_t = f * c_{t-1} + i * g
        o    = sigmoid(. + p_o * c_t)     h_t = o * tanh(c_t)

    Gate order i f g o, state (h, c).

    Args:
        bias: True for torch's two vectors, "single" for one, False for none.
        dense: peephole_i, peephole_f, peephole_o are matrices (H, H) instead of vectors (H,).
    """

    gates = LSTM.gates

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        dense: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.dense = dense
        shape = (hidden_size, hidden_size) if dense else (hidden_size,)
        self.peephole_i, self.peephole_f, self.peephole_o = (self._empty(*shape) for _ in range(3))
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return DENSE_PEEPHOLE_LSTM if self.dense else PEEPHOLE_LSTM

    def kernel_weights(self) -> dict[str, Tensor]:
        weights = super().kernel_weights()
        if not self.dense:
            return weights | present(p_i=self.peephole_i, p_f=self.peephole_f, p_o=self.peephole_o)
        recurrent, bias, rows = weights["hh"], weights.get("bias_hh"), 3 * self.hidden_size
        peepholes = torch.cat([self.peephole_i, self.peephole_f, torch.zeros_like(self.peephole_i)])
        return weights | present(
            hh=torch.cat([recurrent[:rows], peepholes], 1),
            oh=torch.cat([recurrent[rows:], self.peephole_o], 1),
            **({} if bias is None else {"bias_hh": bias[:rows], "bias_oh": bias[rows:]}),
        )
