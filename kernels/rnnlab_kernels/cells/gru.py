"""GRU (Cho et al., 2014) in torch's and cuDNN's reset-after form, gate order r z n.

    r, z = sigmoid(.)                            of W x_t + b_ih + R h_{t-1} + b_hh
    n    = tanh(n_x + r * n_h)                   n_x = W_n x_t + b_in,  n_h = R_n h_{t-1} + b_hn
    h_t  = (1 - z) * n + z * h_{t-1}

Gradient of one step, given dh:

    dn_x = dh * (1 - z) * (1 - n^2)    dn_h = dn_x * r
    dr = dn_x * n_h * r * (1 - r)      dz = dh * (h_{t-1} - n) * z * (1 - z)
    dh_{t-1} gets dh * z directly, beside what comes through the recurrent product

The two parts of n have different gradients (by the factor r), so b_in and b_hn must never be merged: n is a split gate.
Saved: r z n and the recurrent pre-activation n_h.

With dropout on the candidate (Semeniuta et al., 2016) n becomes mask * n where it enters h_t; that gradient is derived
(derive.py).
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad


def _fwd(gates, carried):
    r, z, n_x, n_h = gates
    (h_prev,) = carried
    r = sigmoid(r)
    z = sigmoid(z)
    n = tanh(fma(r, n_h, n_x))
    return (fma(z, h_prev - n, n),), (r, z, n, n_h)


def _bwd(dstate, saved, carried, state):
    (dh,) = dstate
    r, z, n, n_h = saved
    (h_prev,) = carried
    dh_prev = dh * z
    dn_x = tanh_grad(dh - dh_prev, n)
    dn_h = dn_x * r
    dr = sigmoid_grad(dn_x * n_h, r)
    dz = sigmoid_grad(dh * (h_prev - n), z)
    return (dr, dz, dn_x, dn_h), (dh_prev,)


def _dropped_fwd(gates, carried):
    r, z, n_x, n_h = gates
    h_prev, mask = carried
    z = sigmoid(z)
    n = tanh(fma(sigmoid(r), n_h, n_x)) * mask
    return (fma(z, h_prev - n, n),), ()


_GATES = ("r", "z", "n")
_DROPPED = derive(Cell("gru_dropped", _GATES, ("h",), ("h", "mask"), (), 1, _dropped_fwd))
GRU = Cell("gru", _GATES, ("h",), ("h",), ("r", "z", "n", "n_h"), 1, _fwd, _bwd, _DROPPED)
