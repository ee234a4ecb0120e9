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
