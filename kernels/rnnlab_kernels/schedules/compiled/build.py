"""Functions compiled by Numba to object code that needs nothing of Numba, to be run by another process without it."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from rnnlab_kernels.cells.compiled import FASTMATH


@global_compiler_lock
def build(function: Any, symbol: str) -> tuple[Any, bytes | None]:
    """Compile a function of int64 numbers that raises nothing.

    Returns:
        Numba's library with it as the C function `symbol`, and its object code, None if that holds addresses of this
        process.
    """
    flags, target = Flags(), cpu_target.target_context
    cpu_target.options.parse_as_flags(flags, {"nopython": True, "fastmath": FASTMATH, "error_model": "numpy"})
    # In place of Numba's own C function, which would hand errors to Python.
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    words = (types.int64,) * function.__code__.co_argcount
    found = compile_extra(cpu_target.typing_context, target, function, words, types.void, flags, {})
    library = found.library
    module = library.create_ir_module(symbol)
    kind = ir.FunctionType(ir.VoidType(), [target.get_value_type(word) for word in words])
    wrapper = ir.Function(module, kind, symbol)
    builder = ir.IRBuilder(wrapper.append_basic_block())
    native = target.declare_function(module, found.fndesc)
    target.call_conv.call_function(builder, native, types.void, words, wrapper.args)
    builder.ret_void()
    library.add_ir_module(module)
    library.enable_object_caching()
    library.finalize()
    library.get_pointer_to_function(symbol)  # there is object code from now on
    return library, None if library.has_dynamic_globals else library._get_compiled_object()
