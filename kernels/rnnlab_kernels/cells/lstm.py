"""LSTM with forget gate (Hochreiter & Schmidhuber, 1997; Gers et al., 2000) in torch's form and gate order i f g o.

    i, f, o = sigmoid(.)   g = tanh(.)           of W x_t + b_ih + R h_{t-1} + b_hh
    c_t = f * c_{t-1} + i * g
    h_t = o * tanh(c_t)

Gradient of one step, given dh and dc (the latter from step t+1 and from c_n):

    dc += dh * o * (1 - tanh(c_t)^2)
    do = dh * tanh(c_t)   di = dc * g   df = dc * c_{t-1}   dg = dc * i      each times its activation's derivative
    dc_{t-1} = dc * f

Saved: the four activated gates. c_t and c_{t-1} are read from the states; tanh(c_t) is computed again, which is cheaper
than keeping it.

With dropout on the candidate (Semeniuta et al., 2016) g becomes mask * g where it enters c_t: memory is never lost,
only not written. That gradient is derived (derive.py).
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad


def _fwd(gates, carried):
    i, f, g, o = gates
    (c_prev,) = carried
    i = sigmoid(i)
    f = sigmoid(f)
    g = tanh(g)
    o = sigmoid(o)
    c = fma(f, c_prev, i * g)
    return (o * tanh(c), c), (i, f, g, o)


def _bwd(dstate, saved, carried, state):
    dh, dc = dstate
    i, f, g, o = saved
    (c_prev,) = carried
    h, c = state
    tanh_c = tanh(c)
    dc = dc + tanh_grad(dh * o, tanh_c)
    di = sigmoid_grad(dc * g, i)
    df = sigmoid_grad(dc * c_prev, f)
    dg = tanh_grad(dc * i, g)
    do = sigmoid_grad(dh * tanh_c, o)
    return (di, df, dg, do), (dc * f,)


def _total(dstate, saved, carried, state):
    dh, dc = dstate
    i, f, g, o = saved
    h, c = state
    return dh, dc + tanh_grad(dh * o, tanh(c))


def _dropped_fwd(gates, carried):
    i, f, g, o = gates
    c_prev, mask = carried
    c = fma(sigmoid(f), c_prev, sigmoid(i) * (tanh(g) * mask))
    return (sigmoid(o) * tanh(c), c), ()


_GATES = ("i", "f", "g", "o")
_DROPPED = derive(Cell("lstm_dropped", _GATES, ("h", "c"), ("c", "mask"), (), 0, _dropped_fwd))
LSTM = Cell("lstm", _GATES, ("h", "c"), ("c",), _GATES, 0, _fwd, _bwd, _DROPPED, _total)
