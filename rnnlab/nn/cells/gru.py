"""GRU with the reset gate after or before the recurrent product. Letters: B batch, I inputs, H units."""

from typing import Any

from torch import Tensor

from rnnlab.nn.cells.base import GateRowsCell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.cells.gru import GRU
from rnnlab_kernels.cells.gru_reset_before import GRU_RESET_BEFORE

_RESET_AFTER = as_chain(GRU)


class GatedGRUCell(GateRowsCell):
    """GRU (Cho et al., 2014) in both forms, parameters in torch's shapes, gate order r z n.

        n = tanh(W_n x_t + b_in + r * (R_n h_{t-1} + b_hn))      reset after: torch, cuDNN, the paper's arXiv version 1
        n = tanh(W_n x_t + b_in + R_n (r * h_{t-1}) + b_hn)      reset before: the paper as published
        h_t = (1 - z) * n + z * h_{t-1}

    Args:
        bias: True for torch's two vectors, "single" for b_i alone, False for none.
        reset_after: which form.
        num_heads: N. Head n, of D = H/N units, has R_n h_n, of its own units, for each gate's recurrent product R h:
            weight_hh is (G*H, D), rows by gate, then unit (sLSTM in Beck et al., 2024, "xLSTM"; FlashRNN,
            arXiv 2412.07752). Reset after only.
    """

    gates = GRU.gates

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        reset_after: bool = True,
        num_heads: int = 1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, num_heads=num_heads)
        if num_heads > 1 and not reset_after:
            raise ValueError(f"heads need the reset gate after the product: num_heads={num_heads}, reset_after=False")
        self.reset_after = reset_after
        self.reset_parameters()

    @property
    def chain(self) -> Chain:  # type: ignore[override]
        """What a step does."""
        return _RESET_AFTER if self.reset_after else GRU_RESET_BEFORE

    def kernel_weights(self) -> dict[str, Tensor]:
        weights = super().kernel_weights()
        if self.reset_after:
            return weights
        rows = 2 * self.hidden_size
        weights["hh"], weights["nh"] = weights["hh"][:rows], weights["hh"][rows:]
        if "bias_hh" in weights:
            weights["bias_hh"], weights["bias_nh"] = weights["bias_hh"][:rows], weights["bias_hh"][rows:]
        return weights
