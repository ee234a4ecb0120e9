"""The bare names cells may use, as Python floats: what a reader, a linter and a scalar test see before binding.

The torch, Triton and Numba meanings of the same names are in bind.py, device.py and compiled.py; tests compare them.

Beside them gate maths know + - * / and, as the condition of `where` and nowhere else, < <= > >=. At a kink gradients
are torch's: of relu and abs 0 at 0, of maximum and minimum half for each of two equal arguments. A condition has none;
backward compares again, so in half precision two values that rounding makes equal may be compared otherwise there.
"""

import math


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def tanh(x):
    return math.tanh(x)


def relu(x):
    return 0.0 if x <= 0 else x


def exp(x):
    return math.exp(x) if x < 709 else math.inf


def softplus(x):
    """Return log(1 + exp(x)) without overflow; its gradient is the logistic function."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def log(x):
    """Return the natural logarithm; -inf at 0, NaN below."""
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def sin(x):
    return math.sin(x)


def cos(x):
    return math.cos(x)


def abs(x):
    return math.fabs(x)


def maximum(a, b):
    return b if a < b or b != b else a


def minimum(a, b):
    return b if b < a or b != b else a


def where(condition, a, b):
    """Return a where the condition, a comparison of two values, holds, b elsewhere."""
    return a if condition else b


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
    return 0.0 if y <= 0 else dy
