"""Cells with layer norm inside the step (Ba et al., 2016, "Layer normalization"). LN(a) has zero mean, unit variance.

Elman: the sum of both parts is normalised (equation 4).

    h_t = act(gain * LN(W x_t + R h_{t-1} + b) + shift)

LSTM: the two parts are normalised apart, each over all 4H columns at once (equations 20 to 22), gate order i f g o.

    i, f, g, o = (gain_ih * LN(W x_t) + bias_ih) + (gain_hh * LN(R h_{t-1}) + bias_hh)      activated as in an LSTM
    c_t = f * c_{t-1} + i * g
    h_t = o * tanh(gain_c * LN(c_t) + shift_c)

The paper has three additive vectors in the first line; only their sum matters, so there are torch's two. LN(W x_t) does
not depend on the recurrence: it is done for all steps at once, outside of the chain, whose weights then have no "ih".
Three forms of the last line are in use: the norm inside tanh only, c_t itself carried on unnormalised (the paper,
haste); the normalised value carried on as c_t (TensorFlow's LayerNormBasicLSTMCell, PyTorch's TorchScript benchmark);
no norm of c_t. Without the norm of R h_{t-1} its line is an LSTM's.

GRU: both parts normalised over all 3H columns, reset after the product (the first two lines of the paper's supplement
with the gate convention of gru.py).

    r, z = sigmoid(.)                         of (gain_ih * LN(W x_t) + bias_ih) + (gain_hh * LN(R h_{t-1}) + bias_hh)
    n    = tanh(n_x + r * n_h)   h_t = (1 - z) * n + z * h_{t-1}

The gate maths are those of elman.py, lstm.py and gru.py but for an LSTM with a norm of c_t, which falls in two:

    OPEN_CELL     c = f * c_{t-1} + i * g, and o         saved i f g
                  do = do * o * (1 - o), the rest as in lstm.py
    OUTPUT_TANH   h_t = o * tanh(c)                      c a pre-activation: the normalised cell state; saved tanh(c)
                  dc = dh * o * (1 - tanh(c)^2)   do = dh * tanh(c)
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Norm, Product
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.elman import ACTIVATIONS
from rnnlab_kernels.cells.gru import GRU
from rnnlab_kernels.cells.lstm import LSTM
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad


def _open_fwd(gates, carried):
    i, f, g, o = gates
    (c_prev,) = carried
    i = sigmoid(i)
    f = sigmoid(f)
    g = tanh(g)
    return (fma(f, c_prev, i * g), sigmoid(o)), (i, f, g)


def _open_bwd(dstate, saved, carried, state):
    dc, do = dstate
    i, f, g = saved
    (c_prev,) = carried
    c, o = state
    di = sigmoid_grad(dc * g, i)
    df = sigmoid_grad(dc * c_prev, f)
    dg = tanh_grad(dc * i, g)
    return (di, df, dg, sigmoid_grad(do, o)), (dc * f,)


def _open_dropped_fwd(gates, carried):
    i, f, g, o = gates
    c_prev, mask = carried
    return (fma(sigmoid(f), c_prev, sigmoid(i) * (tanh(g) * mask)), sigmoid(o)), ()


def _output_fwd(gates, carried):
    (c,) = gates
    (o,) = carried
    tanh_c = tanh(c)
    return (o * tanh_c,), (tanh_c,)


def _output_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (tanh_c,) = saved
    (o,) = carried
    return (tanh_grad(dh * o, tanh_c),), (dh * tanh_c,)


_GATES = ("i", "f", "g", "o")
_DROPPED = derive(Cell("open_cell_dropped", _GATES, ("c", "o"), ("c", "mask"), (), 0, _open_dropped_fwd))
OPEN_CELL = Cell("open_cell", _GATES, ("c", "o"), ("c",), ("i", "f", "g"), 0, _open_fwd, _open_bwd, _DROPPED)
OUTPUT_TANH = Cell("output_tanh", ("c",), ("h",), ("o",), ("tanh_c",), 0, _output_fwd, _output_bwd)


def _recurrent(norm: bool) -> tuple[Product | Norm, ...]:
    if not norm:
        return (Product("recurrent", ("h_prev",), "hh", "bias_hh"),)
    return (Product("product", ("h_prev",), "hh"), Norm("recurrent", "product", "gain_hh", "bias_hh"))


def _lstm(name: str, norm_recurrent: bool, norm_cell: str | None) -> Chain:
    """`norm_cell`: "output" for the norm inside tanh only, "state" for the one that is carried on."""
    stages: tuple[Product | Norm | Gates, ...]
    if norm_cell is None:
        stages = (Gates(LSTM, ("h", "c"), ("c_prev",), "recurrent"),)
    else:
        raw, normed = ("c", "c_normed") if norm_cell == "output" else ("c_raw", "c")
        stages = (
            Gates(OPEN_CELL, (raw, "o"), ("c_prev",), "recurrent"),
            Norm(normed, raw, "gain_c", "shift_c"),
            Gates(OUTPUT_TANH, ("h",), ("o",), normed, first=None),
        )
    return Chain(name, ("h", "c"), (*_recurrent(norm_recurrent), *stages))


def _elman(activation: str) -> Chain:
    return Chain(
        f"layer_norm_rnn_{activation}",
        ("h",),
        (
            Product("sum", ("h_prev",), "hh", "bias_hh", add_input=True),
            Norm("normed", "sum", "gain", "shift"),
            Gates(ACTIVATIONS[activation], ("h",), (), "normed", first=None),
        ),
    )


LAYER_NORM_RNN = {activation: _elman(activation) for activation in ACTIVATIONS}
# By (norm of R h, norm of c).
LAYER_NORM_LSTM = {
    (True, "output"): _lstm("layer_norm_lstm", True, "output"),
    (True, "state"): _lstm("layer_norm_lstm_state", True, "state"),
    (True, None): _lstm("layer_norm_lstm_gates", True, None),
    (False, "output"): _lstm("layer_norm_lstm_output", False, "output"),
    (False, "state"): _lstm("layer_norm_lstm_only_state", False, "state"),
    (False, None): _lstm("layer_norm_lstm_input", False, None),
}
LAYER_NORM_GRU = Chain("layer_norm_gru", ("h",), (*_recurrent(True), Gates(GRU, ("h",), ("h_prev",), "recurrent")))
