"""LSTM with coupled input and forget gates (CIFG; Greff et al., 2017, "LSTM: a search space odyssey").

Gate order f g o.

    f, o = sigmoid(.)   g = tanh(.)              of W x_t + b_ih + R h_{t-1} + b_hh
    c_t = f * c_{t-1} + (1 - f) * g              the input gate of an LSTM is 1 - f
    h_t = o * tanh(c_t)

Gradient of one step, given dh and dc:

    dc += dh * o * (1 - tanh(c_t)^2)
    do = dh * tanh(c_t)   df = dc * (c_{t-1} - g)   dg = dc * (1 - f)      each times its activation's derivative
    dc_{t-1} = dc * f

Saved: the three activated gates. The variant with dropout on the candidate masks g, as in lstm.py.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad


def _fwd(gates, carried):
    f, g, o = gates
    (c_prev,) = carried
    f = sigmoid(f)
    g = tanh(g)
    o = sigmoid(o)
    c = fma(f, c_prev - g, g)
    return (o * tanh(c), c), (f, g, o)


def _bwd(dstate, saved, carried, state):
    dh, dc = dstate
    f, g, o = saved
    (c_prev,) = carried
    h, c = state
    tanh_c = tanh(c)
    dc = dc + tanh_grad(dh * o, tanh_c)
    dc_prev = dc * f
    df = sigmoid_grad(dc * (c_prev - g), f)
    dg = tanh_grad(dc - dc_prev, g)
    do = sigmoid_grad(dh * tanh_c, o)
    return (df, dg, do), (dc_prev,)


def _total(dstate, saved, carried, state):
    dh, dc = dstate
    f, g, o = saved
    h, c = state
    return dh, dc + tanh_grad(dh * o, tanh(c))


def _dropped_fwd(gates, carried):
    f, g, o = gates
    c_prev, mask = carried
    g = tanh(g) * mask
    c = fma(sigmoid(f), c_prev - g, g)
    return (sigmoid(o) * tanh(c), c), ()


_GATES = ("f", "g", "o")
_DROPPED = derive(Cell("cifg_dropped", _GATES, ("h", "c"), ("c", "mask"), (), 0, _dropped_fwd))
CIFG = Cell("cifg", _GATES, ("h", "c"), ("c",), _GATES, 0, _fwd, _bwd, _DROPPED, _total)
