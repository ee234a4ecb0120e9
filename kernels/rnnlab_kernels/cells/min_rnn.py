"""minGRU and minLSTM (Feng et al., 2024, "Were RNNs all we needed?"): gates that see the input alone.

minGRU (section 3.1), z = sigmoid(.):

    h_t = h_{t-1} + z * (n - h_{t-1})
    dz = dh * (n - h_{t-1})   dn = dh * z   dh_{t-1} = dh * (1 - z)

minLSTM (section 3.2), f, i = sigmoid(.) of pre-activations a_f, a_i, and p = f / (f + i), as a logistic function of
log(f / i) = softplus(-a_i) - softplus(-a_f), which cannot become 0 / 0:

    h_t = n + p * (h_{t-1} - n)
    dp = dh * (h_{t-1} - n)   dn = dh * (1 - p)   dh_{t-1} = dh * p
    da_f = dp * p * (1 - p) * (1 - f)   da_i = -dp * p * (1 - p) * (1 - i)

Both are linear in h: a device may scan over time in parallel (schedules/scan). One pass over it, which computes the
gates on the way (schedules/persistent/elementwise.py), reads and writes less, and is what a CPU does.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.vocabulary import fma, sigmoid, sigmoid_grad, softplus


def _gru_fwd(gates, carried):
    z, n = gates
    (h_prev,) = carried
    z = sigmoid(z)
    return (fma(z, n - h_prev, h_prev),), (z, n)


def _gru_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    z, n = saved
    (h_prev,) = carried
    dn = dh * z
    return (sigmoid_grad(dh * (n - h_prev), z), dn), (dh - dn,)


def _lstm_fwd(gates, carried):
    f, i, n = gates
    (h_prev,) = carried
    p = sigmoid(softplus(-i) - softplus(-f))
    return (fma(p, h_prev - n, n),), (p, sigmoid(-f), sigmoid(-i), n)


def _lstm_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    p, not_f, not_i, n = saved
    (h_prev,) = carried
    dratio = sigmoid_grad(dh * (h_prev - n), p)
    dh_prev = dh * p
    return (dratio * not_f, -dratio * not_i, dh - dh_prev), (dh_prev,)


MIN_GRU = Cell("min_gru", ("z", "n"), ("h",), ("h",), ("z", "n"), 0, _gru_fwd, _gru_bwd)
_SAVED = ("p", "not_f", "not_i", "n")
MIN_LSTM = Cell("min_lstm", ("f", "i", "n"), ("h",), ("h",), _SAVED, 0, _lstm_fwd, _lstm_bwd)
