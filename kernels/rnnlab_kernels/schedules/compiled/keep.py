"""Compiled functions by address, kept on disk from process to process.

What is kept is object code that needs nothing of Numba: a process that finds all of its functions never imports it,
which alone would take longer than everything else of a first call. So functions go by name, and a file's name says all
that its code was made of: the function's name, a cell by its gate maths and whatever that reaches, the sources of this
package, the versions of Python, Numba and llvmlite; the processor with its features. Where gate maths reach something
that has no such description, each process compiles them anew.

The folder is `rnnlab` among the user's caches, or among temporary files where there is no home to write to. Folders
and files of somebody else are not used, since what is in them is run, and neither are files that are not whole. What
cannot be read or written is done without.
"""

import hashlib
import logging
import os
import sys
import tempfile
import types
from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from itertools import count
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding

from rnnlab_kernels.cells.bind import Cell

VARIABLE = "RNNLAB_CACHE_DIR"  # the folder, for those who want another
_NUMBAS = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_OPT")  # variables that change code
_PACKAGE = "rnnlab_kernels"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_CHECKSUM = 32  # bytes before the code in a file
logger = logging.getLogger("rnnlab")
_alive: list[Any] = []
_numbers = count()


class _Unknown(Exception):
    """A function reaches something whose value cannot be written down."""


@cache
def address_of(name: str, *arguments: Any) -> int:
    """Return the address of a compiled function of int64 numbers: of one on disk, or compiled now and kept there.

    Args:
        name: "module.function" of this folder.
        arguments: if there are any, what is compiled is what that returns for them.
    """
    folder, file, symbol = cache_folder(), None, f"rnnlab_{next(_numbers)}"
    if folder is not None:
        with suppress(_Unknown):
            digest = digest_of(name, *arguments)
            file, symbol = folder / f"{name}-{digest}", f"rnnlab_{digest}"
    address = None if file is None else _load(file, symbol)
    if address is not None:
        return address
    from rnnlab_kernels.schedules.compiled.build import build

    module, _, attribute = name.partition(".")
    function = getattr(import_module(f"{__package__}.{module}"), attribute)
    library, code = build(function(*arguments) if arguments else function, symbol)
    _alive.append(library)
    with suppress(_Unknown):
        # They may have been edited by now, or be in the middle of it.
        if file is not None and code is not None and _read_sources() == _sources():
            _write(file, code)
    return int(library.get_pointer_to_function(symbol))


@cache
def _linker() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    _alive.append(binding.create_lljit_compiler(suppress_errors=True))
    return _alive[-1]


def _load(file: Path, symbol: str) -> int | None:
    """Return the address of a function on disk, None if it is not there or cannot be used."""
    try:
        with open(file, "rb") as opened:
            if not _is_own(os.fstat(opened.fileno())):
                return None
            content = opened.read()
        code = content[_CHECKSUM:]
        if content[:_CHECKSUM] != _checksum(file, code):
            return None
        linking = binding.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(symbol)
        library = linking.link(_linker(), f"{symbol}_{next(_numbers)}")
    except (OSError, RuntimeError, AttributeError):  # the last from llvmlite before it had such a linker
        return None
    _alive.append(library)
    return int(library[symbol])


def _write(file: Path, code: bytes) -> None:
    """Write a file that others see whole or not at all."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=file.parent)
        try:
            with open(handle, "wb") as new:
                new.write(_checksum(file, code) + code)
            os.replace(name, file)
        except OSError:
            os.unlink(name)


def _checksum(file: Path, code: bytes) -> bytes:
    return hashlib.sha256(file.name.encode() + code).digest()


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()


@cache
def cache_folder() -> Path | None:
    """Return the folder, made if it is not there, None if there is none to write to."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        choices = [Path(asked).expanduser()] if asked else []
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        user = os.getuid() if hasattr(os, "getuid") else "user"
        choices = [Path(home) / "rnnlab", Path(tempfile.gettempdir()) / f"rnnlab-{user}"]
    for folder in choices:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            if _is_own(folder.stat()):
                return folder
        except OSError:
            continue
    if asked != "":
        logger.warning("%s; what is compiled for the CPU is compiled anew in each process", unusable(asked))
    return None


