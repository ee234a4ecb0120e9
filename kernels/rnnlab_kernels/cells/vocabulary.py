"""The bare names cells may use, as Python floats: what a reader, a linter and a scalar test see before binding.

The torch and Triton meanings of the same names are in bind.py and device.py; the three are compared by the tests.
"""

import math


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def tanh(x):
    return math.tanh(x)


def relu(x):
    return max(x, 0.0)


def exp(x):
    return math.exp(x) if x < 709 else math.inf


def softplus(x):
    """Return log(1 + exp(x)) without overflow; its gradient is the logistic function."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def fma(a, b, c):
    """Return a * b + c."""
    return a * b + c


def sigmoid_grad(dy, y):
    """Gradient of the logistic function from its value y."""
    return dy * y * (1.0 - y)


def tanh_grad(dy, y):
    """Gradient of tanh from its value y."""
    return dy * (1.0 - y * y)


def relu_grad(dy, y):
    """Gradient of relu from its value y; 0 at 0, as in torch."""
    return dy if y > 0 else 0.0
