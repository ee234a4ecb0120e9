"""Linear recurrent unit (Orvieto et al., 2023), its complex state as two real ones, re and im (B, H).

    h_t = lambda * h_{t-1} + b_t      b_t (the gates) = gamma * (B x_t)      y_t = Re(C h_t) = [Re C, -Im C] [re, im]

lambda (H,), its two parts, enters element by element, so a step's only product is that of y. gamma is folded into
B's rows, D x_t is added outside. Gradient of one step, given dh as the gradients of the two parts:

    db = dh      dh_{t-1} = conj(lambda) * dh      dlambda = conj(h_{t-1}) * dh
"""

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.cells.vocabulary import fma


def _fwd(gates, carried):
    b_re, b_im = gates
    re, im, l_re, l_im = carried
    return (fma(l_re, re, fma(-l_im, im, b_re)), fma(l_re, im, fma(l_im, re, b_im))), ()


def _bwd(dstate, saved, carried, state):
    d_re, d_im = dstate
    re, im, l_re, l_im = carried
    back_re, back_im = d_re * l_re + d_im * l_im, d_im * l_re - d_re * l_im
    return (d_re, d_im), (back_re, back_im, d_re * re + d_im * im, d_im * re - d_re * im)


_PARTS = ("re", "im")
_LAMBDA = ("lambda_re", "lambda_im")
_UPDATE = Cell("lru", ("b_re", "b_im"), _PARTS, (*_PARTS, *_LAMBDA), (), 0, _fwd, _bwd)
LRU = Chain(
    "lru",
    _PARTS,
    (Gates(_UPDATE, _PARTS, ("re_prev", "im_prev", *_LAMBDA)), Product("y", _PARTS, "out")),
    output="y",
    constants=_LAMBDA,
)