def unusable(asked: str | None) -> str:
    """Return why nothing can be kept, in words, for what the variable says."""
    if asked is None:
        return "neither the user's caches nor temporary files can be written"
    return f"{VARIABLE}={asked} is no folder of yours that can be written"


def digest_of(*values: Any) -> str:
    """Return what code made of some values is on this machine, in 32 digits.

    Raises:
        _Unknown: they reach something that has no description.
    """
    content = (_machine(), _sources(), [_described(value, []) for value in values])
    return hashlib.sha256(repr(content).encode()).hexdigest()[:32]


@cache
def _machine() -> Any:
    """Return what this compiles with and for."""
    try:
        versions = sys.version, metadata.version("numba"), llvmlite.__version__
    except metadata.PackageNotFoundError as error:
        raise _Unknown("the version of Numba") from error
    processor = binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    return versions, processor, [os.environ.get(name) for name in _NUMBAS]


def _read_sources() -> str:
    """Return the digest of all of this package that compiled code may be made of.

    Raises:
        _Unknown: they are no files that could be read.
    """
    folder, digest = Path(__file__).parents[2], hashlib.sha256()
    for part in ("cells", "schedules/compiled"):
        try:
            contents = [file.name.encode() + file.read_bytes() for file in sorted((folder / part).glob("*.py"))]
        except OSError as error:  # one has gone since the folder was read
            raise _Unknown(part) from error
        if not contents:
            raise _Unknown(part)
        digest.update(b"".join(contents))
    return digest.hexdigest()


_sources = cache(_read_sources)


def _described(value: Any, within: list[Any]) -> Any:
    """Return a value as plain data: functions by their code and what it reaches, those of this package by what they
    hold, since their sources are known. `within` are the functions whose description this is part of."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, set, frozenset)):
        parts = [_described(part, within) for part in value]
        return type(value).__name__, parts if isinstance(value, tuple) else sorted(map(repr, parts))
    if isinstance(value, Cell):
        return "cell", [_described(part, within) for name, part in value.arguments().items() if name != "dropped"]
    if type(value).__module__.startswith("numba.") and hasattr(value, "py_func"):  # a compiled function
        options = tuple(sorted(value.targetoptions.items()))
        return "compiled", _described(value.py_func, within), _described(options, within)
    if isinstance(value, np.ndarray):
        raise _Unknown("an array")
    if isinstance(value, types.ModuleType):
        if value.__name__.split(".")[0] in ("math", "numpy", "numba"):
            return value.__name__
    elif isinstance(value, type) or type(value).__module__.split(".")[0] in ("numpy", "numba"):
        origin = value if isinstance(value, type) else type(value)
        if origin.__module__.split(".")[0] in ("builtins", "numpy", "numba"):
            definition = getattr(value, "_defn", None)  # of an intrinsic
            if definition is not None:
                return "intrinsic", _described(definition, within)
            return f"{origin.__module__}.{origin.__qualname__}", repr(value)
    elif isinstance(value, types.BuiltinFunctionType):
        return value.__module__, value.__qualname__
    elif isinstance(value, types.FunctionType):
        return _function(value, within)
    raise _Unknown(repr(value))


def _function(function: types.FunctionType, within: list[Any]) -> Any:
    if function in within:
        return within.index(function)
    within = [*within, function]
    held = [_described(cell.cell_contents, within) for cell in function.__closure__ or ()]
    held += [_described(value, within) for value in function.__defaults__ or ()]
    held += [_described(value, within) for value in sorted((function.__kwdefaults__ or {}).items())]
    reached = []
    if function.__globals__.get("__name__", "").split(".")[0] != _PACKAGE:
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                reached.append((name, _described(function.__globals__[name], within)))
    return function.__globals__.get("__name__"), function.__qualname__, _code(function.__code__), held, reached


def _code(code: types.CodeType) -> Any:
    constants = [_code(value) if isinstance(value, types.CodeType) else repr(value) for value in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, constants


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(value) for value in code.co_consts if isinstance(value, types.CodeType)]
    return {*code.co_names}.union(*inner)
