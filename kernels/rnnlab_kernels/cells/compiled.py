"""Numba's side of the vocabulary in which cells write their gate maths (see bind.py). Values are float32 scalars.

Written so that the compiler can turn a loop over them into vector instructions: no library calls, no branches. But log,
sin and cos are the library's, whose accuracy over all of float32 would take more than a polynomial.
"""

# mypy: disable-error-code="call-arg"
# The checker does not know that Numba passes the first argument of an intrinsic itself.

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

F = np.float32

# Everything fast-math allows but the assumption that there are no NaN and no infinities: a diverged run must show.
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
inline = numba.njit(inline="always", fastmath=FASTMATH)


def single(constant: Any) -> Any:
    """Return a constant of a code object with every float in it as a float32."""
    if isinstance(constant, tuple):
        return tuple(map(single, constant))
    return F(constant) if isinstance(constant, float) else constant


@intrinsic
def _float_of_bits(typing_context, bits):
    """Return the float32 with the bits of an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _element(builder: Any, address: Any, index: Any) -> Any:
    pointer = builder.inttoptr(address, ir.FloatType().as_pointer())
    return builder.gep(pointer, [index])


def read_only(builder: Any) -> Any:
    """Return LLVM's name for memory that a loop reads and never writes."""
    domain = builder.module.add_metadata(["rnnlab"])
    return builder.module.add_metadata([builder.module.add_metadata(["read only", domain])])


@intrinsic
def load(typing_context, address, index):
    """Return element `index` of float32 memory that nothing in this loop stores into: then vectors need no checks."""

    def generate(context, builder, signature, arguments):
        value = builder.load(_element(builder, *arguments), align=4)
        value.set_metadata("alias.scope", read_only(builder))
        return value

    return types.float32(types.int64, types.int64), generate


@intrinsic
def load_written(typing_context, address, index):
    """Return element `index` of float32 memory that this loop may also store into."""

    def generate(context, builder, signature, arguments):
        return builder.load(_element(builder, *arguments), align=4)

    return types.float32(types.int64, types.int64), generate


@intrinsic
def store(typing_context, address, index, value):
    """Write element `index` of the float32 memory at an address, which `load` never reads."""

    def generate(context, builder, signature, arguments):
        instruction = builder.store(arguments[2], _element(builder, *arguments[:2]), align=4)
        instruction.set_metadata("noalias", read_only(builder))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@inline
def exp(x):
    """exp(x) = 2^n exp(r): a polynomial in r, |r| <= ln(2)/2, times a power of two put together from bits.

    Coefficients of the minimax polynomial: Cephes library, expf (Moshier); relative error below 2e-7. Stays at
    1.6e-38 below -87; infinite from 88.37, where the power of two ends, a third of a unit before float32 does.
    """
    clipped = min(max(x, F(-87.0)), F(88.37))
    n = np.floor(clipped * F(1.44269504) + F(0.5))
    r = clipped - n * F(0.693359375) - n * F(-2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    y = (p * r * r + r + F(1.0)) * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return y if x <= F(88.37) else x * F(np.inf)


@inline
def sigmoid(x):
    return F(1.0) / (F(1.0) + exp(-x))


@inline
def tanh(x):
    """tanh through the logistic function, but near 0, where that would cancel, by Cephes' polynomial (tanhf)."""
    z = x * x
    p = F(-5.70498872745e-3)
    p = p * z + F(2.06390887954e-2)
    p = p * z + F(-5.37397155531e-2)
    p = p * z + F(1.33314422036e-1)
    p = p * z + F(-3.33332819422e-1)
    near = p * z * x + x
    far = F(2.0) * sigmoid(F(2.0) * x) - F(1.0)
    return near if z < F(0.390625) else far


@inline
def relu(x):
    return x if not x <= F(0.0) else F(0.0)


@inline
def softplus(x):
    """max(x, 0) + log(1 + u), u = exp(-|x|); the logarithm as 2 artanh(u / (2 + u)), a series off by 2e-9."""
    u = exp(-np.fabs(x))
    s = u / (F(2.0) + u)
    z = s * s
    p = z * F(1.0 / 15.0) + F(1.0 / 13.0)
    p = p * z + F(1.0 / 11.0)
    p = p * z + F(1.0 / 9.0)
    p = p * z + F(1.0 / 7.0)
    p = p * z + F(1.0 / 5.0)
    p = p * z + F(1.0 / 3.0)
    return max(x, F(0.0)) + F(2.0) * (s * (z * p) + s)


@inline
def log(x):
    return np.log(x)


@inline
def sin(x):
    return np.sin(x)


@inline
def cos(x):
    return np.cos(x)


@inline
def abs(x):
    return np.fabs(x)


@inline
def maximum(a, b):
    return b if a < b or b != b else a


@inline
def minimum(a, b):
    return b if b < a or b != b else a


@inline
def where(condition, a, b):
    return a if condition else b


@inline
def fma(a, b, c):
    return a * b + c


@inline
def sigmoid_grad(dy, y):
    return dy * y * (F(1.0) - y)


@inline
def tanh_grad(dy, y):
    return dy * (F(1.0) - y * y)


@inline
def relu_grad(dy, y):
    return dy if not y <= F(0.0) else F(0.0)
