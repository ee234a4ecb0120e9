"""Elman network (Elman, 1990, "Finding structure in time"), with tanh or relu, as in torch.nn.RNN.

    a   = W x_t + b_ih + R h_{t-1} + b_hh        (the one gate, pre-activation)
    h_t = act(a)

Gradient of one step, given dh: da = dh * act'(a), with tanh' = 1 - h_t^2 and relu' = [h_t > 0]; both read off h_t, so
nothing is saved beside the states. h_{t-1} enters through the recurrent product only, hence nothing is carried.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.vocabulary import relu, relu_grad, tanh, tanh_grad


def _tanh_fwd(gates, carried):
    (a,) = gates
    return (tanh(a),), ()


def _tanh_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (h,) = state
    return (tanh_grad(dh, h),), ()


def _relu_fwd(gates, carried):
    (a,) = gates
    return (relu(a),), ()


def _relu_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (h,) = state
    return (relu_grad(dh, h),), ()


RNN_TANH = Cell("rnn_tanh", ("a",), ("h",), (), (), 0, _tanh_fwd, _tanh_bwd)
RNN_RELU = Cell("rnn_relu", ("a",), ("h",), (), (), 0, _relu_fwd, _relu_bwd)
