"""Vectors of the processor as values in compiled code, for rows that are not whole vectors.

A compiler makes vectors of a loop and leaves its rest, up to LANES - 1 elements, to scalars: of a row of 20 units a
fifth of the elements take four fifths of the time. Here the last vector of a row is read and written in part.
"""

# mypy: disable-error-code="call-arg"

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from rnnlab_kernels.schedules.compiled.terms import LANES

FLOAT, WORD, INT = ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR, FLAGS = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)
ZEROS = ir.Constant(VECTOR, None)
_FAST = ("nsz", "arcp", "contract", "afn", "reassoc")


class Vector(types.Type):
    """The type of LANES float32."""

    def __init__(self) -> None:
        super().__init__(f"Vector{LANES}")


vector = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def declared(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Return one of LLVM's own functions."""
    kind, found = ir.FunctionType(result, arguments), builder.module.globals.get(name)
    return ir.Function(builder.module, kind, name) if found is None else found


def all_lanes(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of a type whose lanes are all a value."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    lanes = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), lanes)


def first_lanes(builder: Any, count: Any) -> Any:
    """Return the flags of the first `count` lanes: none below 1, all from LANES on."""
    wide = ir.VectorType(INT, LANES)
    lanes = ir.Constant(wide, list(range(LANES)))
    return builder.icmp_signed("<", lanes, all_lanes(builder, builder.trunc(count, INT), wide))


def read_lanes(builder: Any, address: Any, flags: Any) -> Any:
    """Return what stands at an address in the lanes that are flagged, and 0 in the others."""
    pointer = VECTOR.as_pointer()
    function = declared(builder, f"llvm.masked.load.v{LANES}f32.p0", VECTOR, pointer, INT, FLAGS, VECTOR)
    return builder.call(function, [builder.inttoptr(address, pointer), INT(4), flags, ZEROS])


def write_lanes(builder: Any, value: Any, address: Any, flags: Any) -> None:
    """Write the lanes that are flagged."""
    pointer = VECTOR.as_pointer()
    function = declared(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), VECTOR, pointer, INT, FLAGS)
    builder.call(function, [value, builder.inttoptr(address, pointer), INT(4), flags])


@intrinsic
def read(typing_context, address, count):
    """Return `count` numbers at an address, at most LANES of them, 0 in the lanes beyond."""

    def generate(context, builder, signature, arguments):
        return read_lanes(builder, arguments[0], first_lanes(builder, arguments[1]))

    return vector(types.int64, types.int64), generate


@intrinsic
def write(typing_context, address, count, value):
    """Write the first `count` lanes of a vector, at most LANES of them."""

    def generate(context, builder, signature, arguments):
        write_lanes(builder, arguments[2], arguments[0], first_lanes(builder, arguments[1]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vector), generate


@intrinsic
def first(typing_context, value, count):
    """Return a vector with zeros in all lanes but the first `count`."""

    def generate(context, builder, signature, arguments):
        return builder.select(first_lanes(builder, arguments[1]), arguments[0], ZEROS)

    return vector(vector, types.int64), generate


@intrinsic
def spread(typing_context, value):
    """Return a vector of one number."""

    def generate(context, builder, signature, arguments):
        return all_lanes(builder, arguments[0], VECTOR)

    return vector(types.float32), generate


@intrinsic
def total(typing_context, value):
    """Return the sum of all lanes."""

    def generate(context, builder, signature, arguments):
        function = declared(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", FLOAT, FLOAT, VECTOR)
        return builder.call(function, [FLOAT(0.0), arguments[0]], fastmath=_FAST)

    return types.float32(vector), generate


def _operation(name: str) -> Any:
    @intrinsic
    def operation(typing_context, first, second):
        def generate(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments, flags=_FAST)

        return vector(vector, vector), generate

    return operation


plus, minus, times = _operation("fadd"), _operation("fsub"), _operation("fmul")
