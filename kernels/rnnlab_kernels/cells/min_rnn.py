"""minGRU and minLSTM (Feng et al., 2024, "Were RNNs all we needed?"): gates that see the input alone.

minGRU (section 3.1), z = sigmoid(.):

    h_t = h_{t-1} + z * (n - h_{t-1})
    dz = dh * (n - h_{t-1})   dn = dh * z   dh_{t-1} = dh * (1 - z)

minLSTM (section 3.2), f, i = sigmoid(.) of pre-activations a_f, a_i, and p = f / (f + i). With m = min(a_f, a_i, 0), so
that nothing overflows and nothing becomes 0 / 0,

    e_0, e_f, e_i = exp(m), exp(m - a_f), exp(m - a_i)     s = 2 e_0 + e_f + e_i
    p = (e_0 + e_i) / s     q_f = e_f / s     q_i = e_i / s     p = (1 + q_i - q_f) / 2

    h_t = n + p * (h_{t-1} - n)
    dp = dh * (h_{t-1} - n)   dn = dh * (1 - p)   dh_{t-1} = dh * p
    da_f = dp * p * q_f       da_i = -dp * (1 - p) * q_i

Both are linear in h: a device may scan over time in parallel (schedules/scan). One pass over it, which computes the
gates on the way (schedules/compiled), reads and writes less, and is what a CPU does.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.vocabulary import exp, fma, minimum, sigmoid, sigmoid_grad


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
    m = minimum(minimum(f, i), 0.0)
    e_0, e_f, e_i = exp(m), exp(m - f), exp(m - i)
    r = 1.0 / (2.0 * e_0 + e_f + e_i)
    return (fma((e_0 + e_i) * r, h_prev - n, n),), (e_f * r, e_i * r, n)


def _lstm_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    q_f, q_i, n = saved
    (h_prev,) = carried
    p = 0.5 * (1.0 + q_i - q_f)
    dp, dh_prev = dh * (h_prev - n), dh * p
    return (dp * p * q_f, dp * (p - 1.0) * q_i, dh - dh_prev), (dh_prev,)


MIN_GRU = Cell("min_gru", ("z", "n"), ("h",), ("h",), ("z", "n"), 0, _gru_fwd, _gru_bwd)
MIN_LSTM = Cell("min_lstm", ("f", "i", "n"), ("h",), ("h",), ("q_f", "q_i", "n"), 0, _lstm_fwd, _lstm_bwd)
