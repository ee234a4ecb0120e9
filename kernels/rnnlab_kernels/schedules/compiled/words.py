"""What compiled code needs beside arithmetic: integers by address, calls by address, functions that stay functions.

Programs (program.py), tables and scratch are memory by address: nothing is passed as an array, which would cost more on
its way in than a small layer takes.
"""

# mypy: disable-error-code="call-arg"
# The checker does not know that Numba passes the first argument of an intrinsic itself.

from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from rnnlab_kernels.cells.compiled import FASTMATH, inline, read_only

compiled = numba.njit(fastmath=FASTMATH, error_model="numpy")
_WORD = ir.IntType(64)


def _word(builder: Any, address: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, _WORD.as_pointer()), [index])


@intrinsic
def word(typing_context, address, index):
    """Return the int64 number `index` at an address."""

    def generate(context, builder, signature, arguments):
        return builder.load(_word(builder, *arguments))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def listed(typing_context, addresses, index):
    """Return the int64 number `index` of a list that nothing in this function stores into."""

    def generate(context, builder, signature, arguments):
        value = builder.load(_word(builder, *arguments))
        value.set_metadata("alias.scope", read_only(builder))
        return value

    return types.int64(types.int64, types.int64), generate


@inline
def at(words, scratch, k):
    """Return the address of the operand at word k of an instruction: a place and bytes beyond it, 0 for no place."""
    place = listed(words, k)
    return listed(scratch, place) + listed(words, k + 1) if place >= 0 else 0


@intrinsic
def set_word(typing_context, address, index, value):
    """Write the int64 number `index` at an address."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _word(builder, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def as_float(typing_context, bits):
    """Return the float32 whose bits are the low half of an int64."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), generate


@intrinsic
def flag(typing_context, address, index):
    """Return byte `index` at an address."""

    def generate(context, builder, signature, arguments):
        byte = builder.load(builder.gep(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), [arguments[1]]))
        return builder.zext(byte, _WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def take(typing_context, address):
    """Return the int64 at an address and add one to it, as one step for all threads."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, _WORD(1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def call(typing_context, address, words, scratch, rows):
    """Call the C function at an address."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def apart(typing_context):
    """Keep the function that says so a function of its own, with vectors as wide as the processor has.

    `compiled.load` promises that nothing the function stores is read by it: inlined into another, that would be said of
    all of that one. The compiler by itself takes half the width on processors whose clock once suffered from the whole.
    """

    def generate(context, builder, signature, arguments):
        attributes = builder.function.attributes
        attributes.add("noinline")
        for text in ('"min-legal-vector-width"="512"', '"prefer-vector-width"="512"'):
            set.add(attributes, text)  # llvmlite knows no attributes in quotes
        return context.get_dummy_value()

    return types.void(), generate
