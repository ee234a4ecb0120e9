"""GRU with the reset gate before the recurrent product (Cho et al., 2014, as published), gate order r z n.

    r, z = sigmoid(.)                            of W x_t + b_ih + R h_{t-1} + b_hh
    n    = tanh(W_n x_t + b_in + R_n (r * h_{t-1}) + b_hn)
    h_t  = (1 - z) * n + z * h_{t-1}

The first arXiv version of the paper, cuDNN and torch apply r after the product instead: gru.py. Here the product of n
waits for r, so that a step is two products and two gate updates:

    RESET      q = r * h_{t-1}, and z            saved r
               dr = dq * h_{t-1} * r * (1 - r)   dz = dz * z * (1 - z)   dh_{t-1} = dq * r
    INTERPOLATE  h_t = (1 - z) * n + z * h_{t-1}   saved n
               dn = dh * (1 - z) * (1 - n^2)     dz = dh * (h_{t-1} - n)   dh_{t-1} = dh * z

h_{t-1} gets both direct parts beside what comes through the product of r and z. The variant of INTERPOLATE with dropout
on the candidate masks n. Dropout of h_{t-1} on its way into products drops q as well: R_n reads r times what R reads.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, tanh, tanh_grad


def _reset_fwd(gates, carried):
    r, z = gates
    (h_prev,) = carried
    r = sigmoid(r)
    return (r * h_prev, sigmoid(z)), (r,)


def _reset_bwd(dstate, saved, carried, state):
    dq, dz = dstate
    (r,) = saved
    (h_prev,) = carried
    q, z = state
    return (sigmoid_grad(dq * h_prev, r), sigmoid_grad(dz, z)), (dq * r,)


def _interpolate_fwd(gates, carried):
    (n,) = gates
    h_prev, z = carried
    n = tanh(n)
    return (fma(z, h_prev - n, n),), (n,)


def _interpolate_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (n,) = saved
    h_prev, z = carried
    dh_prev = dh * z
    return (tanh_grad(dh - dh_prev, n),), (dh_prev, dh * (h_prev - n))


def _interpolate_dropped_fwd(gates, carried):
    (n,) = gates
    h_prev, z, mask = carried
    n = tanh(n) * mask
    return (fma(z, h_prev - n, n),), ()


_DROPPED = derive(Cell("interpolate_dropped", ("n",), ("h",), ("h", "z", "mask"), (), 0, _interpolate_dropped_fwd))
RESET = Cell("reset", ("r", "z"), ("q", "z"), ("h",), ("r",), 0, _reset_fwd, _reset_bwd)
INTERPOLATE = Cell("interpolate", ("n",), ("h",), ("h", "z"), ("n",), 0, _interpolate_fwd, _interpolate_bwd, _DROPPED)

# Weights: hh (2H, H) and bias_hh (2H,) are those of r and z; nh (H, H) and bias_nh (H,) those of n.
GRU_RESET_BEFORE = Chain(
    "gru_reset_before",
    ("h",),
    (
        Product("recurrent", ("h_prev",), "hh", "bias_hh"),
        Gates(RESET, ("q", "z"), ("h_prev",), "recurrent"),
        Product("recurrent_n", ("q",), "nh", "bias_nh", gated="h_prev"),
        Gates(INTERPOLATE, ("h",), ("h_prev", "z"), "recurrent_n", first=2),
    ),
)
