"""Triton's side of the vocabulary in which cells write their gate maths (see bind.py). Values are fp32 registers."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    return tl.sigmoid(x)


@triton.jit
def tanh(x):
    """tanh through the logistic function: finite for any x, where a ratio of exponentials overflows."""
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def relu(x):
    return tl.where(x <= 0.0, 0.0, x)  # the hardware's maximum of NaN and 0 is 0, and a diverged run must show


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def softplus(x):
    """max(x, 0) + log(1 + u), u = exp(-|x|); the logarithm as 2 artanh(u / (2 + u)), a series off by 2e-9."""
    u = tl.exp(-tl.abs(x))
    s = u / (2.0 + u)
    z = s * s
    p = z / 15.0 + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    p = p * z + 1.0 / 3.0
    return tl.maximum(x, 0.0) + 2.0 * (s * (z * p) + s)


@triton.jit
def log(x):
    return tl.log(x)


@triton.jit
def _sine(x, quarters):
    """Return sin(x + quarters * pi / 2), by Cephes' polynomials (sinf, cosf) between -pi/4 and pi/4.

    The library's function keeps an array in local memory, for the remainder of huge x. Here that is taken in float64:
    its error is 1e-16 |x|; beyond 1e15 the result is in [-1, 1] and no more.
    """
    wide = x.to(tl.float64)
    n = tl.floor(wide * 0.6366197723675814 + 0.5)
    r = (wide - n * 1.5707963267948966 - n * 6.123233995736766e-17).to(tl.float32)
    r = tl.where(r > 0.8, 0.8, tl.where(r < -0.8, -0.8, r))
    z = r * r
    s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r
    c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0
    n += quarters
    quarter = (n - 4.0 * tl.floor(n * 0.25)).to(tl.float32)
    y = tl.where((quarter == 1.0) | (quarter == 3.0), c, s)
    return tl.where(quarter >= 2.0, -y, y)


@triton.jit
def sin(x):
    return _sine(x, 0.0)


@triton.jit
def cos(x):
    return _sine(x, 1.0)


@triton.jit
def abs(x):
    return tl.abs(x)


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def where(condition, a, b):
    return tl.where(condition, a, b)


@triton.jit
def fma(a, b, c):
    return a * b + c


@triton.jit
def sigmoid_grad(dy, y):
    return dy * y * (1.0 - y)


@triton.jit
def tanh_grad(dy, y):
    return dy * (1.0 - y * y)


@triton.jit
def relu_grad(dy, y):
    return tl.where(y <= 0.0, 0.0, dy)
