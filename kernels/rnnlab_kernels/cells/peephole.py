"""LSTM with peepholes (Gers & Schmidhuber, 2000, "Recurrent nets that time and count"), gate order i f g o.

    i, f = sigmoid(. + p * c_{t-1})   g = tanh(.)     of W x_t + b_ih + R h_{t-1} + b_hh
    c_t = f * c_{t-1} + i * g
    o   = sigmoid(. + p_o * c_t)                      the output gate sees the new cell state
    h_t = o * tanh(c_t)

The peepholes p_i, p_f, p_o (H,) are constants of the chain: weights that enter element by element.

Gradient of one step, given dh and dc:

    do = dh * tanh(c_t) * o * (1 - o)
    dc += dh * o * (1 - tanh(c_t)^2) + do * p_o
    di = dc * g   df = dc * c_{t-1}   dg = dc * i         each times its activation's derivative
    dc_{t-1} = dc * f + di * p_i + df * p_f
    dp_i = di * c_{t-1}   dp_f = df * c_{t-1}   dp_o = do * c_t

Saved: the four activated gates. The variant with dropout on the candidate masks g, as in lstm.py.

With dense peepholes the vectors are matrices P_i, P_f, P_o (H, H) and their terms are products: with c_{t-1}, beside
h_{t-1} in the recurrent product, for the update of the cell state (i f g); with c_t for the output gate, which is a
stage of its own for that:

    CELL_STATE   c_t = f * c_{t-1} + i * g        saved i f g; gradients as above without the peephole terms
    OUTPUT_GATE  h_t = o * tanh(c_t)              saved o;     do = dh * tanh(c_t), dc_t = dh * o * (1 - tanh(c_t)^2)
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad


def _fwd(gates, carried):
    i, f, g, o = gates
    c_prev, p_i, p_f, p_o = carried
    i = sigmoid(fma(p_i, c_prev, i))
    f = sigmoid(fma(p_f, c_prev, f))
    g = tanh(g)
    c = fma(f, c_prev, i * g)
    o = sigmoid(fma(p_o, c, o))
    return (o * tanh(c), c), (i, f, g, o)


def _bwd(dstate, saved, carried, state):
    dh, dc = dstate
    i, f, g, o = saved
    c_prev, p_i, p_f, p_o = carried
    h, c = state
    tanh_c = tanh(c)
    do = sigmoid_grad(dh * tanh_c, o)
    dc = fma(do, p_o, dc + tanh_grad(dh * o, tanh_c))
    di = sigmoid_grad(dc * g, i)
    df = sigmoid_grad(dc * c_prev, f)
    dg = tanh_grad(dc * i, g)
    dc_prev = fma(dc, f, fma(di, p_i, df * p_f))
    return (di, df, dg, do), (dc_prev, di * c_prev, df * c_prev, do * c)


def _total(dstate, saved, carried, state):
    dh, dc = dstate
    i, f, g, o = saved
    c_prev, p_i, p_f, p_o = carried
    h, c = state
    tanh_c = tanh(c)
    return dh, fma(sigmoid_grad(dh * tanh_c, o), p_o, dc + tanh_grad(dh * o, tanh_c))


def _dropped_fwd(gates, carried):
    i, f, g, o = gates
    c_prev, p_i, p_f, p_o, mask = carried
    i = sigmoid(fma(p_i, c_prev, i))
    f = sigmoid(fma(p_f, c_prev, f))
    c = fma(f, c_prev, i * (tanh(g) * mask))
    return (sigmoid(fma(p_o, c, o)) * tanh(c), c), ()


def _cell_fwd(gates, carried):
    i, f, g = gates
    (c_prev,) = carried
    i = sigmoid(i)
    f = sigmoid(f)
    g = tanh(g)
    return (fma(f, c_prev, i * g),), (i, f, g)


def _cell_bwd(dstate, saved, carried, state):
    (dc,) = dstate
    i, f, g = saved
    (c_prev,) = carried
    return (sigmoid_grad(dc * g, i), sigmoid_grad(dc * c_prev, f), tanh_grad(dc * i, g)), (dc * f,)


def _cell_dropped_fwd(gates, carried):
    i, f, g = gates
    c_prev, mask = carried
    return (fma(sigmoid(f), c_prev, sigmoid(i) * (tanh(g) * mask)),), ()


def _output_fwd(gates, carried):
    (o,) = gates
    (c,) = carried
    o = sigmoid(o)
    return (o * tanh(c),), (o,)


def _output_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (o,) = saved
    (c,) = carried
    tanh_c = tanh(c)
    return (sigmoid_grad(dh * tanh_c, o),), (tanh_grad(dh * o, tanh_c),)


_GATES, _WEIGHTS = ("i", "f", "g", "o"), ("p_i", "p_f", "p_o")
_DROPPED = derive(Cell("peephole_lstm_dropped", _GATES, ("h", "c"), ("c", *_WEIGHTS, "mask"), (), 0, _dropped_fwd))
PEEPHOLE = Cell("peephole_lstm", _GATES, ("h", "c"), ("c", *_WEIGHTS), _GATES, 0, _fwd, _bwd, _DROPPED, _total)

_CELL_GATES = ("i", "f", "g")
_CELL_DROPPED = derive(Cell("cell_state_dropped", _CELL_GATES, ("c",), ("c", "mask"), (), 0, _cell_dropped_fwd))
CELL_STATE = Cell("cell_state", _CELL_GATES, ("c",), ("c",), _CELL_GATES, 0, _cell_fwd, _cell_bwd, _CELL_DROPPED)
OUTPUT_GATE = Cell("output_gate", ("o",), ("h",), ("c",), ("o",), 0, _output_fwd, _output_bwd)

PEEPHOLE_LSTM = Chain(
    "peephole_lstm",
    ("h", "c"),
    (
        Product("recurrent", ("h_prev",), "hh", "bias_hh"),
        Gates(PEEPHOLE, ("h", "c"), ("c_prev", *_WEIGHTS), "recurrent"),
    ),
    constants=_WEIGHTS,
)
# Weights: hh (3H, 2H) reads h and c, bias_hh (3H,); oh (H, 2H) and bias_oh (H,) are those of the output gate.
DENSE_PEEPHOLE_LSTM = Chain(
    "dense_peephole_lstm",
    ("h", "c"),
    (
        Product("recurrent", ("h_prev", "c_prev"), "hh", "bias_hh"),
        Gates(CELL_STATE, ("c",), ("c_prev",), "recurrent"),
        Product("recurrent_o", ("h_prev", "c"), "oh", "bias_oh"),
        Gates(OUTPUT_GATE, ("h",), ("c",), "recurrent_o", first=3),
    ),
)
