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
    return tl.maximum(x, 0.0)


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
    return tl.where(y > 0.0, dy, 0.0)
