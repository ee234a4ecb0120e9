"""IndRNN (Li et al., 2018, "Independently Recurrent Neural Network", equation 2): one recurrent weight a unit.

    h_t = act(a_t + u * h_{t-1})      a_t = W x_t + b, the one gate; u (H,); act tanh, relu or the identity

No unit sees another's state, so a step has no product. Gradient of one step, given dh:

    da = dh * act'      dh_{t-1} = da * u      du = da * h_{t-1}

The schedule sums du over steps and rows. act' is read off h_t, so nothing is saved beside the states.
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.vocabulary import fma, relu, relu_grad, tanh, tanh_grad


def _tanh_fwd(gates, carried):
    (a,) = gates
    h_prev, u = carried
    return (tanh(fma(u, h_prev, a)),), ()


def _tanh_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (h,) = state
    h_prev, u = carried
    da = tanh_grad(dh, h)
    return (da,), (da * u, da * h_prev)


def _relu_fwd(gates, carried):
    (a,) = gates
    h_prev, u = carried
    return (relu(fma(u, h_prev, a)),), ()


def _relu_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (h,) = state
    h_prev, u = carried
    da = relu_grad(dh, h)
    return (da,), (da * u, da * h_prev)


def _identity_fwd(gates, carried):
    (a,) = gates
    h_prev, u = carried
    return (fma(u, h_prev, a),), ()


def _identity_bwd(dstate, saved, carried, state):
    (da,) = dstate
    h_prev, u = carried
    return (da,), (da * u, da * h_prev)


INDRNN_TANH = Cell("indrnn_tanh", ("a",), ("h",), ("h", "u"), (), 0, _tanh_fwd, _tanh_bwd)
INDRNN_RELU = Cell("indrnn_relu", ("a",), ("h",), ("h", "u"), (), 0, _relu_fwd, _relu_bwd)
INDRNN_IDENTITY = Cell("indrnn_identity", ("a",), ("h",), ("h", "u"), (), 0, _identity_fwd, _identity_bwd)
