"""Compiled functions by address, kept on disk from process to process.

Numba keeps what it compiles of functions that stand in files of their own; those here are put together from a cell's
gate maths, in memory. So this says itself what a function is: its code and whatever that reaches, the sources of this
package, the versions of Python, Numba and llvmlite; the processor and its features are Numba's own part of the key.
Where a function reaches something that has no such description, each process compiles it anew.

The folder is `rnnlab` among the user's caches, or among temporary files where there is no home to write to; of
somebody else it is not used, since what is in it is run. What cannot be read or written is done without.
"""

import hashlib
import os
import platform
import tempfile
import types
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.core.sigutils import normalize_signature

from rnnlab_kernels.cells.compiled import FASTMATH

VARIABLE = "RNNLAB_CACHE_DIR"  # the folder, for those who want another
_PACKAGE = "rnnlab_kernels"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_alive: list[Any] = []


class _Unknown(Exception):
    """A function reaches something whose value cannot be written down."""


@cache
def address_of(function: Any) -> int:
    """Return the address of a function of int64 numbers, compiled at its first use on this machine."""
    count = function.__code__.co_argcount
    options = {"nopython": True, "fastmath": FASTMATH, "error_model": "numpy"}
    found: Any = CFunc(function, normalize_signature(f"void({', '.join(['int64'] * count)})"), {}, options)
    folder = cache_folder()
    if folder is not None:
        try:
            found._cache = _Cache(function, folder, digest_of(function))
        except _Unknown:
            pass
    found.compile()
    _alive.append(found)
    return int(found.address)


@cache
def cache_folder() -> Path | None:
    """Return the folder, made if it is not there, None if there is none to write to."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        choices = [Path(asked)] if asked else []
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        user = os.getuid() if hasattr(os, "getuid") else "user"
        choices = [Path(home) / "rnnlab", Path(tempfile.gettempdir()) / f"rnnlab-{user}"]
    for folder in choices:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            if not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid():
                return folder
        except OSError:
            continue
    return None


def digest_of(function: types.FunctionType) -> str:
    """Return what a function is, in 32 digits.

    Raises:
        _Unknown: it reaches something that has no description.
    """
    versions = platform.python_version(), numba.__version__, llvmlite.__version__, sorted(FASTMATH)
    content = (versions, _sources(), _described(function, []))
    return hashlib.sha256(repr(content).encode()).hexdigest()[:32]


@cache
def _sources() -> str:
    """Return the digest of all of this package that compiled code may be made of."""
    folder, digest = Path(__file__).parents[2], hashlib.sha256()
    for part in ("cells", "schedules/compiled"):
        for file in sorted((folder / part).glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _described(value: Any, within: list[Any]) -> Any:
    """Return a value as plain data: functions by their code and what it reaches, those of this package by what they
    hold, since their sources are known. `within` are the functions whose description this is part of."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, frozenset)):
        parts = [_described(part, within) for part in value]
        return type(value).__name__, sorted(map(repr, parts)) if isinstance(value, frozenset) else parts
    if isinstance(value, Dispatcher):
        return "compiled", _described(value.py_func, within)
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


class _Locator(caching._CacheLocator):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_cache_path(self) -> str:
        return str(self.folder)

    def get_source_stamp(self) -> str:
        return ""  # the name of the file says it all

    def get_disambiguator(self) -> str:
        return ""


class _Files(caching.CompileResultCacheImpl):
    def __init__(self, folder: Path, name: str) -> None:
        self._locator, self._filename_base, self._lineno = _Locator(folder), name, 0


class _Cache(caching.FunctionCache):
    """Numba's own cache of compiled functions under a name of ours; what fails in it is as if it were empty."""

    def __init__(self, function: Any, folder: Path, digest: str) -> None:
        self._name, self._py_func, self._cache_path = repr(function), function, str(folder)
        self._impl = _Files(folder, f"{function.__name__}-{digest}")
        self._cache_file = caching.IndexDataCacheFile(str(folder), self._impl.filename_base, "")
        self.enable()

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(signature, target_context)
        except Exception:
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        for torn in (False, True):
            try:
                if torn:  # an index that cannot be read is begun anew
                    self.flush()
                return super().save_overload(signature, data)
            except Exception:
                continue

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return signature, codegen.magic_tuple()
