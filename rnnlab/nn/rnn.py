"""Drop-in replacements of torch.nn.RNN, LSTM and GRU: same arguments, parameters, errors and results.

Letters: T time, B batch, I input_size, H hidden_size, P = proj_size or H, L layers, D directions.
"""

from typing import Any, Unpack

from rnnlab.nn import checks
from rnnlab.nn.layer import Layer
from rnnlab.nn.options import Regularisers


def _refuse_projection(proj_size: Any) -> None:
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(Layer):
    """Elman network of one or more layers; see torch.nn.RNN for the arguments and `Layer.forward` for the call.

    Args:
        backend: "auto", "reference", "eager", "fused", "aten", "triton", "step" or "sequence": what runs the
            recurrence, never what it computes.
        regularisers: input_dropout, output_dropout, recurrent_dropout, candidate_dropout, weight_dropout, zoneout,
            clip_grad_step; see `rnnlab.nn.options.Regularisation`. All off unless given.

    Example:
        >>> import torch, rnnlab.nn
        >>> output, h_n = rnnlab.nn.RNN(3, 4)(torch.zeros(5, 2, 3))
        >>> output.shape, h_n.shape
        (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
        **regularisers: Unpack[Regularisers],
    ) -> None:
        _refuse_projection(proj_size)
        checks.check_nonlinearity(nonlinearity)
        mode = f"RNN_{nonlinearity.upper()}"
        options = bias, batch_first, dropout, bidirectional, 0, device, dtype
        super().__init__(mode, input_size, hidden_size, num_layers, *options, backend, regularisers)
        self.nonlinearity = nonlinearity


class LSTM(Layer):
    """LSTM of one or more layers; see torch.nn.LSTM for the arguments and `Layer.forward` for the call.

    Args:
        backend: "auto", "reference", "eager", "fused", "aten", "triton", "step" or "sequence": what runs the
            recurrence, never what it computes.
        regularisers: input_dropout, output_dropout, recurrent_dropout, candidate_dropout, weight_dropout, zoneout,
            clip_grad_step; see `rnnlab.nn.options.Regularisation`. All off unless given.

    Example:
        >>> import torch, rnnlab.nn
        >>> output, (h_n, c_n) = rnnlab.nn.LSTM(3, 4, batch_first=True)(torch.zeros(2, 5, 3), lengths=[5, 2])
        >>> output.shape, h_n.shape
        (torch.Size([2, 5, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
        **regularisers: Unpack[Regularisers],
    ) -> None:
        options = bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        super().__init__("LSTM", input_size, hidden_size, num_layers, *options, backend, regularisers)


class GRU(Layer):
    """GRU of one or more layers; see torch.nn.GRU for the arguments and `Layer.forward` for the call.

    Args:
        backend: "auto", "reference", "eager", "fused", "aten", "triton", "step" or "sequence": what runs the
            recurrence, never what it computes.
        regularisers: input_dropout, output_dropout, recurrent_dropout, candidate_dropout, weight_dropout, zoneout,
            clip_grad_step; see `rnnlab.nn.options.Regularisation`. All off unless given.

    Example:
        >>> import torch, rnnlab.nn
        >>> gru = rnnlab.nn.GRU(3, 4)
        >>> y_t, state = gru.step(torch.zeros(2, 3), gru.initial_state(2))
        >>> y_t.shape, state.shape
        (torch.Size([2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
        **regularisers: Unpack[Regularisers],
    ) -> None:
        _refuse_projection(proj_size)
        options = bias, batch_first, dropout, bidirectional, 0, device, dtype
        super().__init__("GRU", input_size, hidden_size, num_layers, *options, backend, regularisers)
