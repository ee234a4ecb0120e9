"""Elman network (Elman, 1990, "Finding structure in time"), with tanh or relu as in torch.nn.RNN, the logistic function
of the paper, or none (a linear network).

    a   = W x_t + b_ih + R h_{t-1} + b_hh        (the one gate, pre-activation)
    h_t = act(a)

Gradient of one step, given dh: da = dh * act'(a), with tanh' = 1 - h_t^2, relu' = [h_t > 0], sigmoid' = h_t (1 - h_t);
all read off h_t, so nothing is saved beside the states. h_{t-1} enters through the recurrent product only, hence
nothing is carried. As stages of a chain these cells are plain activations.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.vocabulary import relu, relu_grad, sigmoid, sigmoid_grad, tanh, tanh_grad


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


def _sigmoid_fwd(gates, carried):
    (a,) = gates
    return (sigmoid(a),), ()


def _sigmoid_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (h,) = state
    return (sigmoid_grad(dh, h),), ()


def _identity_fwd(gates, carried):
    (a,) = gates
    return (a,), ()


def _identity_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    return (dh,), ()


RNN_TANH = Cell("rnn_tanh", ("a",), ("h",), (), (), 0, _tanh_fwd, _tanh_bwd)
RNN_RELU = Cell("rnn_relu", ("a",), ("h",), (), (), 0, _relu_fwd, _relu_bwd)
RNN_SIGMOID = Cell("rnn_sigmoid", ("a",), ("h",), (), (), 0, _sigmoid_fwd, _sigmoid_bwd)
RNN_IDENTITY = Cell("rnn_identity", ("a",), ("h",), (), (), 0, _identity_fwd, _identity_bwd)
ACTIVATIONS = {"tanh": RNN_TANH, "relu": RNN_RELU, "sigmoid": RNN_SIGMOID, "identity": RNN_IDENTITY}
